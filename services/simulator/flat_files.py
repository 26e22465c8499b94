"""A simulated day as the vendor's flat files: minute and daily bars of all symbols, CSV in gzip.

The layout is the vendor's S3: us_stocks_sip/minute_aggs_v1/YYYY/MM/YYYY-MM-DD.csv.gz. Bars
are raw, in the prices and shares of their day, ordered by ticker and time.
"""

import datetime
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt

from services.market.flat_files import BAR_COLUMNS, DAILY_BARS_KIND, MINUTE_BARS_KIND, file_name
from services.simulator.calendar import MINUTE_NS
from services.simulator.hashing import I8
from services.simulator.market import Market
from services.simulator.market_day import MarketDay
from services.simulator.plan import DayPlan

KINDS: Final = (MINUTE_BARS_KIND, DAILY_BARS_KIND)
# The file's columns, of a bar's.
SOURCES: Final = {
    "volume": "volume",
    "open": "open",
    "close": "close",
    "high": "high",
    "low": "low",
    "transactions": "trades",
}

Columns = dict[str, npt.NDArray[Any]]


def minute_bars(market: Market, plan: DayPlan) -> Columns:
    """Every minute with a trade of every symbol."""
    day = MarketDay(market.plans, plan)
    minutes = []
    for _ in range(plan.day.end_minute):
        minute = day.begin_minute()
        minutes.append(minute)
        day.end_minute(minute)
    symbols = np.concatenate([minute.symbols for minute in minutes])
    numbers = np.repeat([minute.number for minute in minutes], [len(minute.symbols) for minute in minutes])

    def column(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(minute.bars, name) for minute in minutes])

    return _columns(symbols, column, plan.day.start_ns + numbers.astype(np.int64) * MINUTE_NS)


def daily_bars(market: Market, plan: DayPlan) -> Columns:
    """The regular session of every symbol that traded in it."""
    bars = market.daily(plan)
    symbols = np.flatnonzero(bars.trades > 0)
    return _columns(symbols, lambda name: getattr(bars, name)[symbols], np.full(len(symbols), plan.day.midnight_ns))


def write(market: Market, folder: Path, dates: Sequence[datetime.date], kinds: Sequence[str] = KINDS) -> Iterator[Path]:
    """Writes the files of the trading days among `dates`, each by one rename; yields their paths.

    Raises ValueError for a trading day in the future, or before the market's history.
    """
    make = {MINUTE_BARS_KIND: minute_bars, DAILY_BARS_KIND: daily_bars}
    for date in dates:
        index = market.calendar.index_of(date)
        if index is None:
            continue
        plan = market.plans.get(index)
        if plan is None or index == market.day.number:
            raise ValueError(f"expected a day before {market.day.date} and not before the market's history, was {date}")
        for kind in kinds:
            path = folder / file_name(kind, date)
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.part")
            try:
                _write(market.universe.tickers, make[kind](market, plan), partial)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
            yield path


def _columns(symbols: I8, column: Callable[[str], npt.NDArray[Any]], start_ns: npt.NDArray[np.int64]) -> Columns:
    named = {name: column(source) for name, source in SOURCES.items()}
    return {"symbol": symbols, **named, "window_start": start_ns}


def _write(tickers: Sequence[str], bars: Columns, path: Path) -> None:
    names = {"symbol": np.arange(len(tickers)), "ticker": np.array(tickers, dtype=object)}
    with duckdb.connect(config={"threads": "1"}) as database:
        database.register("bars", bars)
        database.register("names", names)
        database.execute(
            f"COPY (SELECT {', '.join(BAR_COLUMNS)}"
            f" FROM bars JOIN names USING (symbol) ORDER BY ticker, window_start)"
            f" TO '{path}' (FORMAT csv, HEADER, COMPRESSION gzip)"
        )
