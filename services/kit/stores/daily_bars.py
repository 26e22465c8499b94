"""daily_ohlc: the stored daily bars, which are raw, in the shares of another day."""

import datetime
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from services.market.daily_bars import DayBars, day_bars, no_bars
from services.market.splits import SplitTable


async def stored_days(pool: asyncpg.Pool, days: Sequence[datetime.date]) -> dict[datetime.date, int]:
    """How many bars it holds of each of these days; days without bars are left out."""
    query = "SELECT date, count(*) AS bars FROM daily_ohlc WHERE date = ANY($1::date[]) GROUP BY date"
    return {row["date"]: row["bars"] for row in await pool.fetch(query, list(days))}


async def stored_bars(
    pool: asyncpg.Pool, day: datetime.date, factors: Mapping[str, float], set_aside: Counter[str]
) -> DayBars:
    """The bars of a day; `factors` are the symbols' splits since. Unusable ones are counted in `set_aside`."""
    query = "SELECT symbol, open, high, low, close, volume FROM daily_ohlc WHERE date = $1"
    return _bars(await pool.fetch(query, day), factors, set_aside)


async def stored_history(
    pool: asyncpg.Pool,
    symbols: Sequence[str],
    days: Sequence[datetime.date],
    splits: SplitTable,
    set_aside: Counter[str],
) -> dict[datetime.date, DayBars]:
    """The bars of some symbols by day, in the shares of the splits' day; days without any are left out."""
    query = (
        "SELECT date, symbol, open, high, low, close, volume FROM daily_ohlc"
        " WHERE symbol = ANY($1::text[]) AND date = ANY($2::date[]) ORDER BY date"
    )
    rows = await pool.fetch(query, list(symbols), list(days))
    by_day = itertools.groupby(rows, key=lambda row: row["date"])
    return {date: _bars([tuple(row)[1:] for row in each], splits.factors(date), set_aside) for date, each in by_day}


def _bars(rows: Sequence[Sequence[Any]], factors: Mapping[str, float], set_aside: Counter[str]) -> DayBars:
    if not rows:
        return no_bars()
    symbols, *columns = zip(*rows, strict=True)
    return day_bars(symbols, columns, set_aside).in_new_shares(factors)
