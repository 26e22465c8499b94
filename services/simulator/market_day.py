"""The current day over all symbols: what has traded by each minute, and the day's sums so far."""

from typing import NamedTuple

import numpy as np

from services.simulator.calendar import OPEN_MINUTE
from services.simulator.day_columns import DayColumns
from services.simulator.hashing import F8, I8, U8, key, mix
from services.simulator.minutes import Bars, make_bars
from services.simulator.plan import DayPlan, Plans
from services.simulator.shapes import SECONDS
from services.simulator.stories import Halt


class Minute(NamedTuple):
    """One minute: the symbols that trade in it, and their bars (parallel to `symbols`).

    before, after: all symbols' counts of trades at its start and end. bits: random ones of all
    symbols. place: where a symbol is in `symbols`, valid for those that trade.
    """

    number: int
    symbols: I8
    bars: Bars
    before: I8
    after: I8
    bits: U8
    place: I8


class DaySums:
    """The day up to a minute, one element a symbol; of regular hours where the name has `regular`."""

    def __init__(self, count: int) -> None:
        self.volume = np.zeros(count, dtype=np.int64)
        self.trades = np.zeros(count, dtype=np.int64)
        self.dollars = np.zeros(count)
        self.open = np.zeros(count)
        self.high = np.zeros(count)
        self.low = np.full(count, np.inf)
        self.close = np.zeros(count)
        self.regular_volume = np.zeros(count, dtype=np.int64)
        self.regular_dollars = np.zeros(count)
        self.regular_trades = np.zeros(count, dtype=np.int64)
        # The newest minute with trades, whenever it was: -1 before the first.
        self.last_minute = np.full(count, -1, dtype=np.int64)
        floats = [np.zeros(count) for _ in range(5)]
        whole = [np.zeros(count, dtype=np.int64) for _ in range(3)]
        self.last = Bars(floats[0], floats[1], floats[2], floats[3], whole[0], floats[4], whole[1], whole[2])

    def add(self, minute: Minute, close_minute: int) -> None:
        """Adds a whole minute to the sums; minutes follow in order."""
        at, bars = minute.symbols, minute.bars
        dollars = bars.vwap * bars.volume
        self.volume[at] += bars.volume
        self.trades[at] += bars.trades
        self.dollars[at] += dollars
        self.last_minute[at] = minute.number
        for kept, column in zip(self.last, bars, strict=True):
            kept[at] = column
        if OPEN_MINUTE <= minute.number < close_minute:
            self.open[at] = np.where(self.open[at] == 0.0, bars.open, self.open[at])
            self.high[at] = np.maximum(self.high[at], bars.high)
            self.low[at] = np.minimum(self.low[at], bars.low)
            self.close[at] = bars.close
            self.regular_volume[at] += bars.volume
            self.regular_dollars[at] += dollars
            self.regular_trades[at] += bars.trades


class MarketDay:
    """A day's columns: `minute(m)` gives any minute, `sums` those before `next_minute`."""

    def __init__(self, plans: Plans, plan: DayPlan) -> None:
        shapes = plans.shapes.of(plan.day.is_early)
        columns = DayColumns.of(plans, plan)
        self.plan = plan
        self.day = plan.day
        self._sizes = plans.shapes.sizes
        self._seconds = plans.shapes.seconds
        self.size_row = plans.universe.size_row
        self.bits = columns.bits
        self._base, self._gap, self._move = columns.base, columns.gap, columns.move
        self._reach, self._scale = columns.reach, columns.scale
        self._start, self._trades = columns.start, columns.trades
        self._shapes = shapes
        self._up, self._down = shapes.up, shapes.down
        self._reach_row = columns.path
        # The symbols' own rows follow those of the libraries.
        symbols, own = columns.own_symbols, columns.own
        self._curve_row, self._path_row = columns.curve, columns.path.copy()
        self._curve_row[symbols] = len(shapes.curves) + np.arange(len(symbols))
        self._path_row[symbols] = len(shapes.paths) + np.arange(len(symbols))
        self.halts: dict[int, tuple[Halt, ...]] = {
            symbol: halts for symbol, halts in zip(symbols.tolist(), own.halts, strict=True) if halts
        }
        # Column by column is how they are read.
        self._curves = np.ascontiguousarray(np.concatenate([shapes.curves, own.curves]).T)
        self._paths = np.ascontiguousarray(np.concatenate([shapes.paths, own.paths]).T)
        self.sums = DaySums(plans.universe.count)
        self.next_minute = 0
        self._counts = self.counts(0)
        self._log_price = self._next_log_price = self.log_price(0)

    def counts(self, minute: int) -> I8:
        """Returns each symbol's number of trades before a minute."""
        counts: I8 = np.floor(self._trades * self._curves[minute][self._curve_row] + self._start).astype(np.int64)
        return counts

    def log_price(self, minute: int) -> F8:
        """Log of each symbol's price at the beginning of a minute."""
        shapes = self._shapes
        done = self._base + self._gap * shapes.gap_done[minute]
        price: F8 = done + self._move * shapes.day_done[minute] + self._scale * self._paths[minute][self._path_row]
        return price

    def begin_minute(self) -> Minute:
        """Returns the next minute; `end_minute` adds it to the sums."""
        number = self.next_minute
        before, after = self._counts, self.counts(number + 1)
        symbols = np.flatnonzero(after > before)
        self._next_log_price = self.log_price(number + 1)
        up, down, rows, reaches = self._up[number], self._down[number], self._reach_row[symbols], self._reach[symbols]

        def reach(at: I8) -> tuple[F8, F8]:
            return reaches[at] * up[rows[at]], reaches[at] * down[rows[at]]

        bars = make_bars(
            self._sizes,
            self.size_row[symbols],
            before[symbols],
            after[symbols],
            self._log_price[symbols],
            self._next_log_price[symbols],
            reach,
        )
        place = np.zeros(len(before), dtype=np.int64)
        place[symbols] = np.arange(len(symbols))
        bits = mix(self.bits + np.uint64(key(13, number)))
        return Minute(number, symbols, bars, before, after, bits, place)

    def end_minute(self, minute: Minute) -> None:
        """The minute that began last is over."""
        self.sums.add(minute, self.day.close_minute)
        self._counts = minute.after
        self._log_price = self._next_log_price
        self.next_minute = minute.number + 1

    def replay(self, until: int) -> None:
        """Jumps ahead to a minute."""
        while self.next_minute < until:
            self.end_minute(self.begin_minute())

    def counts_within(self, minute: Minute, second: int) -> I8:
        """Counts of all symbols when second 0 to 60 of a minute begins."""
        if second == 0:
            return minute.before
        if second == 60:
            return minute.after
        curve = (minute.bits >> np.uint64(40)) % np.uint64(SECONDS)
        part = self._seconds[second][curve.astype(np.int64)]
        low = self._trades * self._curves[minute.number][self._curve_row]
        high = self._trades * self._curves[minute.number + 1][self._curve_row]
        counts = np.floor(low + (high - low) * part + self._start).astype(np.int64)
        held: I8 = np.clip(counts, minute.before, minute.after)
        return held
