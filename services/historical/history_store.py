"""The tables that loads write, each unit in one transaction with its checkpoint. They wait for the database."""

import asyncio
import datetime
import functools
import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

import asyncpg
import numpy as np

from services.historical.core import Kind
from services.historical.slots import SymbolSlots
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS
from services.kit.stores.slot_days import days_with_slots, slot_rows
from services.market.slot_days import SlotRow
from services.market.volume_slots import SLOTS, SymbolBaseline

log = get_logger(__name__)

# Longer than a restart takes, also one that has much to recover.
WAIT_SECONDS: Final = 120.0
# The database is not there, or is busy with another's lock: the same may work later.
PASSING: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)


class DatabaseAwayError(Exception):
    """The database stayed away for longer than a load waits; loaded units stay."""


class Patient:
    """A store whose `patiently` methods wait. `when_back` is awaited before one of them is tried again."""

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self.wait_seconds = wait_seconds
        self.when_back: Callable[[], Awaitable[None]] = _nothing


async def _nothing() -> None:
    return


StoreT = TypeVar("StoreT", bound=Patient)
P = ParamSpec("P")
R = TypeVar("R")


def patiently(
    method: Callable[Concatenate[StoreT, P], Awaitable[R]],
) -> Callable[Concatenate[StoreT, P], Awaitable[R]]:
    """A method that can be repeated. It raises DatabaseAwayError after `wait_seconds`, errors of its own at once."""

    @functools.wraps(method)
    async def repeated(self: StoreT, /, *args: P.args, **kwargs: P.kwargs) -> R:
        since, backoff = 0.0, Backoff()
        while True:
            try:
                if since:
                    await self.when_back()
                return await method(self, *args, **kwargs)
            except DATABASE_ERRORS as error:
                if not isinstance(error, PASSING):
                    raise
                if not since:
                    since = monotonic()
                    log.warning("the database is away: the load waits", reason=reason_of(error))
                elif monotonic() - since > self.wait_seconds:
                    raise DatabaseAwayError(
                        f"the database was away for {self.wait_seconds:g} s: {reason_of(error)}"
                    ) from error
            await asyncio.sleep(backoff.next())

    return repeated


log = get_logger(__name__)

OHLC_COLUMNS: Final = ("date", "symbol", "open", "high", "low", "close", "volume", "vwap", "trades")
METADATA_COLUMNS: Final = (
    *("company_name", "exchange", "sector", "industry", "market_cap", "float_shares", "shares_outstanding"),
    *("beta", "is_etf", "is_actively_trading", "security_type", "list_date"),
)
_OHLC_VALUES: Final = OHLC_COLUMNS[2:]
_MERGE_OHLC: Final = f"""
    INSERT INTO daily_ohlc AS stored ({", ".join(OHLC_COLUMNS)}) SELECT {", ".join(OHLC_COLUMNS)} FROM incoming_ohlc
    ON CONFLICT (date, symbol) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low,
        close = excluded.close, volume = excluded.volume, vwap = coalesce(excluded.vwap, stored.vwap),
        trades = coalesce(excluded.trades, stored.trades)
"""
_MERGE_METADATA: Final = f"""
    INSERT INTO ticker_metadata AS stored (symbol, {", ".join(METADATA_COLUMNS)}, details)
    VALUES ({", ".join(f"${i}" for i in range(1, len(METADATA_COLUMNS) + 3))})
    ON CONFLICT (symbol) DO UPDATE SET
        {", ".join(f"{name} = coalesce(excluded.{name}, stored.{name})" for name in METADATA_COLUMNS)},
        details = stored.details || excluded.details, updated_at = now()
"""
# Whoever writes ticker_metadata keeps its history, in the same transaction.
KEEP_HISTORY: Final = "SELECT keep_metadata_history($1, $2::text[])"
_MARK: Final = """
    INSERT INTO load_units (kind, unit, source, fingerprint, rows, set_aside)
    VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (kind, unit) DO UPDATE SET source = excluded.source, fingerprint = excluded.fingerprint,
        rows = excluded.rows, set_aside = excluded.set_aside, loaded_at = now()
"""
# A compressed chunk of TimescaleDB must not stop a load at its limit.
_NO_LIMIT: Final = "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0"
# Seconds that a whole table may take.
_LONG: Final = 900.0
_COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_COPY_TRAILER: Final = b"\xff\xff"
_POSTGRES_EPOCH: Final = datetime.date(2000, 1, 1)


