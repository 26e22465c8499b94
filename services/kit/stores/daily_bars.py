"""daily_ohlc: the stored daily bars, which are raw, in the shares of another day."""

import datetime
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
import numpy as np

from services.market.daily_bars import DayBars, day_bars, no_bars
from services.market.splits import SplitTable

_COLUMNS: Final = ("open", "high", "low", "close", "volume")


async def stored_days(pool: asyncpg.Pool, days: Sequence[datetime.date]) -> dict[datetime.date, int]:
    """How many bars it holds of each of these days; days without bars are left out."""
    query = "SELECT date, count(*) AS bars FROM daily_ohlc WHERE date = ANY($1::date[]) GROUP BY date"
    return {row["date"]: row["bars"] for row in await pool.fetch(query, list(days))}


async def stored_bars(
    pool: asyncpg.Pool, day: datetime.date, factors: Mapping[str, float], set_aside: Counter[str]
) -> DayBars:
    """The bars of a day; `factors` are the symbols' splits since. Unusable ones are counted in `set_aside`."""
    # A row of columns: a year of rows of their own is 3 million records.
    parts = ", ".join(f"string_agg(float8send({name}), ''::bytea)" for name in _COLUMNS)
    row = await pool.fetchrow(f"SELECT string_agg(symbol, E'\\n'), {parts} FROM daily_ohlc WHERE date = $1", day)
    if row is None or row[0] is None:
        return no_bars()
    symbols, *values = row
    columns = [np.frombuffer(each, ">f8") for each in values]
    return day_bars(symbols.split("\n"), columns, set_aside).in_new_shares(factors)


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
