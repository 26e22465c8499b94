"""sync_redis: metadata, ATR and volume slots from PostgreSQL into Redis, of the symbols that changed.

Beside each kind of key Redis keeps a hash of marks: what of a symbol was written
and when. A symbol is written when its mark is not what PostgreSQL has now, and
again before its keys expire; a Redis that lost everything has no marks either.
Values are in today's shares: a symbol that splits today is rewritten.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

import asyncpg
import msgspec
from google.protobuf import json_format
from redis.asyncio import Redis
from redis.exceptions import RedisError

from fastcore.measures import shown
from services.data_maintenance.context import Job, TaskError
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.redis import BulkWriter
from services.kit.vendor.client import VendorClient, VendorError
from services.market.companies import METADATA_COLUMNS, metadata_key, metadata_message
from services.market.daily_bars import ATR_DAYS
from services.market.splits import SplitTable
from services.market.volume_slots import BASELINE_DAYS, SLOTS

log = get_logger(__name__)

# Longer than the market is ever closed, and written again well before.
TTL_SECONDS: Final = 7 * 86_400
AGAIN_AFTER: Final = timedelta(days=3)
MARKS: Final = "maintenance:synced:{kind}"
METADATA_SYMBOLS: Final = 500
ATR_SYMBOLS: Final = 2000
SLOT_SYMBOLS: Final = 100
# Splits are fetched for so many days before today: older values are not used.
SPLIT_DAYS: Final = timedelta(days=45)
SPLITS_SECONDS: Final = 3600.0

_METADATA: Final = f"""
    SELECT symbol, {", ".join(METADATA_COLUMNS)}, details, updated_at FROM ticker_metadata
    WHERE symbol = ANY($1::text[])
"""
_ATR: Final = """
    SELECT DISTINCT ON (symbol) symbol, date, atr, atr_percent FROM ticker_atr
    WHERE period = $1 AND date > $2 AND date <= $3 ORDER BY symbol, date DESC
"""
_SLOTS: Final = """
    SELECT symbol, slot_number, avg_volume FROM volume_slots WHERE symbol = ANY($1::text[]) ORDER BY symbol, slot_number
