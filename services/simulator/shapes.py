"""Libraries of shapes from which the days of all symbols are put together.

A symbol's day picks one row of each by its hash. So anything about any time of any day is
read by index, and nothing has to be replayed to know it.
"""

import functools
from typing import Final, NamedTuple

import numpy as np

from services.simulator.calendar import CLOSE_MINUTE as FULL_CLOSE_MINUTE
from services.simulator.calendar import EARLY_CLOSE_MINUTE, EARLY_END_MINUTE, END_MINUTE, OPEN_MINUTE
from services.simulator.hashing import F4, F8, I4, I8, generator

CURVES: Final = 256
PATHS: Final = 512
SECONDS: Final = 256
SIZE_ROWS: Final = 16
SIZE_PERIOD: Final = 1024
ODD_LOT: Final = 100


class SizeLevel(NamedTuple):
    """How shares dearer than `above` USD trade: the mean number of round lots, the part of odd lots, a lot's shares."""

    above: float
    lots: float
    odd_share: float
    round_lot: int = ODD_LOT


ONE_BY_ONE: Final = SizeLevel(10_000.0, 1.6, 0.0, round_lot=1)
SIZE_LEVELS: Final = (
    SizeLevel(150.0, 2.0, 0.6),
    SizeLevel(20.0, 4.5, 0.5),
    SizeLevel(5.0, 9.0, 0.35),
    SizeLevel(1.5, 20.0, 0.2),
    SizeLevel(0.0, 40.0, 0.1),
    ONE_BY_ONE,
)


def size_levels(price: F8) -> I8:
    """Returns the index in SIZE_LEVELS of each price, USD."""
    dearest_first = sorted(range(len(SIZE_LEVELS)), key=lambda level: -SIZE_LEVELS[level].above)
    return np.select([price > SIZE_LEVELS[level].above for level in dearest_first], dearest_first)


def minute_weights(close: int, end: int) -> F8:
    """Returns the weights of the minutes of a day in its trading: low, the open, a U, the close, low."""
    minute = np.arange(end, dtype=np.float64)
    weights = 0.04 + 0.18 * np.exp(-np.maximum(OPEN_MINUTE - minute, 0) / 55.0)
    after = minute - OPEN_MINUTE
    left = close - minute
    regular = 1.0 + 9.0 * np.exp(-after / 6.0) + 3.0 * np.exp(-after / 40.0)
    regular = regular + 2.5 * np.exp(-left / 25.0) + 5.0 * np.exp(-left / 2.0)
    post = 0.012 + 0.35 * np.exp(-(minute - close) / 15.0)
    weights[OPEN_MINUTE:close] = regular[OPEN_MINUTE:close]
    weights[close:] = post[close:]
    return weights


def cumulative(weights: F8) -> F8:
    """Rows of cumulative shares from 0 to exactly 1, one column more than the weights have."""
    sums = np.zeros((*weights.shape[:-1], weights.shape[-1] + 1))
    np.cumsum(weights, axis=-1, out=sums[..., 1:])
    sums /= sums[..., -1:].copy()
    return sums


@functools.cache
def way_through(steps: int) -> F8:
    """From 0 to 1 in equal steps. Kept: there are as many as there are parts of a day."""
    way: F8 = np.linspace(0.0, 1.0, steps + 1)
    way.setflags(write=False)
    return way


def bridge(steps: F8) -> F8:
    """Random walks of `steps` that are held at 0 at both ends, variance 1 over the whole way."""
    count = steps.shape[-1]
    walk = np.zeros((*steps.shape[:-1], count + 1))
    np.cumsum(steps, axis=-1, out=walk[..., 1:])
    walk /= np.sqrt(count)
    held: F8 = walk - walk[..., -1:] * way_through(count)
    return held


