"""The past of one symbol, or one day of all: the same plan read along the other axis."""

from typing import NamedTuple

import numpy as np

from services.simulator.calendar import CLOSE_MINUTE, END_MINUTE, MINUTE_NS, OPEN_MINUTE
from services.simulator.hashing import F8, I8
from services.simulator.market_day import DaySums, MarketDay
from services.simulator.minutes import Bars, choose, make_bars
from services.simulator.plan import DayPlan, Plans


class SymbolMinutes(NamedTuple):
    """The minutes of one symbol in which it traded, in order; day and minute as in TradingDay."""

    day: I8
    minute: I8
    start_ms: I8
    bars: Bars


def symbol_minutes(plans: Plans, symbol: int, days: list[DayPlan], adjusted: bool = True) -> SymbolMinutes:
    """All minutes of `days`; adjusted = in shares and prices of the current day."""
    count = len(days)
    curves = np.ones((count, END_MINUTE + 1))
    paths = np.zeros((count, END_MINUTE + 1))
    up, down = np.zeros((count, END_MINUTE)), np.zeros((count, END_MINUTE))
    gap_done, day_done = np.ones((count, END_MINUTE + 1)), np.ones((count, END_MINUTE + 1))
    sigma = float(plans.universe.sigma[symbol])
    base, gap, move, scale, start, trades, factor = np.zeros((7, count))
    reach = np.full(count, sigma)
    one = np.array([symbol], dtype=np.int64)
    for i, plan in enumerate(days):
        shapes, end = plans.shapes.of(plan.day.is_early), plan.day.end_minute
        chosen = choose(plans.bits(plan, one))
        factor[i] = plans.factor(symbol, plan.day.index)
        before, opening = float(plan.before[symbol]), float(plan.open[symbol])
        base[i], trades[i], start[i] = before, plan.trades[symbol], chosen.start[0]
        path_row = int(chosen.path[0])
        up[i, :end], down[i, :end] = shapes.up[path_row], shapes.down[path_row]
        if symbol in plan.stories or symbol in plan.late:
            own = plans.own_shape(plan, symbol)
            curves[i, : end + 1], paths[i, : end + 1], scale[i] = own.curve, own.path, 1.0
            if symbol in plan.stories:
                reach[i] = max(0.05, sigma)
        else:
            curves[i, : end + 1], paths[i, : end + 1] = shapes.curves[chosen.curve[0]], shapes.paths[path_row]
            gap_done[i, : end + 1], day_done[i, : end + 1] = shapes.gap_done, shapes.day_done
            gap[i], move[i], scale[i] = opening - before, float(plan.close[symbol]) - opening, sigma * chosen.sign[0]
    base -= np.log(factor)
    counts = np.floor(trades[:, None] * curves + start[:, None]).astype(np.int64)
    day, minute = np.nonzero(counts[:, 1:] > counts[:, :-1])

    def log_price(at: I8) -> F8:
        done = base[day] + gap[day] * gap_done[day, at]
        price: F8 = done + move[day] * day_done[day, at] + scale[day] * paths[day, at]
        return price

    row = np.full(len(day), plans.universe.size_row[symbol])
    bars = make_bars(
        plans.shapes.sizes,
        row,
        counts[day, minute],
        counts[day, minute + 1],
        log_price(minute),
        log_price(minute + 1),
        reach[day] * up[day, minute],
        reach[day] * down[day, minute],
    )
    if adjusted:
        bars = adjust(bars, (factor / plans.factor(symbol, plans.current.day.index))[day])
    starts = np.array([plan.day.start_ns // 1_000_000 for plan in days], dtype=np.int64)
    index = np.array([plan.day.index for plan in days], dtype=np.int64)
    return SymbolMinutes(index[day], minute, starts[day] + minute * (MINUTE_NS // 1_000_000), bars)


def adjust(bars: Bars, ratio: F8) -> Bars:
    """Bars in the shares of another day, of which one is `1 / ratio` of theirs... prices times `ratio`."""
    if np.all(ratio == 1.0):
        return bars
    prices = [np.where(ratio == 1.0, p, np.rint(p * ratio * 1e4) / 1e4) for p in (bars.open, bars.high, bars.low, bars.close)]
    vwap = np.where(ratio == 1.0, bars.vwap, np.rint(bars.vwap * ratio * 1e4) / 1e4)
    volume = np.maximum(np.rint(bars.volume / ratio), 1.0).astype(np.int64)
    return Bars(*prices, volume, vwap, bars.trades, bars.eligible)


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


def is_regular(minutes: SymbolMinutes, early_days: set[int]) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
    """Which of them lie between open and close."""
    close = np.full(len(minutes.day), CLOSE_MINUTE)
    if early_days:
        close[np.isin(minutes.day, list(early_days))] = 540
    return (minutes.minute >= OPEN_MINUTE) & (minutes.minute < close)


def day_sums(plans: Plans, plan: DayPlan) -> DaySums:
    """The regular hours of all symbols on one day."""
    market_day = MarketDay(plans, plan)
    market_day.skip_to(OPEN_MINUTE)
    market_day.replay(plan.day.close_minute)
    return market_day.sums
