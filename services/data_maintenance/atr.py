"""calculate_atr: Wilder's average true range over daily_ohlc, in the shares of the day it is of (12.11)."""

import asyncio
from collections import Counter
from datetime import date
from typing import Final

import asyncpg
import numpy as np

from services.data_maintenance.work import Job, TaskError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.daily_bars import stored_bars
from services.kit.stores.merge_writer import MergeTable
from services.kit.vendor.client import VendorClient, VendorError
from services.market.daily_bars import ATR_DAYS, ATR_HISTORY_DAYS, Floats, WilderATR, dense
from services.market.splits import SplitTable

log = get_logger(__name__)

# Who has had no bar for longer keeps the ATR there is.
RECENT_DAYS: Final = 30
ROWS_AT_ONCE: Final = 2000
COLUMNS: Final = ("symbol", "date", "period", "atr", "atr_percent")
_MERGE: Final = """
    INSERT INTO ticker_atr SELECT * FROM incoming
    ON CONFLICT (symbol, date, period) DO UPDATE SET atr = excluded.atr, atr_percent = excluded.atr_percent
    WHERE (ticker_atr.atr, ticker_atr.atr_percent) IS DISTINCT FROM (excluded.atr, excluded.atr_percent)
"""

Row = tuple[str, date, int, float, float]


class CalculateATR:
    """The task. Splits come from the vendor: without them nothing is calculated."""

    def __init__(self, url: str, pool: asyncpg.Pool, vendor: VendorClient) -> None:
        self._url = url
        self._pool = pool
        self._vendor = vendor

    async def __call__(self, job: Job) -> None:
        days = await self._days(job)
        splits = await self._splits(job, days)
        job.standing.step, job.standing.total = "reading daily bars", len(days)
        symbols, atr, close, last = await self._calculate(job, days, splits)
        rows = [
            _row(symbols[i], days[last[i]], float(atr[i]), float(close[i]), splits)
            for i in np.flatnonzero(~np.isnan(atr) & (last >= len(days) - RECENT_DAYS)).tolist()
        ]
        job.standing.counts["symbols"] = len(symbols)
        job.standing.counts["atr"] = len(rows)
        job.standing.count("too_few_days", int(np.isnan(atr).sum()))
        await self._write(job, rows)

    async def _days(self, job: Job) -> list[date]:
        """The newest 250 trading days up to the job's, without those before the first that is stored."""
        known = [day.date for day in job.calendar.days if day.date <= job.trading_date][-ATR_HISTORY_DAYS:]
        if not known or known[-1] != job.trading_date:
            raise TaskError(f"expected a trading day of the last year, was {job.trading_date}")
        query = "SELECT DISTINCT date FROM daily_ohlc WHERE date = ANY($1::date[])"
        stored = {record["date"] for record in await self._pool.fetch(query, known)}
        if job.trading_date not in stored:
            raise TaskError(f"daily_ohlc holds no bars of {job.trading_date}")
        first = min(stored)
        days = [day for day in known if day >= first]
        if missing := [day for day in days if day not in stored]:
            # As when they are read for the live mesh: nobody knows what happened on them.
            job.standing.counts["missing_days"] = len(missing)
            log.warning("ATR begins after days without bars", days=[str(day) for day in missing[-5:]])
        return days

    async def _splits(self, job: Job, days: list[date]) -> SplitTable:
        try:
            told = await self._vendor.splits(days[0], job.trading_date)
        except VendorError as error:
            raise TaskError(f"the vendor did not tell the splits: {reason_of(error)}") from error
        set_aside: Counter[str] = Counter()
        table = SplitTable(told, job.trading_date, set_aside)
        _count(job, set_aside)
        return table

    async def _calculate(
        self, job: Job, days: list[date], splits: SplitTable
    ) -> tuple[list[str], Floats, Floats, "np.ndarray[tuple[int], np.dtype[np.int64]]"]:
        """Symbols, their ATR and last close in the shares of the job's day, and where in `days` their last bar is."""
        query = "SELECT DISTINCT symbol FROM daily_ohlc WHERE date = ANY($1::date[]) ORDER BY symbol"
        symbols = [record["symbol"] for record in await self._pool.fetch(query, days[-RECENT_DAYS:])]
        index = {symbol: at for at, symbol in enumerate(symbols)}
        wilder = WilderATR(len(symbols))
        last_close = np.full(len(symbols), np.nan)
        last = np.zeros(len(symbols), dtype=np.int64)
        set_aside: Counter[str] = Counter()
        for at, day in enumerate(days):
            bars = await stored_bars(self._pool, day, splits.factors(day), set_aside)
            high, low, close, _ = dense(bars, index)
            wilder.add(high, low, close, is_hole=not bars.symbols)
            has_bar = ~np.isnan(close)
            last_close[has_bar], last[has_bar] = close[has_bar], at
            job.standing.done = at + 1
            await asyncio.sleep(0)
        _count(job, set_aside)
        return symbols, wilder.values(), last_close, last

    async def _write(self, job: Job, rows: list[Row]) -> None:
        job.standing.step, job.standing.done, job.standing.total = "writing ticker_atr", 0, len(rows)
        table = MergeTable(self._url, "ticker_atr", COLUMNS, _MERGE)
        try:
            for start in range(0, len(rows), ROWS_AT_ONCE):
                part = rows[start : start + ROWS_AT_ONCE]
                job.standing.count("changed", await table.write(part, job.guard))
                job.standing.done += len(part)
        finally:
            table.disconnect()


def _row(symbol: str, day: date, atr: float, close: float, splits: SplitTable) -> Row:
    """As it was on its own day: whoever reads it adjusts it for the splits since."""
    factor = splits.factor(symbol, day)
    return symbol, day, ATR_DAYS, atr * factor, 100.0 * atr / close


def _count(job: Job, set_aside: Counter[str]) -> None:
    for reason, count in set_aside.items():
        job.standing.count(f"set_aside_{reason}", count)