class Unit(NamedTuple):
    """One day or symbol, loaded."""

    kind: Kind
    unit: str
    source: str
    fingerprint: str
    rows: int
    set_aside: int


class HistoryStore(Patient):
    """Reads and writes over a pool, waiting for a database that is away; raises DatabaseAwayError, asyncpg's errors."""

    def __init__(self, pool: asyncpg.Pool, wait_seconds: float = WAIT_SECONDS) -> None:
        super().__init__(wait_seconds)
        self.pool = pool

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[asyncpg.Connection]:
        async with self.pool.acquire() as connection, connection.transaction():
            yield connection

    @patiently
    async def fingerprints(self, kind: Kind) -> dict[str, str]:
        """The fingerprints of the loaded units, by unit."""
        rows = await self.pool.fetch("SELECT unit, fingerprint FROM load_units WHERE kind = $1", kind)
        return {row["unit"]: row["fingerprint"] for row in rows}

    @patiently
    async def write_slots(self, rows: Sequence[tuple[datetime.date, SymbolSlots]], units: Sequence[Unit]) -> None:
        """Replaces the days of `rows`; a whole day is replaced when its unit is one."""
        async with self._transaction() as connection:
            for unit in units:
                if unit.unit[:1].isdigit():
                    await connection.execute(
                        "DELETE FROM slot_days WHERE date = $1", datetime.date.fromisoformat(unit.unit)
                    )
            await connection.execute("CREATE TEMP TABLE incoming_slots (LIKE slot_days) ON COMMIT DROP")
            await connection.copy_records_to_table("incoming_slots", records=((day, *row) for day, row in rows))
            await connection.execute(
                "INSERT INTO slot_days SELECT * FROM incoming_slots ON CONFLICT (date, symbol) DO UPDATE"
                " SET slots = excluded.slots, volume = excluded.volume, trades = excluded.trades"
            )
            await _mark(connection, units)

    @patiently
    async def write_ohlc(self, rows: Sequence[tuple[Any, ...]], unit: Unit) -> None:
        """A day's bars, in the order of OHLC_COLUMNS. Bars of the day that are not among them stay."""
        day = datetime.datetime.combine(datetime.date.fromisoformat(unit.unit), datetime.time(), datetime.UTC)
        span = (day, day + datetime.timedelta(1))
        if chunks := await self.pool.fetchval("SELECT decompress_chunks('daily_ohlc', $1, $2)", *span, timeout=_LONG):
            log.info("old daily bars are written plain; data_maintenance compresses them again", chunks=chunks)
        async with self._transaction() as connection:
            # Compressed again in between.
            await connection.execute(_NO_LIMIT)
            await connection.execute("SELECT make_partitions('daily_ohlc', $1, $2)", *span)
            await connection.execute("CREATE TEMP TABLE incoming_ohlc (LIKE daily_ohlc) ON COMMIT DROP")
            await connection.copy_records_to_table("incoming_ohlc", records=rows, columns=OHLC_COLUMNS)
            await connection.execute(_MERGE_OHLC)
            await _mark(connection, [unit])

    @patiently
    async def write_metadata(
        self, rows: Sequence[dict[str, Any]], units: Sequence[Unit], known_from: datetime.date
    ) -> None:
        """Columns of ticker_metadata, known from that day on; absent ones leave what is stored."""
        values = [
            (row["symbol"], *(_storable(row.get(name)) for name in METADATA_COLUMNS), _details(row)) for row in rows
        ]
        async with self._transaction() as connection:
            await connection.executemany(_MERGE_METADATA, values)
            await connection.execute(KEEP_HISTORY, known_from, [row["symbol"] for row in rows])
            await _mark(connection, units)

    @patiently
    async def active_symbols(self) -> list[str]:
        """Those of ticker_universe that trade."""
        return [
            row["symbol"]
            for row in await self.pool.fetch("SELECT symbol FROM ticker_universe WHERE is_active ORDER BY symbol")
        ]

    @patiently
    async def slot_rows(self, days: Sequence[datetime.date], symbols: Sequence[str]) -> Sequence[SlotRow]:
        """Rows of slot_days of some symbols: symbol, day, slots, volume, trades."""
        return await slot_rows(self.pool, days, symbols)

    @patiently
    async def slot_symbols(self, days: Sequence[datetime.date]) -> list[str]:
        """The symbols with slots on any of `days`, sorted."""
        rows = await self.pool.fetch("SELECT DISTINCT symbol FROM slot_days WHERE date = ANY($1::date[])", list(days))
        return sorted(row["symbol"] for row in rows)

    @patiently
    async def slot_days(self, days: Sequence[datetime.date]) -> set[datetime.date]:
        """Those of `days` that have slots."""
        return await days_with_slots(self.pool, days)

    @patiently
    async def replace_baselines(self, source: Callable[[], AsyncIterator[bytes]]) -> int:
        """Puts a table in place of volume_slots at once: readers see the old one or the new; returns its rows.

        `source` returns a new iterator of baseline_records() for each attempt.
        """
        async with self._transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(hashtext('volume_slots'))")
            await connection.execute(
                "CREATE TABLE volume_slots_new (LIKE volume_slots INCLUDING CONSTRAINTS INCLUDING DEFAULTS)"
            )
            status = await connection.copy_to_table(
                "volume_slots_new", source=_copy(source()), format="binary", timeout=_LONG
            )
            await connection.execute(
                "ALTER TABLE volume_slots_new ADD PRIMARY KEY (symbol, slot_number)", timeout=_LONG
            )
            await connection.execute("DROP TABLE volume_slots")
            await connection.execute("ALTER TABLE volume_slots_new RENAME TO volume_slots")
            await connection.execute("ALTER INDEX volume_slots_new_pkey RENAME TO volume_slots_pkey")
        return int(str(status).rsplit(" ", 1)[-1])


