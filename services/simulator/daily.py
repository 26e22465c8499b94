"""Daily bars of all symbols at once: the highs and lows of every minute, without making every bar."""

from typing import NamedTuple

import numpy as np

from services.simulator.calendar import CLOSE_MINUTE, OPEN_MINUTE
from services.simulator.hashing import B1, F8, I8
from services.simulator.history import group, is_regular, symbol_minutes
from services.simulator.market_day import DaySums, MarketDay
from services.simulator.minutes import ticks_per_dollar, to_tick
from services.simulator.plan import DayPlan, Plans

# Minutes between the prices of which the day's average is made.
VWAP_STEP = 5
# Prices so near to 1 USD (as logs) that their ticks may change within the day.
NEAR_ONE_DOLLAR = 0.05


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
    day = MarketDay(plans, plan)
    count = plans.universe.count
    sizes = plans.shapes.sizes
    opened, closed, dollars = np.zeros(count), np.zeros(count), np.zeros(count)
    high, low = np.full(count, -np.inf), np.full(count, np.inf)
    log = day.log_price(OPEN_MINUTE)
    first = before = day.counts(OPEN_MINUTE)
    first_volume = shares = sizes.volume_before(day.size_row, before)
    for number in range(OPEN_MINUTE, plan.day.close_minute):
        after = day.counts(number + 1)
        at = np.flatnonzero(after > before)
        next_log = day.log_price(number + 1)
        start, end, top, bottom = day.log_range(number, at, before[at], after[at], log[at], next_log[at])
        high[at] = np.maximum(high[at], top)
        low[at] = np.minimum(low[at], bottom)
        is_first = before[at] == first[at]
        opened[at[is_first]] = start[is_first]
        closed[at] = end
        if (number + 1 - OPEN_MINUTE) % VWAP_STEP == 0:
            later = sizes.volume_before(day.size_row, after)
            dollars += np.exp(log) * (later - shares)
            shares = later
        before, log = after, next_log
    volume, trades = shares - first_volume, before - first
    traded = trades > 0
    top, bottom = _round(high, traded), _round(low, traded)
    vwap = np.clip(np.rint(dollars / np.maximum(volume, 1) * 1e4) / 1e4, bottom, top)
    result = DailyBars(_round(opened, traded), top, bottom, _round(closed, traded), volume, vwap, trades)
    near = traded & (high > -NEAR_ONE_DOLLAR) & (low < NEAR_ONE_DOLLAR)
    for symbol in np.flatnonzero(near).tolist():
        _replace(result, plans, plan, symbol)
    return result


def _round(log_price: F8, traded: B1) -> F8:
    price = np.exp(np.where(traded, log_price, 0.0))
    return np.where(traded, to_tick(price, ticks_per_dollar(price)), 0.0)


def _replace(bars: DailyBars, plans: Plans, plan: DayPlan, symbol: int) -> None:
    """Makes one symbol's bar of its minutes."""
    minutes = symbol_minutes(plans, symbol, [plan], adjusted=False)
    regular = is_regular(minutes, {plan.day.number} if plan.day.is_early else set())
    joined = group(minutes.only(regular), np.zeros(int(regular.sum()), dtype=np.int64)).bars
    values = (joined.open, joined.high, joined.low, joined.close, joined.volume, joined.vwap, joined.trades)
    for column, value in zip(bars, values, strict=True):
        column[symbol] = value[0]


assert (CLOSE_MINUTE - OPEN_MINUTE) % VWAP_STEP == 0
