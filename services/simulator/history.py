"""The past of one symbol, or one day of all: the same plan read along the other axis."""

from typing import NamedTuple

import numpy as np

from services.simulator.calendar import CLOSE_MINUTE, EARLY_CLOSE_MINUTE, MINUTE_NS, OPEN_MINUTE
from services.simulator.day_columns import STORY_REACH
from services.simulator.hashing import B1, F8, I8, MASK, STRIDE, mix
from services.simulator.minutes import Bars, choose, join, make_bars, take
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
    keys = np.array([plan.key for plan in days], dtype=np.uint64)
    chosen = choose(mix(keys + np.uint64(symbol * STRIDE & MASK)))
    sigma = float(plans.universe.sigma[symbol])
    curves, paths = shapes.curves[chosen.curve], shapes.paths[chosen.path]
    before = np.array([plan.before.item(symbol) for plan in days])
    opening = np.array([plan.open.item(symbol) for plan in days])
    gap, move = opening - before, np.array([plan.close.item(symbol) for plan in days]) - opening
    trades = np.array([plan.trades.item(symbol) for plan in days])
    factor = plans.factors_of(symbol, days)
    scale, reach = sigma * chosen.sign, np.full(len(days), sigma)
    if own_days := [i for i, plan in enumerate(days) if plan.has_own_shape(symbol)]:
        own = plans.own_shapes(days[0].day.is_early, [(days[i], symbol) for i in own_days])
        curves[own_days], paths[own_days], scale[own_days] = own.curves, own.paths, 1.0
        gap[own_days] = move[own_days] = 0.0
        for i in own_days:
            if symbol in days[i].stories:
                reach[i] = max(STORY_REACH, sigma)
    curves *= trades[:, None]
    curves += chosen.start[:, None]
    # Rounded down: no number of trades is negative.
    counts = curves.astype(np.int32)
    log = gap[:, None] * shapes.gap_done
    log += (before - np.log(factor))[:, None]
    log += move[:, None] * shapes.day_done
    log += scale[:, None] * paths
    # A minute's cell is the number of its beginning in the flattened array, so that cell + 1 is its end.
    flat_counts, flat_log = counts.ravel(), log.ravel()
    is_traded = np.zeros(counts.shape, dtype=np.bool_)
    np.greater(counts[:, 1:], counts[:, :-1], out=is_traded[:, :-1])
    cell = np.flatnonzero(is_traded)
    day = cell // counts.shape[1]
    minute = cell - day * counts.shape[1]

    def reaches(at: I8) -> tuple[F8, F8]:
        of, place = day[at], minute[at]
        library = place * PATHS + chosen.path[of]
        return reach[of] * shapes.up.take(library), reach[of] * shapes.down.take(library)

    bars = make_bars(
        plans.shapes.sizes,
        plans.universe.size_row[symbol : symbol + 1],
        flat_counts.take(cell),
        flat_counts[1:].take(cell),
        flat_log.take(cell),
        flat_log[1:].take(cell),
        reaches,
    )
    if adjusted:
        ratio = factor / plans.factor(symbol, plans.current.day.number)
        if (ratio != 1.0).any():
            bars = adjust(bars, ratio[day])
    starts = np.array([plan.day.start_ns // 1_000_000 for plan in days], dtype=np.int64)
    index = np.array([plan.day.number for plan in days], dtype=np.int64)
    return SymbolMinutes(index[day], minute, starts[day] + minute * (MINUTE_NS // 1_000_000), bars)


def adjust(bars: Bars, ratio: F8) -> Bars:
    """Bars in the shares of another day, after a split: prices times `ratio`, volumes divided by it."""
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
    return SymbolMinutes(minutes.day[first], minutes.minute[first], minutes.start_ms[first], join(minutes.bars, first))


def is_regular(minutes: SymbolMinutes, early_days: set[int]) -> B1:
    """Which of them lie between open and close."""
    close = np.full(len(minutes.day), CLOSE_MINUTE)
    if early_days:
        close[np.isin(minutes.day, list(early_days))] = EARLY_CLOSE_MINUTE
    return (minutes.minute >= OPEN_MINUTE) & (minutes.minute < close)