def _storable(value: Any) -> Any:
    """PostgreSQL's texts and JSON hold no NUL, its JSON no infinity."""
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {name: _storable(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _details(row: dict[str, Any]) -> str:
    return json.dumps(_storable(row.get("details") or {}))


async def _mark(connection: asyncpg.Connection, units: Sequence[Unit]) -> None:
    await connection.executemany(_MARK, [tuple(unit) for unit in units])


async def _copy(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield _COPY_HEADER
    async for part in source:
        yield part
    yield _COPY_TRAILER


def baseline_records(symbol: str, baseline: SymbolBaseline, day: datetime.date) -> bytes:
    """A symbol's 192 rows of volume_slots, in the form of COPY ... WITH BINARY."""
    name = symbol.encode()
    has_trades = not bool(np.isnan(baseline.avg_trades).any() or np.isnan(baseline.sd_trades).any())
    kind = _record_kind(len(name), has_trades)
    rows = np.zeros(SLOTS, dtype=kind)
    rows["fields"], rows["symbol_size"], rows["symbol"] = 7, len(name), name
    rows["slot_size"], rows["slot"] = 2, np.arange(SLOTS)
    rows["volume_size"], rows["volume"] = 8, baseline.avg_volume
    rows["trades_size"], rows["sd_size"] = (8, 8) if has_trades else (-1, -1)
    if has_trades:
        rows["trades"], rows["sd"] = baseline.avg_trades, baseline.sd_trades
    rows["days_size"], rows["days"] = 2, baseline.days
    rows["date_size"], rows["date"] = 4, (day - _POSTGRES_EPOCH).days
    return rows.tobytes()


def _record_kind(symbol_bytes: int, has_trades: bool) -> "np.dtype[Any]":
    """A record of this length: field count, then each field's size and value, big-endian; size -1 is NULL."""
    fields: list[tuple[str, Any]] = [("fields", ">i2"), ("symbol_size", ">i4"), ("symbol", f"S{symbol_bytes}")]
    for name, value, is_null in (
        ("slot", ">i2", False),
        ("volume", ">f8", False),
        ("trades", ">f8", not has_trades),
        ("sd", ">f8", not has_trades),
        ("days", ">i2", False),
        ("date", ">i4", False),
    ):
        fields.append((f"{name}_size", ">i4"))
        if not is_null:
            fields.append((name, value))
    return np.dtype(fields)
