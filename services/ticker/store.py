"""Symbols in PostgreSQL: metadata, daily bars, minute bars, and the stored scan results."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import asyncpg
from tradeul.v1 import ticker_pb2

from services.kit.runtime.clock import NEW_YORK, utc_time
from services.kit.stores.database import DATABASE_AWAY, store_unavailable
from services.kit.vendor.models import AggregateBar
from services.market.companies import METADATA_COLUMNS
from services.market.dates import ONE_DAY, day_bounds, midnight
from services.ticker.core import further_fields, is_set
from services.ticker.requests import Interval, PageMark

Record = Mapping[str, Any]

# A client of the gateway does not wait longer.
QUERY_SECONDS: Final = 5.0

_MINUTE: Final = timedelta(minutes=1)
# Of the day, in New York.
_LAST_SESSION_ENDS: Final = timedelta(hours=20)
# Before every bar.
_FIRST: Final = datetime(1900, 1, 1, tzinfo=UTC)

_METADATA: Final = (
    f"SELECT symbol, {', '.join(METADATA_COLUMNS)}, details, updated_at FROM ticker_metadata WHERE symbol = $1"
)
_SAVE_METADATA: Final = f"""
    INSERT INTO ticker_metadata (symbol, {", ".join(METADATA_COLUMNS)}, details)
    VALUES ({", ".join(f"${i}" for i in range(1, len(METADATA_COLUMNS) + 3))})
    ON CONFLICT (symbol) DO UPDATE SET
        {", ".join(f"{name} = coalesce(ticker_metadata.{name}, excluded.{name})" for name in METADATA_COLUMNS)},
        details = excluded.details || ticker_metadata.details,
        updated_at = now()
    RETURNING updated_at
"""
_KEEP_HISTORY: Final = "SELECT keep_metadata_history($1, $2::text[])"
_LAST_DAY: Final = """
    SELECT date, open, high, low, close, volume, vwap, trades
    FROM daily_ohlc WHERE symbol = $1 AND ($2::date IS NULL OR date < $2) ORDER BY date DESC LIMIT 1
"""
_HAS_BARS: Final = """
    SELECT EXISTS (SELECT FROM aggregates_1min WHERE symbol = $1) OR EXISTS (SELECT FROM daily_ohlc WHERE symbol = $1)
"""
_AGGREGATES: Final = """
    (array_agg(open ORDER BY time))[1] AS open,
    max(high) AS high,
    min(low) AS low,
    (array_agg(close ORDER BY time DESC))[1] AS close,
    sum(volume) AS volume,
    sum(vwap * volume) / nullif(sum(volume) FILTER (WHERE vwap IS NOT NULL), 0) AS vwap,
    sum(trades)::float8 AS trades
"""
# So many of the newest minutes as make the newest bars whole.
_MINUTES: Final = f"""
    WITH minutes AS (
        SELECT time, open, high, low, close, volume, vwap, trades
        FROM aggregates_1min WHERE symbol = $1 AND time >= $3 AND time < $4
        ORDER BY time DESC LIMIT $5::bigint * $6::bigint
    )
    SELECT date_bin($2, time, 'epoch') AS time, {_AGGREGATES}
    FROM minutes GROUP BY 1 ORDER BY 1 DESC LIMIT $5
"""
# The vendor's minutes, by columns: they replace those that were made of trades, and none of the vendor's.
_ADD_MINUTES: Final = """
    INSERT INTO aggregates_1min AS stored (symbol, time, open, high, low, close, volume, vwap, trades)
    SELECT $1, to_timestamp(t / 1000), o, h, l, c, v, vw, n
    FROM unnest($2::bigint[], $3::float8[], $4::float8[], $5::float8[], $6::float8[], $7::float8[], $8::float8[],
        $9::bigint[]) AS bar (t, o, h, l, c, v, vw, n)
    ON CONFLICT (symbol, time) DO UPDATE SET open = excluded.open, high = excluded.high, low = excluded.low,
        close = excluded.close, volume = excluded.volume, vwap = excluded.vwap, trades = excluded.trades,
        is_made = FALSE
    WHERE stored.is_made
