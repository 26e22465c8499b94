"""Daily bars of all symbols at once: whole days of a few symbols at a time, without making every minute's bar."""

import itertools
from typing import Final, NamedTuple

import numpy as np

from services.simulator.calendar import CLOSE_MINUTE, EARLY_CLOSE_MINUTE, OPEN_MINUTE
from services.simulator.day_columns import DayColumns
from services.simulator.hashing import B1, F8, I4, I8
from services.simulator.market_day import DaySums
from services.simulator.minutes import join, make_bars, ticks_per_dollar, to_tick
from services.simulator.plan import DayPlan, Plans

# Minutes between the prices of which the day's average is made.
VWAP_STEP: Final = 5
# Prices so near to 1 USD (as logs) that their ticks may change within the day.
NEAR_ONE_DOLLAR: Final = 0.05
# So few that their minutes stay in the processor's cache from step to step.
SYMBOLS_AT_ONCE: Final = 256
MINUTES_AT_ONCE: Final = 8_192


class DailyBars(NamedTuple):
    """Regular hours, unadjusted; trades 0 where a symbol did not trade."""

    open: F8
    high: F8
    low: F8
    close: F8
    volume: I8
    vwap: F8
    trades: I8

    @classmethod
    def of_sums(cls, sums: DaySums) -> "DailyBars":
        """Of a day that was played minute by minute."""
        vwap = np.rint(sums.regular_dollars / np.maximum(sums.regular_volume, 1) * 1e4) / 1e4
        return cls(sums.open, sums.high, sums.low, sums.close, sums.regular_volume, vwap, sums.regular_trades)


def daily_bars(plans: Plans, plan: DayPlan) -> DailyBars:
    """A past day's bars. Rounding to ticks keeps the order of prices, so only the extremes are rounded.

    The average price is taken every VWAP_STEP minutes, weighted by the volume in between.
    """
    hours = _RegularHours(plans, plan)
    sums = _Sums(hours, plans.universe.count)
    for first in range(0, plans.universe.count, SYMBOLS_AT_ONCE):
        sums.add(hours.order[first : first + SYMBOLS_AT_ONCE])
    sums.settle()
    high, low, volume, traded = sums.high, sums.low, sums.volume, sums.trades > 0
    top, bottom = _round(high, traded), _round(low, traded)
    vwap = np.clip(np.rint(sums.dollars / np.maximum(volume, 1) * 1e4) / 1e4, bottom, top)
    opened, closed = _round(sums.open, traded), _round(sums.close, traded)
    result = DailyBars(opened, top, bottom, closed, volume, vwap, sums.trades)
    near = np.flatnonzero(traded & (high > -NEAR_ONE_DOLLAR) & (low < NEAR_ONE_DOLLAR))
    for place in range(0, len(near), SYMBOLS_AT_ONCE):
        _replace(result, hours, near[place : place + SYMBOLS_AT_ONCE])
    return result


def _round(log_price: F8, traded: B1) -> F8:
    price = np.exp(np.where(traded, log_price, 0.0))
    return np.where(traded, to_tick(price, ticks_per_dollar(price)), 0.0)


def _replace(bars: DailyBars, hours: "_RegularHours", symbols: I8) -> None:
    """Makes the bars of some symbols, which have traded, of their minutes."""
    counts, log = hours.grid(symbols)
    row, minute = np.nonzero(counts[:, 1:] > counts[:, :-1])
    of = symbols[row]
    minutes = make_bars(
        hours.sizes,
        hours.size_row[of],
        counts[row, minute],
        counts[row, minute + 1],
        log[row, minute],
        log[row, minute + 1],
        lambda at: hours.reach(of[at], minute[at]),
    )
    joined = join(minutes, np.searchsorted(row, np.arange(len(symbols))))
    for name in bars._fields:
        getattr(bars, name)[symbols] = getattr(joined, name)


