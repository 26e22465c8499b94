"""Values made of stored daily bars: ATR (calculate_atr) and a part of enrich_metadata, the averages."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import date
from typing import Final

import asyncpg
import numpy as np

from services.data_maintenance.context import Job, TaskError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.daily_bars import stored_bars, stored_days
from services.kit.stores.merge_writer import MergeTable
from services.kit.vendor.client import VendorClient, VendorError
from services.market.daily_bars import (
    ATR_DAYS,
    ATR_HISTORY_DAYS,
    AVERAGE_DAYS,
    SHORT_AVERAGE_DAYS,
    DayTable,
    Floats,
    WilderATR,
    dense,
    mean_of_last,
)
from services.market.splits import SplitTable

log = get_logger(__name__)

# A symbol without a bar for longer keeps the ATR there is.
RECENT_DAYS: Final = 30
ROWS_AT_ONCE: Final = 2000
COLUMNS: Final = ("symbol", "date", "period", "atr", "atr_percent")
_MERGE: Final = """
    INSERT INTO ticker_atr SELECT * FROM incoming
    ON CONFLICT (symbol, date, period) DO UPDATE SET atr = excluded.atr, atr_percent = excluded.atr_percent
    WHERE (ticker_atr.atr, ticker_atr.atr_percent) IS DISTINCT FROM (excluded.atr, excluded.atr_percent)
"""
# A symbol without bars for so long has no averages any more.
_UPDATE_AVERAGES: Final = """
    UPDATE ticker_metadata AS stored SET
        avg_volume_10d = fresh.avg_volume_10d, avg_volume_30d = fresh.avg_volume_30d,
        avg_price_30d = fresh.avg_price_30d, updated_at = now()
    FROM unnest($1::text[], $2::float8[], $3::float8[], $4::float8[])
        AS fresh (symbol, avg_volume_10d, avg_volume_30d, avg_price_30d)
    WHERE stored.symbol = fresh.symbol
        AND (stored.avg_volume_10d, stored.avg_volume_30d, stored.avg_price_30d)
            IS DISTINCT FROM (fresh.avg_volume_10d, fresh.avg_volume_30d, fresh.avg_price_30d)
"""

Row = tuple[str, date, int, float, float]


async def _splits(vendor: VendorClient, job: Job, first: date) -> SplitTable:
    """The splits since `first` up to the job's day; raises TaskError, for without them nothing can be calculated."""
    set_aside: Counter[str] = Counter()
    try:
        table = SplitTable(await vendor.splits(first, job.trading_date), job.trading_date, set_aside)
    except VendorError as error:
        raise TaskError(f"the vendor's splits could not be fetched: {reason_of(error)}") from error
    job.count_set_aside(set_aside)
    return table