"""
# A day that no loader has written yet is put together from its regular minutes.
_DAYS: Final = f"""
    WITH loaded AS (
        SELECT date, open, high, low, close, volume, vwap, trades::float8 AS trades
        FROM daily_ohlc WHERE symbol = $1 AND date >= $2 AND date < $3 ORDER BY date DESC LIMIT $6
    ), reach AS (
        SELECT CASE WHEN count(*) < $6 THEN $4::timestamptz
            ELSE greatest($4, min(date)::timestamp AT TIME ZONE 'America/New_York') END AS start
        FROM loaded
    ), counted AS (
        SELECT (time AT TIME ZONE 'America/New_York')::date AS date, {_AGGREGATES}
        FROM aggregates_1min WHERE symbol = $1 AND time >= (SELECT start FROM reach) AND time < $5
            AND (time AT TIME ZONE 'America/New_York')::time >= '09:30'
            AND (time AT TIME ZONE 'America/New_York')::time < '16:00'
        GROUP BY 1
    ), days AS (
        SELECT * FROM loaded UNION ALL SELECT * FROM counted WHERE date NOT IN (SELECT date FROM loaded)
    )
    SELECT date::timestamp AT TIME ZONE 'America/New_York' AS time, open, high, low, close, volume, vwap, trades
    FROM days ORDER BY date DESC LIMIT $6
"""
_NEWEST_SCAN: Final = "SELECT max(time) FROM scan_results WHERE time < $1"
_FOREVER: Final = datetime.max.replace(tzinfo=UTC)
_SCANS: Final = """
    SELECT time, symbol, list, session, rank, is_entry, price, volume_today, change_percent, gap_percent, rvol, score
    FROM scan_results WHERE time >= $1 AND time < $2 {further}
    ORDER BY time DESC, list, rank, symbol LIMIT $3
"""


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Raises STORE_UNAVAILABLE for a database that is away or too slow."""
    with store_unavailable(DATABASE_AWAY):
        async with asyncio.timeout(QUERY_SECONDS):
            yield


class Queries:
    """The pool; every method raises STORE_UNAVAILABLE while the database is away."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def all(self, sql: str, *values: Any) -> Sequence[Record]:
        async with answering():
            records: Sequence[Record] = await self._pool.fetch(sql, *values)
            return records

    async def first(self, sql: str, *values: Any) -> Record | None:
        async with answering():
            record: Record | None = await self._pool.fetchrow(sql, *values)
            return record

    async def value(self, sql: str, *values: Any) -> Any:
        async with answering():
            return await self._pool.fetchval(sql, *values)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of its own, in a transaction."""
        async with answering(), self._pool.acquire() as connection, connection.transaction():
            yield connection


