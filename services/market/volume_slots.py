"""Volume by time of day: a symbol's 5-minute bars to means over days (docs/semantics.md). Pure."""

import datetime
import math
from collections.abc import Sequence
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from services.kit.runtime.clock import NEW_YORK
from services.market.daily_bars import VOLUME_LIMIT

# Of five minutes each, from 04:00 to 20:00.
SLOTS: Final = 192
BASELINE_DAYS: Final = 30
LEAST_DAYS: Final = 3
SLOT_MS: Final = 300_000
LATEST_MS: Final = 2**62
FIRST_SLOT: Final = datetime.time(4)

Floats = NDArray[np.float64]


class VolumeBar(Protocol):
    """A bar of the vendor: start in ms since 1970 UTC, shares, number of trades."""

    @property
    def t(self) -> int: ...
    @property
    def v(self) -> float: ...
    @property
    def n(self) -> float | None: ...


class SymbolBaseline(NamedTuple):
    """Means over `days` days at the ends of the 192 slots; trades are NaN where a bar lacks them.

    With fewer than LEAST_DAYS there are no means: all are NaN.
    """

    days: int
    avg_volume: Floats
    avg_trades: Floats
    sd_trades: Floats


class SlotGrid:
    """The slots of some trading days, ascending, none of them an early close."""

    def __init__(self, days: Sequence[datetime.date]) -> None:
        self.days = tuple(days)
        # Every slot of a day has the same offset from New York's: clocks change at 02:00.
        starts = [datetime.datetime.combine(day, FIRST_SLOT, NEW_YORK).timestamp() for day in days]
        self._starts_ms = np.array(starts, dtype=np.int64) * 1000

    def baseline(self, start_ms: NDArray[np.int64], volume: Floats, trades: Floats) -> tuple[SymbolBaseline, int]:
        """A symbol's baseline, and the number of bars set aside.

        Args:
            start_ms: starts of 5-minute bars, in ms since 1970 UTC, of any days;
                those outside the grid are ignored, and a repeated one
                replaces the earlier.
            volume, trades: shares and number of trades of each bar; trades may be
                NaN (not known), else a negative or absurd number sets the bar aside.
        """
        is_taken, grid, wrong = self.fill(start_ms, volume, trades)
        has_bar = is_taken.any(axis=1)
        days = int(has_bar.sum())
        if days < LEAST_DAYS:
            return SymbolBaseline(days, *np.full((3, SLOTS), np.nan)), wrong
        shares, counts = grid[:, has_bar].cumsum(axis=2)
        return SymbolBaseline(days, shares.mean(axis=0), counts.mean(axis=0), counts.std(axis=0, ddof=1)), wrong

    def fill(
        self, start_ms: NDArray[np.int64], volume: Floats, trades: Floats
    ) -> tuple[NDArray[np.bool_], Floats, int]:
        """Which [day, slot] have a bar; [volume and trades, day, slot]; how many bars were set aside."""
        with np.errstate(invalid="ignore"):
            wrong = ~((volume >= 0) & (volume < VOLUME_LIMIT)) | (trades < 0) | (trades >= VOLUME_LIMIT)
        day = np.searchsorted(self._starts_ms, start_ms, side="right") - 1
        offset = start_ms - self._starts_ms[day] if self.days else np.zeros_like(start_ms)
        taken = (day >= 0) & (offset < SLOTS * SLOT_MS) & ~wrong
        day, slot = day[taken], offset[taken] // SLOT_MS
        has_bar = np.zeros((len(self.days), SLOTS), dtype=bool)
        has_bar[day, slot] = True
        # Assignment, not addition: of a repeated index numpy keeps the last value.
        grid = np.zeros((2, len(self.days), SLOTS))
        grid[0, day, slot] = volume[taken]
        grid[1, day, slot] = trades[taken]
        return has_bar, grid, int(wrong.sum())


class _Bar(NamedTuple):
    t: int
    v: float
    n: float


def bar_columns(bars: Sequence[VolumeBar]) -> tuple[NDArray[np.int64], Floats, Floats, int]:
    """Starts (ms), volumes and trades (NaN where not known) of the vendor's bars, and how many no column can hold."""
    try:
        return *_columns(bars), 0
    except (OverflowError, TypeError):
        # JSON's integers have no limit, and not every bar has its trades.
        kept = [_Bar(bar.t, bar.v, math.nan if bar.n is None else bar.n) for bar in bars if abs(bar.t) < LATEST_MS]
        return *_columns(kept), len(bars) - len(kept)


def _columns(bars: Sequence[VolumeBar]) -> tuple[NDArray[np.int64], Floats, Floats]:
    count = len(bars)
    return (
        np.fromiter(map(attrgetter("t"), bars), np.int64, count),
        np.fromiter(map(attrgetter("v"), bars), np.float64, count),
        np.fromiter(map(attrgetter("n"), bars), np.float64, count),
    )
