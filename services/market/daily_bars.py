"""Daily bars, and what follows from them: previous close, averages, ATR (docs/semantics.md). Pure.

Columns are [days, symbols] or, for one day, [symbols]; NaN where a symbol has no
bar. A *hole* is a day that could not be read, so that a missing bar on it means
nothing: values that would need it are absent.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ATR_DAYS: Final = 14
ATR_HISTORY_DAYS: Final = 250
AVERAGE_DAYS: Final = 30
SHORT_AVERAGE_DAYS: Final = 10
# Above these, prices (USD) and sizes (shares) are errors.
PRICE_LIMIT: Final = 1e7
VOLUME_LIMIT: Final = 1e12


class DayBars(NamedTuple):
    """One day's bars of `symbols`: prices in USD, volume in shares."""

    symbols: list[str]
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def select(self, rows: Sequence[int]) -> "DayBars":
        """The bars of these rows."""
        return DayBars([self.symbols[row] for row in rows], *(column[list(rows)] for column in self[1:]))

    def with_others(self, others: "DayBars") -> "DayBars":
        """These bars, and those of `others` of the symbols that are not among them."""
        held = set(self.symbols)
        rest = others.select([row for row, symbol in enumerate(others.symbols) if symbol not in held])
        columns = (np.concatenate(pair) for pair in zip(self[1:], rest[1:], strict=True))
        return DayBars(self.symbols + rest.symbols, *columns)

    def in_new_shares(self, factors: Mapping[str, float]) -> "DayBars":
        """The bars with prices divided, and volumes multiplied, by the symbols' factors; 1 for those not there."""
        if not factors:
            return self
        factor = np.array([factors.get(symbol, 1.0) for symbol in self.symbols])
        open_, high, low, close = (column / factor for column in (self.open, self.high, self.low, self.close))
        return DayBars(self.symbols, open_, high, low, close, self.volume * factor)


def no_bars() -> DayBars:
    """A day without bars."""
    return DayBars([], *(np.empty(0) for _ in range(5)))


def day_bars(symbols: Sequence[str], columns: Sequence[Sequence[float] | Floats], set_aside: Counter[str]) -> DayBars:
    """A day's usable bars from open, high, low, close and volume; the others are counted as "daily_bar"."""
    open_, high, low, close, volume = (np.array(column, dtype=np.float64) for column in columns)
    kept = usable(open_, high, low, close, volume)
    if not kept.all():
        set_aside["daily_bar"] += int((~kept).sum())
    # A year of days has each symbol a few hundred times: all of them share one text.
    names = [sys.intern(symbol) for symbol, is_kept in zip(symbols, kept.tolist(), strict=True) if is_kept]
    return DayBars(names, open_[kept], high[kept], low[kept], close[kept], volume[kept])


def usable(open_: Floats, high: Floats, low: Floats, close: Floats, volume: Floats) -> Flags:
    """True for rows with 0 < low <= open, close <= high, all of them finite and within the limits."""
    with np.errstate(invalid="ignore"):
        return (
            (low > 0)
            & (low <= open_)
            & (low <= close)
            & (open_ <= high)
            & (close <= high)
            & (high < PRICE_LIMIT)
            & (volume >= 0)
            & (volume < VOLUME_LIMIT)
        )


def latest(close: Floats, volume: Floats, hole: Flags) -> tuple[Floats, Floats]:
    """prev_close and prev_volume: of the newest day that has a bar, absent when a hole is newer."""
    days, count = close.shape
    prev_close, prev_volume = np.full(count, np.nan), np.full(count, np.nan)
    is_open = np.ones(count, dtype=bool)
    for day in range(days - 1, -1, -1):
        has_bar = is_open & ~np.isnan(close[day])
        prev_close[has_bar], prev_volume[has_bar] = close[day][has_bar], volume[day][has_bar]
        is_open &= ~has_bar
        if hole[day]:
            break
    return prev_close, prev_volume


def mean_of_last(values: Floats, hole: Flags, days: int) -> Floats:
    """The mean over the bars among the last `days` days; NaN without one or with a hole among them."""
    window = values[-days:]
    has_bar = ~np.isnan(window)
    counts = has_bar.sum(axis=0)
    sums = np.where(has_bar, window, 0.0).sum(axis=0)
    unknown = (hole[-days:, np.newaxis] & ~has_bar).any(axis=0)
    means: Floats = np.full(values.shape[1], np.nan)
    np.divide(sums, counts, out=means, where=(counts > 0) & ~unknown)
    return means


class WilderATR:
    """Wilder's average true range of many symbols, day by day from the oldest on.

    TR = max(H - L, |H - C1|, |L - C1|) from a symbol's second bar on; the first
    value is the mean of the first 14, then ATR = (ATR1 * 13 + TR) / 14. Keeps one
    number a symbol, so that 250 days of 12,000 symbols need not be held.
    """

    def __init__(self, count: int) -> None:
        self._close = np.full(count, np.nan)
        self._value = np.zeros(count)
        self._ranges = np.zeros(count, dtype=np.int64)

    def add(self, high: Floats, low: Floats, close: Floats, is_hole: bool = False) -> None:
        """One day's bars [symbols]. A symbol without a bar in a hole starts again after it."""
        has_bar = ~np.isnan(close)
        if is_hole:
            self._close[~has_bar] = np.nan
            self._ranges[~has_bar] = 0
        has_range = has_bar & ~np.isnan(self._close)
        high, low, before = high[has_range], low[has_range], self._close[has_range]
        true_range = np.maximum(high - low, np.maximum(np.abs(high - before), np.abs(low - before)))
        seen, value = self._ranges[has_range], self._value[has_range]
        # The sum of the ranges until there are 14 of them, from then on the average.
        seeding = np.where(seen == 0, 0.0, value) + true_range
        seeding[seen == ATR_DAYS - 1] /= ATR_DAYS
        smoothed = (value * (ATR_DAYS - 1) + true_range) / ATR_DAYS
        self._value[has_range] = np.where(seen < ATR_DAYS, seeding, smoothed)
        self._ranges[has_range] = seen + 1
        self._close[has_bar] = close[has_bar]

    def values(self) -> Floats:
        """[symbols], USD; NaN with fewer than 14 true ranges."""
        return np.where(self._ranges >= ATR_DAYS, self._value, np.nan)


class DayTable:
    """Some days' bars brought to columns over `symbols`; the days oldest first."""

    def __init__(self, symbols: Sequence[str], days: Sequence[DayBars], hole: Sequence[bool]) -> None:
        index = {symbol: i for i, symbol in enumerate(symbols)}
        self.hole: Flags = np.array(hole, dtype=bool)
        columns = [dense(bars, index) for bars in days]
        self.open, self.high, self.low, self.close, self.volume = (
            np.array([column[kind] for column in columns]).reshape(len(columns), len(symbols)) for kind in range(5)
        )


def dense(bars: DayBars, index: dict[str, int]) -> tuple[Floats, Floats, Floats, Floats, Floats]:
    """open, high, low, close, volume [symbols of the index], NaN where there is no bar."""
    columns = np.array([index.get(symbol, -1) for symbol in bars.symbols], dtype=np.int64)
    known = columns >= 0
    filled = []
    for values in bars[1:]:
        column = np.full(len(index), np.nan)
        column[columns[known]] = values[known]
        filled.append(column)
    open_, high, low, close, volume = filled
    return open_, high, low, close, volume
