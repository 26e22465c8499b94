"""Notices that Redis was emptied or started again: what only the timetable's tasks write there is written at once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.redis import check_cancelled, contents_id, note_market

log = get_logger(__name__)

LOOK_SECONDS: Final = 1.0


class RedisWatch:
    """Calls `sync` when Redis holds other contents than before.

    Args:
        market: what market:source is set to when it is gone: the market was checked when the mesh started.
    """

    def __init__(self, redis: Redis, market: str, sync: Callable[[], Awaitable[None]]) -> None:
        self._redis = redis
        self._market = market
        self._sync = sync
        # None until Redis has answered once.
        self._contents: str | None = None
        self._is_away = False

    async def run(self) -> None:
        """Looks once a second until cancelled."""
        while True:
            check_cancelled()
            try:
                await self._look()
            except (RedisError, OSError) as error:
                if not self._is_away:
                    log.warning("redis is away: it is synced when it is back", error=reason_of(error))
                self._is_away = True
            else:
                self._is_away = False
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        """Raises RedisError, OSError."""
        contents = await contents_id(self._redis)
        if contents == self._contents:
            return
        await note_market(self._redis, self._market)
        if self._contents is not None:
            log.warning("redis was emptied or started again: it is synced now")
            await self._sync()
        self._contents = contents
