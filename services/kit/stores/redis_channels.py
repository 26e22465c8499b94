"""Pub/sub for consumers of the older system: nothing is built or sent without subscribers."""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.redis import check_cancelled

log = get_logger(__name__)

POLL_SECONDS: Final = 1.0
# Of all channels of a service; beyond it the oldest messages are dropped.
MAX_WAITING_BYTES: Final = 16 * 1024 * 1024

PUBLISHED: Final = Counter("tradeul_channel_messages", "Messages published to Redis.", ["channel"])
DROPPED: Final = Counter("tradeul_channel_messages_dropped", "Messages that Redis did not accept in time.", ["channel"])
FAILURES: Final = Counter("tradeul_channel_failures", "Redis commands that failed.")


class RedisChannels:
    """The channels that one service publishes. `run()` until cancelled; the rest never waits."""

    def __init__(self, redis: Redis, channels: Sequence[str], poll_seconds: float = POLL_SECONDS) -> None:
        self._redis = redis
        self._channels = tuple(channels)
        self._poll_seconds = poll_seconds
        self._wanted: frozenset[str] = frozenset()
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._waiting_bytes = 0
        self._woken = asyncio.Event()
        self._is_away = False

    def is_wanted(self, channel: str) -> bool:
        """True if there were subscribers at the last poll, a second ago at most."""
        return channel in self._wanted

    def publish(self, channel: str, message: bytes) -> None:
        """Queues a message; one without subscribers is dropped."""
        if channel not in self._wanted:
            return
        self._waiting.append((channel, message))
        self._waiting_bytes += len(message)
        while self._waiting_bytes > MAX_WAITING_BYTES:
            dropped, oldest = self._waiting.popleft()
            self._waiting_bytes -= len(oldest)
            DROPPED.labels(dropped).inc()
        self._woken.set()

    async def run(self) -> None:
        """Polls for subscribers, and sends."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._poll(), name="redis_channels.poll")
            tasks.create_task(self._send(), name="redis_channels.send")

    async def _poll(self) -> None:
        while True:
            check_cancelled()
            try:
                self._wanted = await self._subscribed()
                self._is_away = False
            except (RedisError, OSError) as error:
                # A server that is away has no subscribers.
                self._wanted = frozenset()
                self._failed(error)
            await asyncio.sleep(self._poll_seconds)

    async def _subscribed(self) -> frozenset[str]:
        async with self._redis.pipeline(transaction=False) as pipeline:
            pipeline.pubsub_numsub(*self._channels)
            pipeline.pubsub_numpat()
            counts, patterns = await pipeline.execute()
        if patterns:
            # Redis does not say which channels they match: all may.
            return frozenset(self._channels)
        return frozenset(_text(channel) for channel, count in counts if count)

    async def _send(self) -> None:
        while True:
            check_cancelled()
            await self._woken.wait()
            self._woken.clear()
            messages, self._waiting, self._waiting_bytes = self._waiting, deque(), 0
            try:
                async with self._redis.pipeline(transaction=False) as pipeline:
                    for channel, message in messages:
                        pipeline.publish(channel, message)
                    await pipeline.execute()
            except (RedisError, OSError) as error:
                self._failed(error)
                for channel, _ in messages:
                    DROPPED.labels(channel).inc()
            else:
                for channel, _ in messages:
                    PUBLISHED.labels(channel).inc()

    def _failed(self, error: Exception) -> None:
        FAILURES.inc()
        if not self._is_away:
            log.warning("redis is away: channels are silent", error=reason_of(error))
        self._is_away = True


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
