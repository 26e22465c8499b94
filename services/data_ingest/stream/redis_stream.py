"""The tail of the sequenced stream in a Redis stream, for consumers that read there."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.data_ingest.store_health import StoreState
from services.kit.rpc.ring import Position, Ring
from services.kit.runtime.logging import get_logger
from services.kit.stores.redis import check_cancelled

log = get_logger(__name__)

KEY: Final = "stream:sequencer:journal"
# How often frames are handed over, and how many bytes of them are one entry at most, but for one large frame.
PERIOD_SECONDS: Final = 0.1
ENTRY_BYTES: Final = 1024 * 1024
# What is kept: some seconds of the heaviest load, a minute and more of a usual one.
KEPT_ENTRIES: Final = 1000
KEPT_BYTES: Final = 8 * 1024 * 1024
AWAY_SECONDS: Final = 1.0


class JournalStream:
    """Entries `{epoch}-{sequence}` of the frames since the entry before; the payload is an encoded JournalEntry.

    The stream does not wait for Redis: when that was away, entries continue where the newest
    one is, or later, where the ring no longer reaches back or what is kept does not.

    Args:
        redis: one that does not decode what it reads.
        ring: gives the ring of the epoch in force.
        newest: gives the sequence of the last of its messages that may be shown.
        state: is told how each write went.
    """

    def __init__(
        self,
        redis: Redis,
        ring: Callable[[], Ring],
        newest: Callable[[Ring], int] = lambda ring: ring.newest,
        state: StoreState | None = None,
    ) -> None:
        # Its types leave no room for a mix of texts, numbers and bytes.
        self._redis: Any = redis
        self._ring_in_force = ring
        self._newest = newest
        self._ring = ring()
        # The newest frame that is in Redis; None when Redis is to be read for it.
        self._sent: int | None = None
        # Of our entries that are kept: id and bytes.
        self._kept: deque[tuple[str, int]] = deque()
        self._kept_bytes = 0
        self._is_full = False
        self._state = state or StoreState("Redis")

    async def run(self) -> None:
        """Hands the frames over until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            check_cancelled()
            if (ring := self._ring_in_force()) is not self._ring:
                self._ring, self._sent = ring, None
            try:
                if self._sent is None:
                    self._sent = await self._newest_sent()
                if self._sent < self._newest(self._ring):
                    await self._send(self._sent)
            except (RedisError, OSError) as error:
                self._sent = None
                self._state.failed(error)
                await asyncio.sleep(AWAY_SECONDS)
            else:
                self._state.answered()

    async def _newest_sent(self) -> int:
        """The frame after which entries continue."""
        ring = self._ring
        newest = await self._redis.xrevrange(KEY, count=1)
        found = Position(*map(int, newest[0][0].split(b"-"))) if newest else Position(0, 0)
        if found > ring.position:
            log.warning("journal in redis is of a later stream, and begins again", found=str(found))
            await self._redis.delete(KEY)
        first = ring.oldest
        if found.epoch == ring.epoch and found <= ring.position:
            first = max(first, found.sequence + 1)
        while first < ring.newest and ring.span_bytes(first, ring.newest) > KEPT_BYTES:
            first += 1
        return first - 1

    async def _send(self, after: int) -> None:
        async with self._redis.pipeline(transaction=False) as pipeline:
            for first, last, payload in self._entries(after):
                entry = f"{self._ring.epoch}-{last}"
                fields = {"type": "frames", "epoch": self._ring.epoch, "first": first, "sequence": last}
                pipeline.xadd(KEY, {**fields, "payload": payload}, id=entry, maxlen=KEPT_ENTRIES, approximate=True)
                self._keep(entry, len(payload))
                self._sent = last
            if self._is_full:
                # Older ones make room, those of processes before, too.
                pipeline.xtrim(KEY, minid=self._kept[0][0], approximate=False)
            await pipeline.execute()

    def _entries(self, after: int) -> Iterator[tuple[int, int, bytes]]:
        """The first and the last frame and the payload of each entry that is due."""
        ring = self._ring
        first, newest = max(after + 1, ring.oldest), self._newest(ring)
        while first <= newest:
            last = first
            while last < newest and ring.span_bytes(first, last + 1) <= ENTRY_BYTES:
                last += 1
            yield first, last, b"".join(ring.get(sequence) for sequence in range(first, last + 1))
            first = last + 1

    def _keep(self, entry: str, size: int) -> None:
        self._kept.append((entry, size))
        self._kept_bytes += size
        while len(self._kept) > 1 and self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= self._kept.popleft()[1]
            self._is_full = True
