"""One minute of one symbol, for many at once: the arithmetic that live bars and history share.

All arrays are parallel; the minutes have at least one trade. Sums are of whole trades, so a bar is
exactly the trades that `ticks` makes of the same minute.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np

from services.simulator.hashing import B1, F8, I4, I8, U8
from services.simulator.shapes import SizeShapes

CURVE_BITS: Final = np.uint64(0xFF)
PATH_BITS: Final = np.uint64(0x1FF)


class Choice(NamedTuple):
    """Which library rows a symbol's day takes, of its random bits."""

    curve: I8
    path: I8
    sign: F8
    start: F8


def choose(bits: U8) -> Choice:
    """`start` is where in [0, 1) the first trade's fraction begins: rare trades do not all fall on one minute."""
    return Choice(
        (bits & CURVE_BITS).astype(np.int64),
        ((bits >> np.uint64(8)) & PATH_BITS).astype(np.int64),
        1.0 - 2.0 * ((bits >> np.uint64(17)) & np.uint64(1)).astype(np.float64),
        ((bits >> np.uint64(20)) & np.uint64(0xFFFFF)).astype(np.float64) / 1_048_576.0,
    )


class Bars(NamedTuple):
    """Prices in USD, volumes in shares of their day; `eligible` trades are those that are no odd lots."""

    open: F8
    high: F8
    low: F8
    close: F8
    volume: I8
    vwap: F8
    trades: I8
    eligible: I8


def ticks_per_dollar(price: F8) -> F8:
    """100 from 1 USD on, 10,000 below."""
    return np.where(price >= 1.0, 100.0, 10_000.0)


def to_tick(price: F8, per_dollar: F8) -> F8:
    """The nearest price on the grid, at least one tick."""
    return np.maximum(np.rint(price * per_dollar), 1.0) / per_dollar


def make_bars(
    sizes: SizeShapes,
    row: I8,
    first: I4 | I8,
    last: I4 | I8,
    log_open: F8,
    log_close: F8,
    reach: Callable[[I8], tuple[F8, F8]],
) -> Bars:
    """Bars of the trades `first` to `last` of the day (counts before and after the minute).

    `reach` gives, for places in the arrays, the log distances that high and low reach beyond open and close. Odd lots
    set no price: a minute of nothing else stands still at its open.
    """
    start, end = np.exp(log_open), np.exp(log_close)
    grid = ticks_per_dollar(np.minimum(start, end))
    volume, eligible = sizes.volume_and_eligible(row, first, last)
    opened = to_tick(start, grid)
    closed = np.where(eligible >= 2, to_tick(end, grid), opened)
    high, low = np.maximum(opened, closed), np.minimum(opened, closed)
    # Most minutes have fewer trades.
    at = np.flatnonzero(eligible >= 3)
    up, down = reach(at)
    on, until, grid = log_open[at], log_close[at], grid[at]
    high[at] = np.maximum(high[at], to_tick(np.exp(np.maximum(on, until) + up), grid))
    bottom = np.minimum(low[at], to_tick(np.exp(np.minimum(on, until) - down), grid))
    low[at] = np.where(eligible[at] >= 4, bottom, low[at])
    vwap = np.rint((opened + high + low + closed) * 2_500.0) / 10_000.0
    np.maximum(vwap, low, out=vwap)
    np.minimum(vwap, high, out=vwap)
    return Bars(opened, high, low, closed, volume, vwap, np.subtract(last, first, dtype=np.int64), eligible)


def take(bars: Bars, where: "B1 | I8") -> Bars:
    """Some of the bars."""
    return Bars._make(column[where] for column in bars)


def join(bars: Bars, first: I8) -> Bars:
    """One bar of the minutes from each of `first` (the first is 0) to the next."""
    last = np.append(first[1:], len(bars.open)) - 1

    def total(whole: I8) -> I8:
        # Faster than a sum of each part, and as exact: these are whole numbers.
        sums = np.cumsum(whole)
        parts: I8 = sums[last] - sums[first] + whole[first]
        return parts

    volume = total(bars.volume)
    high, low = np.maximum.reduceat(bars.high, first), np.minimum.reduceat(bars.low, first)
    vwap = np.rint(np.add.reduceat(bars.vwap * bars.volume, first) / volume * 1e4) / 1e4
    np.maximum(vwap, low, out=vwap)
    np.minimum(vwap, high, out=vwap)
    return Bars(
        bars.open[first],
        high,
        low,
        bars.close[last],
        volume,
        vwap,
        total(bars.trades),
        total(bars.eligible),
    )