"""


def atr_key(symbol: str) -> str:
    return f"ticker:atr:{symbol}"


def slot_key(symbol: str, slot: int) -> str:
    return f"volume_slot:{symbol}:{slot}"


class Marks:
    """The marks of one kind in Redis: by symbol the version of its value, and the day on which it was written."""

    def __init__(self, redis: Redis, kind: str, today: date) -> None:
        self._redis = redis
        self._key = MARKS.format(kind=kind)
        self._today = today
        self._marks: dict[str, str] = {}

    async def changed(self, versions: Mapping[str, str]) -> list[str]:
        """The symbols to write, by name."""
        self._marks = dict[Any, Any](await self._redis.hgetall(self._key))
        fresh = {f" {self._today - timedelta(days=days)}" for days in range(AGAIN_AFTER.days)}
        return sorted(
            symbol
            for symbol, version in versions.items()
            if not ((mark := self._marks.get(symbol, "")).startswith(version) and mark[len(version) :] in fresh)
        )

    async def written(self, versions: Mapping[str, str]) -> None:
        await self._redis.hset(
            self._key, mapping={symbol: f"{version} {self._today}" for symbol, version in versions.items()}
        )

    async def forget(self, known: Mapping[str, str]) -> list[str]:
        """Takes out the marks of symbols that PostgreSQL has no more, and returns these."""
        gone = sorted(self._marks.keys() - known.keys())
        if gone:
            await self._redis.hdel(self._key, *gone)
        return gone


class SyncRedis:
    """The task."""

    def __init__(self, pool: asyncpg.Pool, redis: Redis, vendor: VendorClient) -> None:
        self._pool = pool
        self._redis = redis
        self._vendor = vendor
        self._writer = BulkWriter(redis)
        self._splits: tuple[date, SplitTable] | None = None
        self._splits_until = 0.0

    async def __call__(self, job: Job) -> None:
        # A run is about a day of the mesh, which need not be the wall clock's.
        today = job.trading_date
        try:
            await self._sync_metadata(job, today)
            splits = await self._splits_of(job, today)
            if splits is not None:
                await self._sync_atr(job, today, splits)
                await self._sync_slots(job, today, splits)
        except (RedisError, OSError) as error:
            raise TaskError(f"Redis: {reason_of(error)}") from error

    async def _splits_of(self, job: Job, today: date) -> SplitTable | None:
        """The splits, fetched once an hour; None while they cannot be fetched: then no adjusted value is written."""
        if self._splits is not None and self._splits[0] == today and monotonic() < self._splits_until:
            return self._splits[1]
        set_aside: Counter[str] = Counter()
        try:
            splits = await self._vendor.splits(today - SPLIT_DAYS, today)
        except VendorError as error:
            job.progress.count("splits_not_had")
            log.warning("splits not fetched: ATR and volume slots are written later", error=reason_of(error))
            return None
        table = SplitTable(splits, today, set_aside)
        self._splits, self._splits_until = (today, table), monotonic() + SPLITS_SECONDS
        return table

    async def _sync_metadata(self, job: Job, today: date) -> None:
        # A row's xmin changes with every change, whoever makes it.
        rows = await self._pool.fetch("SELECT symbol, xmin::text AS version FROM ticker_metadata")
        versions = {row["symbol"]: row["version"] for row in rows}
        marks = Marks(self._redis, "metadata", today)
        symbols = await marks.changed(versions)
        job.progress.step, job.progress.done, job.progress.total = "metadata", 0, len(symbols)
        for part in _parts(symbols, METADATA_SYMBOLS):
            keys, texts = [], []
            for record in await self._pool.fetch(_METADATA, part):
                try:
                    message, _ = metadata_message(record)
                    text = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None)
                except (ValueError, TypeError) as error:
                    job.progress.fail(record["symbol"], f"metadata: {reason_of(error)}")
                    continue
                keys.append(metadata_key(record["symbol"]))
                texts.append(text)
                if len(texts) % 50 == 0:
                    await asyncio.sleep(0)
            await self._write(job, "metadata", keys, texts)
            await marks.written({symbol: versions[symbol] for symbol in part})
            job.progress.done += len(part)
        if gone := await marks.forget(versions):
            await self._redis.unlink(*(metadata_key(symbol) for symbol in gone))

    async def _sync_atr(self, job: Job, today: date, splits: SplitTable) -> None:
        rows = await self._pool.fetch(_ATR, ATR_DAYS, today - SPLIT_DAYS, today)
        values = {}
        for row in rows:
            value = row["atr"] / splits.factor(row["symbol"], row["date"])
            values[row["symbol"]] = msgspec.json.encode(
                {"atr": shown(value), "atr_percent": row["atr_percent"], "period": ATR_DAYS, "date": row["date"]}
            ).decode()
        # The value is its own version.
        marks = Marks(self._redis, "atr", today)
        symbols = await marks.changed(values)
        job.progress.step, job.progress.done, job.progress.total = "ATR", 0, len(symbols)
        for part in _parts(symbols, ATR_SYMBOLS):
            await self._write(job, "atr", [atr_key(symbol) for symbol in part], [values[symbol] for symbol in part])
            await marks.written({symbol: values[symbol] for symbol in part})
            job.progress.done += len(part)
        if gone := await marks.forget(values):
            await self._redis.unlink(*(atr_key(symbol) for symbol in gone))

    async def _sync_slots(self, job: Job, today: date, splits: SplitTable) -> None:
        rows = await self._pool.fetch(
            "SELECT symbol, data_date, days FROM volume_slots WHERE slot_number = $1", SLOTS - 1
        )
        factors = {row["symbol"]: splits.factor(row["symbol"], row["data_date"]) for row in rows}
        versions = {
            row["symbol"]: f"{row['data_date']}/{row['days']}/{factors[row['symbol']]:g}"
            for row in rows
            if row["data_date"] > today - SPLIT_DAYS and row["days"] <= BASELINE_DAYS
        }
        marks = Marks(self._redis, "volume_slots", today)
        symbols = await marks.changed(versions)
        job.progress.step, job.progress.done, job.progress.total = "volume slots", 0, len(symbols)
        for part in _parts(symbols, SLOT_SYMBOLS):
            keys, texts = [], []
            for record in await self._pool.fetch(_SLOTS, part):
                keys.append(slot_key(record["symbol"], record["slot_number"]))
                texts.append(f"{record['avg_volume'] * factors[record['symbol']]:.10g}")
            await self._write(job, "volume_slots", keys, texts)
            await marks.written({symbol: versions[symbol] for symbol in part})
            job.progress.done += len(part)
        for part in _parts(await marks.forget(versions), SLOT_SYMBOLS):
            await self._redis.unlink(*(slot_key(symbol, slot) for symbol in part for slot in range(SLOTS)))

    async def _write(self, job: Job, what: str, keys: Sequence[str], texts: Sequence[str]) -> None:
        await self._writer.strings(keys, texts, TTL_SECONDS)
        job.progress.count(what, len(keys))


def _parts(symbols: Sequence[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(symbols), size):
        yield list(symbols[start : start + size])