class _RegularHours:
    """The minutes of a day from open to close; `order` are the symbols, those with a path of the libraries together."""

    def __init__(self, plans: Plans, plan: DayPlan) -> None:
        shapes = self._shapes = plans.shapes.of(plan.day.is_early).regular
        columns = self._columns = DayColumns.of(plans, plan)
        self.sizes = plans.shapes.sizes
        self.size_row = plans.universe.size_row
        self.order = np.argsort(columns.path, kind="stable")
        self.width = len(shapes.day_done)
        longest = np.maximum(shapes.up.max(axis=1), shapes.down.max(axis=1))
        self.longest_reach = columns.reach * longest[columns.path]
        # All of the gap has come.
        self._opening = columns.base + columns.gap
        self._own_place = np.full(plans.universe.count, -1)
        self._own_place[columns.own_symbols] = np.arange(len(columns.own_symbols))
        self._trades, self._log = np.empty((2, SYMBOLS_AT_ONCE, self.width))
        self._counts = np.empty((SYMBOLS_AT_ONCE, self.width), dtype=np.int32)

    def grid(self, symbols: I8) -> tuple[I4, F8]:
        """Returns the number of trades before each minute, and the log of the price.

        A row a symbol, and a column for the beginning of each minute and one for the close. Valid until the next call.
        """
        shapes, columns, some = self._shapes, self._columns, slice(len(symbols))
        trades, log, counts = self._trades[some], self._log[some], self._counts[some]
        np.take(shapes.curves, columns.curve[symbols], axis=0, out=trades, mode="clip")
        path, scale = columns.path[symbols], columns.scale[symbols, None]
        edges = [0, *(np.flatnonzero(path[1:] != path[:-1]) + 1).tolist(), len(symbols)]
        for first, stop in itertools.pairwise(edges):
            np.multiply(scale[first:stop], shapes.paths[path[first]], out=log[first:stop])
        own_place = self._own_place[symbols]
        for row in np.flatnonzero(own_place >= 0).tolist():
            trades[row] = columns.own.curves[own_place[row], shapes.times]
            log[row] = columns.own.paths[own_place[row], shapes.times]
        trades *= columns.trades[symbols, None]
        trades += columns.start[symbols, None]
        np.copyto(counts, trades, casting="unsafe")
        move = np.multiply(columns.move[symbols, None], shapes.day_done, out=trades)
        move += self._opening[symbols, None]
        log += move
        return counts, log

    def reach(self, symbols: I8, minute: I8) -> tuple[F8, F8]:
        """How far the minutes' highs and lows reach beyond their opens and closes; minutes count from the open."""
        shapes, reach = self._shapes, self._columns.reach[symbols]
        cell = self._columns.path[symbols] * shapes.up.shape[1] + minute
        return reach * shapes.up.take(cell), reach * shapes.down.take(cell)

    def eligible(self, symbols: I8, before: I4, after: I4) -> I8:
        """Returns how many of some trades are no odd lots."""
        row = self.size_row[symbols]
        return self.sizes.eligible_before(row, after) - self.sizes.eligible_before(row, before)


class _Minutes(NamedTuple):
    """Some symbols' minutes: trades before it and its end, log prices at its beginning and end."""

    symbols: I8
    minute: I8
    before: I4
    after: I4
    start: F8
    end: F8


