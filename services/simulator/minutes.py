"""One minute of one symbol, for many at once: the arithmetic that live bars and history share.

All arrays are parallel; the minutes have at least one trade. Sums are of whole trades, so a bar is
exactly the trades that `ticks` makes of the same minute.
"""

from typing import Final, NamedTuple

import numpy as np

from services.simulator.hashing import B1, F8, I8, U8
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


def make_bars(sizes: SizeShapes, row: I8, first: I8, last: I8, log_open: F8, log_close: F8, up: F8, down: F8) -> Bars:
    """Bars of the trades `first` to `last` of the day (counts before and after the minute).

    `up` and `down` are log distances that high and low reach beyond open and close. Odd lots set no
    price: a minute of nothing else stands still at its open.
    """
    start, end = np.exp(log_open), np.exp(log_close)
    grid = ticks_per_dollar(np.minimum(start, end))
    eligible = sizes.eligible_before(row, last) - sizes.eligible_before(row, first)
    opened = to_tick(start, grid)
    closed = np.where(eligible >= 2, to_tick(end, grid), opened)
    high, low = np.maximum(opened, closed), np.minimum(opened, closed)
    high = np.where(eligible >= 3, np.maximum(high, to_tick(np.exp(np.maximum(log_open, log_close) + up), grid)), high)
    low = np.where(eligible >= 4, np.minimum(low, to_tick(np.exp(np.minimum(log_open, log_close) - down), grid)), low)
    volume = sizes.volume_before(row, last) - sizes.volume_before(row, first)
    vwap = np.rint((opened + high + low + closed) * 2_500.0) / 10_000.0
    return Bars(opened, high, low, closed, volume, np.clip(vwap, low, high), last - first, eligible)


def take(bars: Bars, where: "B1 | I8") -> Bars:
    """Some of the bars."""
    return Bars._make(column[where] for column in bars)