class CalculateATR:
    """Wilder's average true range of all symbols, in the shares of the day it is of."""

    def __init__(self, url: str, pool: asyncpg.Pool, vendor: VendorClient) -> None:
        self._url = url
        self._pool = pool
        self._vendor = vendor

    async def __call__(self, job: Job) -> None:
        days = await self._days(job)
        splits = await _splits(self._vendor, job, days[0])
        job.progress.step, job.progress.total = "reading daily bars", len(days)
        symbols, atr, close, last = await self._calculate(job, days, splits)
        rows = [
            _row(symbols[i], days[last[i]], float(atr[i]), float(close[i]), splits)
            for i in np.flatnonzero(~np.isnan(atr) & (last >= len(days) - RECENT_DAYS)).tolist()
        ]
        job.progress.counts["symbols"] = len(symbols)
        job.progress.counts["atr"] = len(rows)
        job.progress.count("too_few_days", int(np.isnan(atr).sum()))
        await self._write(job, rows)

    async def _days(self, job: Job) -> list[date]:
        """The newest 250 trading days up to the job's, without those before the first that is stored."""
        if job.calendar.find(job.trading_date) is None:
            raise TaskError(f"expected a trading day of the last year, was {job.trading_date}")
        known = [day.date for day in job.calendar.all_before(job.trading_date)] + [job.trading_date]
        known = known[-ATR_HISTORY_DAYS:]
        stored = await stored_days(self._pool, known)
        if job.trading_date not in stored:
            raise TaskError(f"daily_ohlc holds no bars of {job.trading_date}")
        first = min(stored)
        days = [day for day in known if day >= first]
        if missing := [day for day in days if day not in stored]:
            # As for the live mesh, a missing day is a hole: ATR begins anew after it.
            job.progress.counts["missing_days"] = len(missing)
            log.warning("ATR begins after days without bars", days=[str(day) for day in missing[-5:]])
        return days

    async def _calculate(
        self, job: Job, days: Sequence[date], splits: SplitTable
    ) -> tuple[list[str], Floats, Floats, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
        """Symbols, their ATR and last close in the shares of the job's day, and the index of their last day."""
        query = "SELECT DISTINCT symbol FROM daily_ohlc WHERE date = ANY($1::date[]) ORDER BY symbol"
        symbols = [record["symbol"] for record in await self._pool.fetch(query, days[-RECENT_DAYS:])]
        columns = {symbol: column for column, symbol in enumerate(symbols)}
        wilder = WilderATR(len(symbols))
        last_close = np.full(len(symbols), np.nan)
        last = np.zeros(len(symbols), dtype=np.int64)
        set_aside: Counter[str] = Counter()
        for index, day in enumerate(days):
            bars = await stored_bars(self._pool, day, splits.factors(day), set_aside)
            _, high, low, close, _ = dense(bars, columns)
            wilder.add(high, low, close, is_hole=not bars.symbols)
            has_bar = ~np.isnan(close)
            last_close[has_bar], last[has_bar] = close[has_bar], index
            job.progress.done = index + 1
            await asyncio.sleep(0)
        job.count_set_aside(set_aside)
        return symbols, wilder.values(), last_close, last

    async def _write(self, job: Job, rows: list[Row]) -> None:
        job.progress.step, job.progress.done, job.progress.total = "writing ticker_atr", 0, len(rows)
        table = MergeTable(self._url, "ticker_atr", COLUMNS, _MERGE)
        try:
            for start in range(0, len(rows), ROWS_AT_ONCE):
                part = rows[start : start + ROWS_AT_ONCE]
                job.progress.count("changed", await table.write(part, job.guard))
                job.progress.done += len(part)
        finally:
            table.disconnect()


def _row(symbol: str, day: date, atr: float, close: float, splits: SplitTable) -> Row:
    """In the shares of its own day: readers adjust it for the splits since."""
    factor = splits.factor(symbol, day)
    return symbol, day, ATR_DAYS, atr * factor, 100.0 * atr / close


class Averages:
    """ticker_metadata's averages over the 30 trading days before the job's day, in that day's shares.

    With a day that daily_ohlc does not hold they stay as they are.
    """

    def __init__(self, pool: asyncpg.Pool, vendor: VendorClient) -> None:
        self._pool = pool
        self._vendor = vendor

    async def __call__(self, job: Job) -> None:
        progress = job.progress
        progress.step, progress.done, progress.total = "averages", 0, None
        dates = [day.date for day in job.calendar.all_before(job.trading_date)[-AVERAGE_DAYS:]]
        stored = await stored_days(self._pool, dates)
        if missing := [day for day in dates if day not in stored]:
            progress.counts["averages_missing_days"] = len(missing)
            return
        splits = await _splits(self._vendor, job, dates[0])
        set_aside: Counter[str] = Counter()
        days = [await stored_bars(self._pool, day, splits.factors(day), set_aside) for day in dates]
        symbols = sorted({symbol for day in days for symbol in day.symbols})
        table = DayTable(symbols, days, [False] * len(days))
        columns = (
            mean_of_last(table.volume, table.hole, SHORT_AVERAGE_DAYS),
            mean_of_last(table.volume, table.hole, AVERAGE_DAYS),
            mean_of_last(table.close, table.hole, AVERAGE_DAYS),
        )
        values = [[None if value != value else value for value in column.tolist()] for column in columns]
        async with self._pool.acquire() as connection, connection.transaction():
            status = await connection.execute(_UPDATE_AVERAGES, symbols, *values)
            await job.guard(connection)
        progress.count("averages", int(status.rsplit(" ", 1)[-1]))
        job.count_set_aside(set_aside)
