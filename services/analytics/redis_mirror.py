"""rvol, intraday and slot keys and the channel of bars in Redis, for consumers; nothing here depends on them."""

import asyncio
import math
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError
from tradeul.v1 import frame_pb2, market_data_pb2

from services.analytics import metrics
from services.analytics.core import AnalyticsCore
from services.analytics.redis_values import INTRADAY_FIELDS, PATTERNS, RVOL_FIELDS, Batch, RedisValues
from services.kit.rpc.frames import Frame
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.redis import BulkWriter, check_cancelled, contents_id
from services.kit.stores.redis_channels import RedisChannels

log = get_logger(__name__)

WRITE_EVERY_SECONDS: Final = 1.0
# What is due is written over this share of the time, in even parts: at once, a second's keys would take two processors
# for a tenth of that, ours and Redis', while trades wait for theirs.
SPREAD: Final = 0.75
# The trading day of the keys.
DAY_KEY: Final = "analytics:trading_date"
# Keys looked at by one SCAN: a millisecond or so of the server's.
KEYS_AT_ONCE: Final = 5_000
AGGREGATES_CHANNEL: Final = "analytics:aggregates"
BARS: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["bars"].number
NS_PER_MILLISECOND: Final = 1_000_000
_SPANS: Final = {market_data_pb2.SECOND: "A", market_data_pb2.MINUTE: "AM"}

# The vendor's name of each column of a BarBatch.
_COLUMNS: Final = {
    "o": "open",
    "h": "high",
    "l": "low",
    "c": "close",
    "v": "volume",
    "av": "accumulated_volume",
    "op": "official_open",
    "vw": "vwap",
    "a": "day_vwap",
}


class RedisMirror:
    """Writes the symbols that have changed, at most once a second each; all of them when Redis comes back.

    Before the first key of a trading day all those of another are removed: Redis counts
    a key's life by the wall clock, and the market may have a clock of its own.
    """

    def __init__(self, redis: Redis, core: AnalyticsCore, write_every: float = WRITE_EVERY_SECONDS) -> None:
        self.values = RedisValues(core)
        self._redis = redis
        self._writer = BulkWriter(redis)
        self._write_every = write_every
        # Of the contents that have all keys; None while Redis is away.
        self._contents: str | None = ""
        # The trading day of the keys in Redis, as far as this process knows.
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
                if self._contents is not None:
                    log.warning("redis is away: keys are written later", error=reason_of(error))
                self._contents = None
            metrics.REDIS_PENDING.set(self.values.pending)
            left = self._write_every - (monotonic() - began)
            # Redis that is slow or away has a pause all the same.
            await asyncio.sleep(left if left > 0 else self._write_every / 2)

    async def _tick(self) -> None:
        """Writes what is due. Raises RedisError, OSError."""
        contents = await contents_id(self._redis)
        if contents != self._contents:
            # Started again, perhaps without what it had, or emptied.
            self.values.everything()
            self._date = ""
        self.values.note()
        # Yesterday's keys go also on a day without any trade so far.
        await self._enter(self.values.date)
        step = SPREAD * self._write_every / max(1, self.values.batches)
        next_at = monotonic()
        while (batch := self.values.take()) is not None:
            try:
                await self._enter(batch.date)
                await self._write(batch)
            except BaseException:
                self.values.give_back(batch)
                raise
            check_cancelled()
            next_at += step
            # The frames' turn; what is left of slots that are over, after their last symbols, is written at once.
            await asyncio.sleep(max(0.0, next_at - monotonic()) if self.values.pending else 0)
        if self._contents is None:
            log.info("redis is back: all keys were written again")
        self._contents = contents

    async def _enter(self, date: str) -> None:
        """Removes the keys of another trading day. Raises RedisError, OSError."""
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


class AggregatesChannel:
    """Publishes, while AGGREGATES_CHANNEL has subscribers, the newest bar of each symbol and span, as a JSON array."""

    def __init__(self, channels: RedisChannels) -> None:
        self.channels = channels
        self._bars: dict[tuple[str, str], dict[str, object]] = {}

    def apply(self, core: AnalyticsCore, frame: Frame) -> None:
        """Takes the bars of a frame that the core has applied."""
        if frame.kind != BARS or not self.channels.is_wanted(AGGREGATES_CHANNEL):
            return
        batch = market_data_pb2.BarBatch.FromString(bytes(frame.body))
        kind = _SPANS.get(batch.span, "A")
        symbols = core.symbols
        for i, symbol_id in enumerate(batch.symbol_id):
            symbol = symbols[symbol_id]
            bar: dict[str, object] = {"ev": kind, "sym": symbol, "symbol": symbol}
            for name, column in _COLUMNS.items():
                value = getattr(batch, column)[i]
                if not math.isnan(value):
                    bar[name] = value
            bar["s"] = batch.start_ns[i] // NS_PER_MILLISECOND
            bar["e"] = batch.end_ns[i] // NS_PER_MILLISECOND
            self._bars[symbol, kind] = bar

    def publish(self) -> None:
        """Publishes the bars since the last call."""
        bars, self._bars = list(self._bars.values()), {}
        if bars:
            self.channels.publish(AGGREGATES_CHANNEL, msgspec.json.encode(bars))
