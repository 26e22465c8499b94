"""Levels of daily bars: highs and lows of days, weeks and the year, averages of closes (docs/semantics.md). Pure."""

import datetime
from typing import Final

import numpy as np

from services.market.daily_bars import Flags, Floats

# The names of all values; close_5d, close_20d and prev_ssr are for change_5d, change_20d and ssr.
LEVELS: Final = (
    "prev_open", "prev_high", "prev_low", "high_5d", "low_5d", "high_20d", "low_20d", "high_52w", "low_52w", "sma_20d",
    "sma_50d", "sma_200d", "close_5d", "close_20d", "prev_ssr",
)  # fmt: skip
HIGH_LOW_DAYS: Final = (5, 20)
AVERAGED_DAYS: Final = (20, 50, 200)
# A year has at most 253 trading days.
YEAR_DAYS: Final = 254
# No market is closed for so long: history that begins that soon after a day lacks nothing of what came after it.
LONGEST_CLOSURE: Final = datetime.timedelta(days=5)
# The decline in a day from which short sales are restricted, percent.
RESTRICTED: Final = -10.0


def year_before(day: datetime.date) -> datetime.date:
    """The same date a year ago; of February 29 the 28th."""
    try:
        return day.replace(year=day.year - 1)
    except ValueError:
        return day.replace(year=day.year - 1, day=28)


class Levels:
    """The levels of many symbols for one day, from their daily bars, added from the oldest day on.

    A symbol's last 5 (20, 50, 200) days are those on which it has a bar. Prices are in the shares of `day`. Keeps 200
    closes of each symbol, and nothing else that grows with the number of days.
    """

    def __init__(self, count: int, day: datetime.date, first: datetime.date | None) -> None:
        """`first`: the oldest day that is going to be added, None without one."""
        self._after = year_before(day)
        self._has_year = first is not None and first <= self._after + LONGEST_CLOSURE
        self._closes = np.full((max(AVERAGED_DAYS), count), np.nan)
        self._highs = np.full((max(HIGH_LOW_DAYS), count), np.nan)
        self._lows = np.full((max(HIGH_LOW_DAYS), count), np.nan)
        # Bars since the newest hole, and whether there was one.
        self._bars = np.zeros(count, dtype=np.int64)
        self._had_hole: Flags = np.zeros(count, dtype=bool)
        self._year_high, self._year_low = np.full(count, np.nan), np.full(count, np.nan)
        self._open = np.full(count, np.nan)

    def add(
        self, date: datetime.date, open_: Floats, high: Floats, low: Floats, close: Floats, is_hole: bool = False
    ) -> None:
        """One day's bars [symbols], NaN without one; in a hole that means nothing."""
        has_bar = ~np.isnan(close)
        if is_hole:
            self._bars[~has_bar] = 0
            self._had_hole |= ~has_bar
        rows = np.flatnonzero(has_bar)
        bars = self._bars[rows]
        self._closes[bars % len(self._closes), rows] = close[rows]
        self._highs[bars % len(self._highs), rows] = high[rows]
        self._lows[bars % len(self._lows), rows] = low[rows]
        self._bars[rows] += 1
        self._open[rows] = open_[rows]
        if date > self._after:
            if is_hole:
                self._year_high[~has_bar] = self._year_low[~has_bar] = np.inf
            # inf: unknown for ever; fmax and fmin take the other one for NaN.
            self._year_high[rows] = np.fmax(self._year_high[rows], high[rows])
            self._year_low[rows] = np.where(
                np.isinf(self._year_low[rows]), np.inf, np.fmin(self._year_low[rows], low[rows])
            )

    def values(self) -> dict[str, Floats]:
        """By field name [symbols]; NaN is absent."""
        known = self._bars > 0
        values = {
            "prev_open": np.where(known, self._open, np.nan),
            "prev_high": self._back(self._highs, 1),
            "prev_low": self._back(self._lows, 1),
        }
        for days in HIGH_LOW_DAYS:
            # A symbol that was listed lately has fewer.
            is_whole = known & (~self._had_hole | (self._bars >= days))
            highs, lows = self._last(self._highs, days), self._last(self._lows, days)
            values[f"high_{days}d"] = np.where(is_whole, np.fmax.reduce(highs), np.nan)
            values[f"low_{days}d"] = np.where(is_whole, np.fmin.reduce(lows), np.nan)
        has_year = known & self._has_year & ~np.isinf(self._year_low)
        values["high_52w"] = np.where(has_year, self._year_high, np.nan)
        values["low_52w"] = np.where(has_year, self._year_low, np.nan)
        for days in AVERAGED_DAYS:
            # Absent with fewer closes: one of them is NaN then.
            values[f"sma_{days}d"] = np.sum(self._last(self._closes, days), axis=0) / days
        for days in HIGH_LOW_DAYS:
            values[f"close_{days}d"] = self._back(self._closes, days)
        values["prev_ssr"] = self._restricted()
        return values

    def _restricted(self) -> Floats:
        """1 where the low of the newest day was a tenth below the close before it, 0 where not."""
        before = self._back(self._closes, 2)
        decline = np.round(100 * (self._back(self._lows, 1) - before) / before, 6)
        return np.where(np.isnan(decline), np.nan, (decline <= RESTRICTED).astype(np.float64))

    def _back(self, ring: Floats, bars: int) -> Floats:
        """The value `bars` bars back, 1 the newest; NaN with fewer."""
        at = (self._bars - bars) % len(ring)
        return np.where(self._bars >= bars, ring[at, np.arange(ring.shape[1])], np.nan)

    def _last(self, ring: Floats, bars: int) -> Floats:
        """The last `bars` values, newest first; NaN where there are fewer."""
        return np.stack([self._back(ring, back) for back in range(1, bars + 1)])
