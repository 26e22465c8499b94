"""rvol, intraday and slot keys in Redis: a copy for consumers, which nothing here depends on."""

import asyncio
from typing import Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.analytics import metrics
from services.analytics.core import AnalyticsCore
from services.analytics.redis_values import INTRADAY_FIELDS, PATTERNS, RVOL_FIELDS, Batch, RedisValues
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.redis import BulkWriter, check_cancelled, server_start

log = get_logger(__name__)

WRITE_EVERY_SECONDS: Final = 1.0
# Which trading day the keys are of.
DAY_KEY: Final = "analytics:trading_date"
# Keys looked at by one SCAN: a millisecond or so of the server's.
KEYS_AT_ONCE: Final = 5_000


class RedisMirror:
    """Writes the symbols that have changed, at most once a second each; all of them when Redis comes back.

    Before the first key of a trading day all those of another are taken out: how long
    a key lives Redis counts by the wall clock, and the market may have its own.
    """

    def __init__(self, redis: Redis, core: AnalyticsCore, write_every: float = WRITE_EVERY_SECONDS) -> None:
        self.values = RedisValues(core)
        self._redis = redis
        self._writer = BulkWriter(redis)
        self._write_every = write_every
        # Which start of the server has all keys; None while it is away.
        self._server: str | None = ""
        # The day that the keys in Redis are of, as far as this process knows.
        self._date = ""

    async def run(self) -> None:
        """Writes until cancelled."""
        while True:
            check_cancelled()
            began = monotonic()
            try:
                await self._tick()
            except (RedisError, OSError) as error:
                metrics.REDIS_FAILURES.inc()
                if self._server is not None:
                    log.warning("redis is away: keys are written later", error=reason_of(error))
                self._server = None
            metrics.REDIS_PENDING.set(self.values.pending)
            await asyncio.sleep(max(self._write_every / 2, self._write_every - (monotonic() - began)))

    async def _tick(self) -> None:
        """Writes what is due. Raises RedisError, OSError."""
        server = await server_start(self._redis)
        if server != self._server:
            # It may have come back without what it had.
            self.values.everything()
            self._date = ""
        self.values.note()
        # Also a day without any trade so far has none of yesterday's keys.
        await self._enter(self.values.date)
        while (batch := self.values.take()) is not None:
            try:
                await self._enter(batch.date)
                await self._write(batch)
            except BaseException:
                self.values.give_back(batch)
                raise
            check_cancelled()
            # The frames' turn.
            await asyncio.sleep(0)
        if self._server is None:
            log.info("redis is back: all keys were written again")
        self._server = server

    async def _enter(self, date: str) -> None:
        """Takes out what is there of another trading day. Raises RedisError, OSError."""
        if not date or date == self._date:
            return
        if await self._redis.get(DAY_KEY) != date:
            removed = 0
            for pattern in PATTERNS:
                removed += await self._remove(pattern)
            await self._redis.set(DAY_KEY, date)
            log.info("keys of another trading day are gone", removed=removed, trading_date=date)
        self._date = date

    async def _remove(self, pattern: str) -> int:
        removed = cursor = 0
        while True:
            cursor, keys = await self._redis.scan(cursor, match=pattern, count=KEYS_AT_ONCE)
            if keys:
                removed += await self._redis.unlink(*keys)
            check_cancelled()
            if cursor == 0:
                return removed

    async def _write(self, batch: Batch) -> None:
        writer, seconds = self._writer, batch.ttl_seconds
        await writer.hashes(batch.rvol.keys, RVOL_FIELDS, batch.rvol.values, seconds)
        await writer.hashes(batch.intraday.keys, INTRADAY_FIELDS, batch.intraday.values, seconds)
        await writer.strings(batch.volumes.keys, batch.volumes.values, seconds)
        metrics.REDIS_KEYS.labels("rvol").inc(len(batch.rvol.keys))
        metrics.REDIS_KEYS.labels("intraday").inc(len(batch.intraday.keys))
        metrics.REDIS_KEYS.labels("slot").inc(len(batch.volumes.keys))