class DayShapes:
    """The shapes of one kind of day, full or with an early close.

    curves: (CURVES, end+1) share of the day's trades by minute. paths: (PATHS, end+1) wandering of
    the log price in units of a day's sigma, 0 at the open and the close. up, down: (end, PATHS) how
    far a minute's high and low reach beyond its open and close, same unit. gap_done, day_done: (end+1)
    how much of the overnight gap and of the day's change has come.
    """

    def __init__(self, seed: int, close: int, end: int) -> None:
        self.close = close
        self.end = end
        self.weights = minute_weights(close, end)
        rng = generator(seed, 101, close)
        noise = rng.standard_normal((CURVES, end), dtype=np.float32).astype(np.float64) * 0.35
        slow = np.repeat(rng.standard_normal((CURVES, end // 15)), 15, axis=1) * 0.25
        self.curves: F8 = cumulative(self.weights * np.exp(noise + slow))
        steps = rng.standard_normal((PATHS, end), dtype=np.float32).astype(np.float64)
        paths = np.zeros((PATHS, end + 1))
        paths[:, : OPEN_MINUTE + 1] = 0.35 * bridge(steps[:, :OPEN_MINUTE])
        paths[:, OPEN_MINUTE : close + 1] = bridge(steps[:, OPEN_MINUTE:close])
        walk = np.cumsum(steps[:, close:], axis=1) / np.sqrt(end - close)
        paths[:, close + 1 :] = 0.25 * walk
        self.paths: F4 = paths.astype(np.float32)
        reach = rng.standard_normal((2, PATHS, end), dtype=np.float32)
        scale = np.full(end, 0.03, dtype=np.float32)
        scale[OPEN_MINUTE:close] *= np.sqrt(self.weights[OPEN_MINUTE:close] / 2.0)
        # Minute by minute is how the live day reads them.
        self.up: F4 = np.ascontiguousarray((np.abs(reach[0]) * scale).T)
        self.down: F4 = np.ascontiguousarray((np.abs(reach[1]) * scale).T)
        minute = np.arange(end + 1, dtype=np.float64)
        self.gap_done: F8 = np.clip(0.55 + 0.45 * minute / OPEN_MINUTE, 0.0, 1.0)
        self.day_done: F8 = np.clip((minute - OPEN_MINUTE) / (close - OPEN_MINUTE), 0.0, 1.0)

    @functools.cached_property
    def regular(self) -> "RegularShapes":
        """The same from open to close."""
        times, minutes = slice(OPEN_MINUTE, self.close + 1), slice(OPEN_MINUTE, self.close)
        return RegularShapes(
            times,
            np.ascontiguousarray(self.curves[:, times]),
            self.paths[:, times].astype(np.float64),
            np.ascontiguousarray(self.up[minutes].T),
            np.ascontiguousarray(self.down[minutes].T),
            self.day_done[times],
        )


class RegularShapes(NamedTuple):
    """The part of DayShapes from open to close, by path: up and down are (PATHS, minutes)."""

    times: slice
    curves: F8
    paths: F8
    up: F4
    down: F4
    day_done: F8


class SizeShapes:
    """Trade sizes, repeating after SIZE_PERIOD trades: row = level * SIZE_ROWS + a symbol's own choice.

    volume and eligible are sums before trade j: (rows, SIZE_PERIOD+1), flattened; eligible counts the
    trades that are no odd lots.
    """

    WIDTH: Final = SIZE_PERIOD + 1

    def __init__(self, seed: int) -> None:
        rng = generator(seed, 102)
        rows, lots = [], []
        for level in SIZE_LEVELS:
            shape = (SIZE_ROWS, SIZE_PERIOD)
            sizes = level.round_lot * np.clip(np.rint(rng.lognormal(np.log(level.lots) - 0.5, 1.0, shape)), 1, 400)
            odd = rng.integers(1, ODD_LOT, shape)
            rows.append(np.where(rng.random(shape) < level.odd_share, odd, sizes).astype(np.int64))
            lots.append(np.full((SIZE_ROWS, 1), level.round_lot))
        sizes_of = np.concatenate(rows)
        volume = np.zeros((len(sizes_of), self.WIDTH), dtype=np.int64)
        eligible = np.zeros_like(volume)
        np.cumsum(sizes_of, axis=1, out=volume[:, 1:])
        np.cumsum(sizes_of >= np.concatenate(lots), axis=1, out=eligible[:, 1:])
        self.volume: I8 = volume.ravel()
        self.eligible: I8 = eligible.ravel()
        self.volume_total: I8 = volume[:, -1].copy()
        self.eligible_total: I8 = eligible[:, -1].copy()
        self.mean_size: F8 = self.volume_total / SIZE_PERIOD

    def volume_before(self, row: I8, count: I4 | I8) -> I8:
        """Shares of a symbol's first `count` trades."""
        whole, index = self._index(row, count)
        return self._before(self.volume, self.volume_total, row, whole, index)

    def volume_and_eligible(self, row: I8, first: I4 | I8, last: I4 | I8) -> tuple[I8, I8]:
        """Shares of the trades from `first` to `last`, and how many of them are no odd lots."""
        begin, end = self._index(row, first), self._index(row, last)
        of = (self.volume, self.volume_total, row), (self.eligible, self.eligible_total, row)
        volume, eligible = (self._before(*sums, *end) - self._before(*sums, *begin) for sums in of)
        return volume, eligible

    def eligible_before(self, row: I8, count: I4 | I8) -> I8:
        """Returns how many of a symbol's first `count` trades are no odd lots."""
        whole, index = self._index(row, count)
        return self._before(self.eligible, self.eligible_total, row, whole, index)

    def _index(self, row: I8, count: I4 | I8) -> tuple[I4 | I8 | None, I8]:
        """The number of whole periods before the trades (None: none), and the place in `volume` and `eligible`."""
        # Most symbols have no more trades in a day.
        if count.max(initial=0) < SIZE_PERIOD:
            return None, row * self.WIDTH + count
        return count >> 10, row * self.WIDTH + (count & 1023)

    @staticmethod
    def _before(sums: I8, totals: I8, row: I8, whole: I4 | I8 | None, index: I8) -> I8:
        before: I8 = sums.take(index)
        return before if whole is None else whole * totals[row] + before


class Shapes:
    """All libraries of a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.sizes = SizeShapes(seed)
        rng = generator(seed, 103)
        # Within a minute trades come in bursts. Row s: the share of trades by second s, of each curve.
        bursts = rng.gamma(0.6, 1.0, (SECONDS, 60)) + 0.05
        self.seconds: F8 = np.ascontiguousarray(cumulative(bursts).T)

    @functools.cached_property
    def full(self) -> DayShapes:
        return DayShapes(self.seed, FULL_CLOSE_MINUTE, END_MINUTE)

    @functools.cached_property
    def early(self) -> DayShapes:
        return DayShapes(self.seed, EARLY_CLOSE_MINUTE, EARLY_END_MINUTE)

    def of(self, is_early: bool) -> DayShapes:
        return self.early if is_early else self.full
