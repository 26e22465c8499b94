"""session:current in Redis: a copy for older consumers; nothing here depends on it."""

import asyncio
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.redis import check_cancelled, make_client
from services.market_session import metrics

log = get_logger(__name__)

KEY: Final = "session:current"
TTL_SECONDS: Final = 60
# A Redis that was emptied has it again so soon.
RENEW_SECONDS: Final = 5.0


class RedisCopy:
    """Writes the newest JSON it was given, at once and every `renew_seconds`; tries again while Redis is away."""

    def __init__(self, url: str, renew_seconds: float = RENEW_SECONDS) -> None:
        self._url = url
        self._renew_seconds = renew_seconds
        self._json: str | None = None
        self._changed = asyncio.Event()
        self._is_away = False

    def put(self, session_json: str) -> None:
        self._json = session_json
        self._changed.set()

    async def run(self) -> None:
        """Writes until cancelled."""
        if not self._url:
            log.warning("expected TRADEUL_REDIS_URL to be set, was empty: session:current is not written")
            await asyncio.get_running_loop().create_future()
        async with make_client(self._url) as client:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._write(client)
                check_cancelled()
                try:
                    async with asyncio.timeout(self._renew_seconds):
                        await self._changed.wait()
                except TimeoutError:
                    self._changed.set()

    async def _write(self, client: Redis) -> None:
        try:
            await client.set(KEY, self._json or "", ex=TTL_SECONDS)
        except (RedisError, OSError) as error:
            metrics.REDIS_FAILURES.inc()
            if not self._is_away:
                log.warning("session:current is not written", error=reason_of(error))
            self._is_away = True
        else:
            if self._is_away:
                log.info("session:current is written again")
            self._is_away = False
