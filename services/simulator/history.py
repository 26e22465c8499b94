"""The past of one symbol, or one day of all: the same plan read along the other axis."""

from typing import NamedTuple

import numpy as np

from services.simulator.calendar import CLOSE_MINUTE, EARLY_CLOSE_MINUTE, MINUTE_NS, OPEN_MINUTE
from services.simulator.hashing import B1, F8, I8, MASK, STRIDE, mix
from services.simulator.market_day import STORY_REACH
from services.simulator.minutes import Bars, choose, make_bars, take
from services.simulator.plan import DayPlan, Plans
from services.simulator.shapes import PATHS


class SymbolMinutes(NamedTuple):
    """The minutes of one symbol in which it traded, in order; day and minute as in TradingDay."""

    day: I8
    minute: I8
    start_ms: I8
    bars: Bars

    def only(self, keep: B1) -> "SymbolMinutes":
        """Some of them."""
        return SymbolMinutes(self.day[keep], self.minute[keep], self.start_ms[keep], take(self.bars, keep))


def symbol_minutes(plans: Plans, symbol: int, days: list[DayPlan], adjusted: bool = True) -> SymbolMinutes:
    """All minutes of `days`; adjusted = in shares and prices of the current day."""
    early = [plan for plan in days if plan.day.is_early]
    if not early:
        return _symbol_minutes(plans, symbol, days, adjusted)
    parts = [_symbol_minutes(plans, symbol, early, adjusted)]
    if full := [plan for plan in days if not plan.day.is_early]:
        parts.append(_symbol_minutes(plans, symbol, full, adjusted))
    order = np.argsort(np.concatenate([part.start_ms for part in parts]), kind="stable")
    return SymbolMinutes(
        np.concatenate([part.day for part in parts])[order],
        np.concatenate([part.minute for part in parts])[order],
        np.concatenate([part.start_ms for part in parts])[order],
        Bars._make(np.concatenate(columns)[order] for columns in zip(*(part.bars for part in parts), strict=True)),
    )


def _symbol_minutes(plans: Plans, symbol: int, days: list[DayPlan], adjusted: bool) -> SymbolMinutes:
    """The same of days that are all full, or all early closes."""
    shapes = plans.shapes.of(days[0].day.is_early)
    count = len(days)
    keys = np.array([plan.key for plan in days], dtype=np.uint64)
    chosen = choose(mix(keys + np.uint64(symbol * STRIDE & MASK)))
    sigma = float(plans.universe.sigma[symbol])
    curves = shapes.curves[chosen.curve]
    paths = shapes.paths[chosen.path].astype(np.float64)
    before = np.array([plan.before[symbol] for plan in days], dtype=np.float64)
    opening = np.array([plan.open[symbol] for plan in days], dtype=np.float64)
    gap, move = opening - before, np.array([plan.close[symbol] for plan in days], dtype=np.float64) - opening
    trades = np.array([plan.trades[symbol] for plan in days], dtype=np.float64)
    factor = np.array([plans.factor(symbol, plan.day.number) for plan in days])
    scale, reach = sigma * chosen.sign, np.full(count, sigma)
    for i, plan in enumerate(days):
        if plan.has_own_shape(symbol):
            own = plans.own_shape(plan, symbol)
            curves[i], paths[i], scale[i] = own.curve, own.path, 1.0
            gap[i] = move[i] = 0.0
            if symbol in plan.stories:
                reach[i] = max(STORY_REACH, sigma)
    base = before - np.log(factor)
    counts = np.floor(trades[:, None] * curves + chosen.start[:, None]).astype(np.int64)
    cell = np.flatnonzero(counts[:, 1:] > counts[:, :-1])
    day, minute = np.divmod(cell, shapes.end)
    # The same cell in an array with one column more.
    wide = cell + day

    def log_price(later: int) -> F8:
        at = minute + later
        price: F8 = (
            base[day]
            + gap[day] * shapes.gap_done[at]
            + move[day] * shapes.day_done[at]
            + scale[day] * paths.ravel()[wide + later]
        )
        return price

    row = np.full(len(day), plans.universe.size_row[symbol])
    library = minute * PATHS + chosen.path[day]
    bars = make_bars(
        plans.shapes.sizes,
        row,
        counts.ravel()[wide],
        counts.ravel()[wide + 1],
        log_price(0),
        log_price(1),
        reach[day] * shapes.up.ravel()[library],
        reach[day] * shapes.down.ravel()[library],
    )
    if adjusted:
        bars = adjust(bars, (factor / plans.factor(symbol, plans.current.day.number))[day])
    starts = np.array([plan.day.start_ns // 1_000_000 for plan in days], dtype=np.int64)
    index = np.array([plan.day.number for plan in days], dtype=np.int64)
    return SymbolMinutes(index[day], minute, starts[day] + minute * (MINUTE_NS // 1_000_000), bars)


def adjust(bars: Bars, ratio: F8) -> Bars:
    """Bars in the shares of another day, after a split: prices times `ratio`, volumes divided by it."""
    if np.all(ratio == 1.0):
        return bars
    opened, high, low, close, vwap = (
        adjust_prices(price, ratio) for price in (bars.open, bars.high, bars.low, bars.close, bars.vwap)
    )
    return Bars(opened, high, low, close, adjust_volume(bars.volume, ratio), vwap, bars.trades, bars.eligible)


def adjust_prices(price: F8, ratio: F8) -> F8:
    """Adjusted prices have four decimals."""
    return np.where(ratio == 1.0, price, np.maximum(np.rint(price * ratio * 1e4), 1.0) / 1e4)


def adjust_volume(volume: I8, ratio: F8) -> I8:
    """At least one share."""
    return np.maximum(np.rint(volume / ratio), 1.0).astype(np.int64)


def group(minutes: SymbolMinutes, keys: I8) -> SymbolMinutes:
    """Joins neighbouring minutes with equal keys into one bar that starts with the first of them."""
    if not len(keys):
        return minutes
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    last = np.concatenate([first[1:], [len(keys)]]) - 1
    bars = minutes.bars
    volume = np.add.reduceat(bars.volume, first)
    high, low = np.maximum.reduceat(bars.high, first), np.minimum.reduceat(bars.low, first)
    vwap = np.rint(np.add.reduceat(bars.vwap * bars.volume, first) / volume * 1e4) / 1e4
    joined = Bars(
        bars.open[first],
        high,
        low,
        bars.close[last],
        volume,
        np.clip(vwap, low, high),
        np.add.reduceat(bars.trades, first),
        np.add.reduceat(bars.eligible, first),
    )
    return SymbolMinutes(minutes.day[first], minutes.minute[first], minutes.start_ms[first], joined)


def is_regular(minutes: SymbolMinutes, early_days: set[int]) -> B1:
    """Which of them lie between open and close."""
    close = np.full(len(minutes.day), CLOSE_MINUTE)
    if early_days:
        close[np.isin(minutes.day, list(early_days))] = EARLY_CLOSE_MINUTE
    return (minutes.minute >= OPEN_MINUTE) & (minutes.minute < close)