class TickerStore:
    """Reads and writes; every method raises STORE_UNAVAILABLE while the database is away."""

    def __init__(self, queries: Queries, replayed: date | None = None) -> None:
        self._queries = queries
        self._replayed = replayed

    async def metadata(self, symbol: str) -> Record | None:
        """The symbol's row of ticker_metadata."""
        return await self._queries.first(_METADATA, symbol)

    async def save_metadata(self, message: ticker_pb2.TickerMetadata, known_from: date) -> datetime:
        """Stores values that are missing, as known from that date on, and replaces none; returns when."""
        values = [getattr(message, name) if is_set(message, name) else None for name in METADATA_COLUMNS]
        async with self._queries.transaction() as connection:
            saved: datetime = await connection.fetchval(
                _SAVE_METADATA, message.symbol, *values, further_fields(message)
            )
            await connection.execute(_KEEP_HISTORY, known_from, [message.symbol])
        return saved

    async def last_day(self, symbol: str) -> Record | None:
        """The newest daily bar; in a replay the newest before its day, whose own and later ones are still to come."""
        return await self._queries.first(_LAST_DAY, symbol, self._replayed)

    async def has_bars(self, symbol: str) -> bool:
        return bool(await self._queries.value(_HAS_BARS, symbol))

    async def bars(
        self, symbol: str, interval: Interval, start: datetime | None, end: datetime, limit: int
    ) -> Sequence[Record]:
        """The newest `limit` bars that begin from `start` on and before `end`, oldest first; each of them whole."""
        start = start or _FIRST
        if interval.width < ONE_DAY:
            span = _ceil(start, interval.width), _ceil(end, interval.width)
            return await self._newest_minutes(symbol, interval, *span, limit)
        days = _ceil_day(start), _ceil_day(end)
        return await self._newest_days(symbol, days, midnight(days[1]), limit)

    async def bars_until_now(
        self, symbol: str, interval: Interval, start: datetime | None, now: datetime, limit: int
    ) -> Sequence[Record]:
        """The same up to `now`; the newest bar may be one that is still growing."""
        start = start or _FIRST
        if interval.width < ONE_DAY:
            return await self._newest_minutes(symbol, interval, _ceil(start, interval.width), now, limit)
        # A day's loaded bar is known once its sessions are over.
        days = _ceil_day(start), (now + ONE_DAY - _LAST_SESSION_ENDS).astimezone(NEW_YORK).date()
        return await self._newest_days(symbol, days, now, limit)

    async def add_minutes(self, symbol: str, bars: Sequence[AggregateBar]) -> None:
        """Stores the vendor's minute bars that are not stored; repeating it changes nothing."""
        if not bars:
            return
        columns = [[getattr(bar, name) for bar in bars] for name in ("t", "o", "h", "l", "c", "v", "vw", "n")]
        async with self._queries.transaction() as connection:
            await connection.execute(_ADD_MINUTES, symbol, *columns)

    async def _newest_minutes(
        self, symbol: str, interval: Interval, start: datetime, end: datetime, limit: int
    ) -> Sequence[Record]:
        minutes = interval.width // _MINUTE
        records = await self._queries.all(_MINUTES, symbol, interval.width, start, end, limit, minutes)
        return records[::-1]

    async def _newest_days(self, symbol: str, days: tuple[date, date], end: datetime, limit: int) -> Sequence[Record]:
        """`days`: the loaded bars' dates, the last excluded; `end`: that of the minutes of the others."""
        records = await self._queries.all(_DAYS, symbol, *days, midnight(days[0]), end, limit)
        return records[::-1]

    async def newest_scan_date(self, list_name: str) -> date | None:
        """The New York date of the newest stored result, of one list or ("") of all; in a replay before its day."""
        newest: datetime | None
        before = _FOREVER if self._replayed is None else midnight(self._replayed)
        if list_name:
            newest = await self._queries.value(f"{_NEWEST_SCAN} AND list = $2", before, list_name)
        else:
            newest = await self._queries.value(_NEWEST_SCAN, before)
        return None if newest is None else newest.astimezone(NEW_YORK).date()

    async def scan_results(self, day: date, list_name: str, limit: int, after: PageMark | None) -> Sequence[Record]:
        """A New York day's results, newest first, from `after` on."""
        start, end = day_bounds(day)
        values: list[Any] = [start, end, limit]
        conditions = []
        if list_name:
            values.append(list_name)
            conditions.append("AND list = $4")
        if after is not None:
            time, *rest = (f"${len(values) + i}" for i in (1, 2, 3, 4))
            values += after
            conditions.append(f"AND time <= {time} AND (time < {time} OR (list, rank, symbol) > ({', '.join(rest)}))")
        return await self._queries.all(_SCANS.format(further=" ".join(conditions)), *values)


def _ceil(time: datetime, width: timedelta) -> datetime:
    """The first start of a bar at or after `time`."""
    return time + (utc_time(0) - time) % width


def _ceil_day(time: datetime) -> date:
    """The first New York day that begins at or after `time`."""
    day = time.astimezone(NEW_YORK).date()
    return day if midnight(day) == time else day + ONE_DAY