class _Sums:
    """The day of each symbol, prices as logs before they are rounded; 0 where there was no trade."""

    def __init__(self, hours: _RegularHours, count: int) -> None:
        self._hours = hours
        self.open, self.high, self.low, self.close, self.dollars = np.zeros((5, count))
        self.volume, self.trades = np.zeros((2, count), dtype=np.int64)
        self._last: list[_Minutes] = []
        self._near: list[_Minutes] = []
        self._waiting = 0
        self._dollars = np.zeros((hours.width // VWAP_STEP, SYMBOLS_AT_ONCE))
        self._steps = np.empty((SYMBOLS_AT_ONCE, hours.width), dtype=np.int32)

    def add(self, symbols: I8) -> None:
        """Adds some symbols' day, but for what `settle` adds: that is done for more of them at a time."""
        counts, log = self._hours.grid(symbols)
        self.trades[symbols] = counts[:, -1] - counts[:, 0]
        self._add_prices(symbols, counts, log)
        shares = self._hours.sizes.volume_before(
            self._hours.size_row[symbols, None], np.ascontiguousarray(counts[:, ::VWAP_STEP])
        )
        self.volume[symbols] = shares[:, -1] - shares[:, 0]
        # The price at the beginning of each step's last minute.
        price = np.exp(log[:, VWAP_STEP - 1 :: VWAP_STEP])
        # Summed step after step: along a row, a sum of numpy's would add in another order.
        np.multiply(price.T, (shares[:, 1:] - shares[:, :-1]).T, out=self._dollars[:, : len(symbols)])
        self.dollars[symbols] = self._dollars.sum(axis=0)[: len(symbols)]
        if self._waiting > MINUTES_AT_ONCE:
            self.settle()

    def _add_prices(self, symbols: I8, counts: I4, log: F8) -> None:
        # A minute's cell is the number of its beginning in the flattened grid, so that cell + 1 is its end.
        count, width = log.shape
        flat_counts, flat_log, step = counts.ravel(), log.ravel(), self._steps[:count]
        np.subtract(flat_counts[1:], flat_counts[:-1], out=step.ravel()[:-1])
        # No minute begins at the close.
        step[:, -1] = 0
        row_ends = np.arange(1, count + 1) * width

        def minutes(cells: I8, row: I8) -> _Minutes:
            return _Minutes(
                symbols[row],
                cells - row * width,
                flat_counts[cells],
                flat_counts[cells + 1],
                flat_log[cells],
                flat_log[cells + 1],
            )

        cells = np.flatnonzero(step > 0)
        ends = np.searchsorted(cells, row_ends)
        per_row = np.diff(ends, prepend=0)
        if not len(rows := np.flatnonzero(per_row)):
            return
        prices, starts = flat_log.take(cells), ends[rows] - per_row[rows]
        self.open[symbols[rows]] = prices[starts]
        self._last.append(minutes(cells[ends[rows] - 1], rows))
        high, low = np.zeros((2, count))
        high[rows], low[rows] = np.maximum.reduceat(prices, starts), np.minimum.reduceat(prices, starts)
        self.high[symbols], self.low[symbols] = high, low
        # Only a minute of two trades and more reaches beyond its open, and only so far.
        cells = np.flatnonzero(step > 1)
        per_row = np.diff(np.searchsorted(cells, row_ends), prepend=0)
        start, end = flat_log.take(cells), flat_log[1:].take(cells)
        # A little further, so that rounding loses none.
        reach = 1.001 * self._hours.longest_reach[symbols]
        is_near = np.maximum(start, end) > np.repeat(high - reach, per_row)
        is_near |= np.minimum(start, end) < np.repeat(low + reach, per_row)
        cells = cells[is_near]
        self._near.append(minutes(cells, cells // width))
        self._waiting += len(cells)

    def settle(self) -> None:
        """Adds how far the minutes that wait reach beyond their opens, as `make_bars` has it, and the closes."""
        hours = self._hours
        if not self._last:
            return
        last = _Minutes._make(map(np.concatenate, zip(*self._last, strict=True)))
        moved = hours.eligible(last.symbols, last.before, last.after) >= 2
        self.close[last.symbols] = np.where(moved, last.end, last.start)
        near = _Minutes._make(map(np.concatenate, zip(*self._near, strict=True)))
        up, down = hours.reach(near.symbols, near.minute)
        top, bottom = np.maximum(near.start, near.end), np.minimum(near.start, near.end)
        highest, lowest = top + up, bottom - down
        at = np.flatnonzero((highest > self.high[near.symbols]) | (lowest < self.low[near.symbols]))
        symbols, start, top, bottom = near.symbols[at], near.start[at], top[at], bottom[at]
        able = hours.eligible(symbols, near.before[at], near.after[at])
        highest = np.where(able >= 3, highest[at], np.where(able == 2, top, start))
        lowest = np.where(able >= 4, lowest[at], np.where(able >= 2, bottom, start))
        np.maximum.at(self.high, symbols, highest)
        np.minimum.at(self.low, symbols, lowest)
        self._last, self._near, self._waiting = [], [], 0


assert (CLOSE_MINUTE - OPEN_MINUTE) % VWAP_STEP == (EARLY_CLOSE_MINUTE - OPEN_MINUTE) % VWAP_STEP == 0
