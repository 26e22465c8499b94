"""Suspect prints: a symbol's day as it counts once it is known which prints were held, and what confirmed them."""

import math
import statistics
from dataclasses import dataclass, replace
from typing import Final

from fastcore.reference.day_events import Bar, Day, Limit, Rules, Snapshot, SymbolDay, Trade, judge_trade
from fastcore.reference.facts import Facts, quotes_and_limits

SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
RECENT: Final = 5
LEAST_RECENT: Final = 3
MAX_HELD: Final = 16
# The stream has times in milliseconds.
MILLISECOND: Final = 1_000_000


@dataclass
class Held:
    """A print that waits: how near a trade must come, whether it lies above, whether a trade may still confirm it."""

    trade: Trade
    reach: float
    is_above: bool
    awaits_trade: bool = True


def settled(events: SymbolDay, day: Day) -> SymbolDay:
    """The same day, in which held prints set nothing and a confirmed one is a trade without shares when it counts."""
    result = SymbolDay()
    # What of them a print is measured by: trades that set the price as they have counted, and the bands that have come.
    recent: list[Trade] = []
    limits = SymbolDay()
    held: list[Held] = []

    def count(trade: Trade) -> None:
        result.add(trade)
        # A late one does not set the price.
        if trade.sets_price and (not recent or trade.time >= recent[-1].time):
            recent.append(trade)

    for event in events.arrivals:
        if isinstance(event, Bar):
            for one in [one for one in held if _is_reached(one, event)]:
                held.remove(one)
                count(_counted(one, event.end - 1, event.order, event.rules, day))
        elif isinstance(event, Trade) and (event.sets_price or event.sets_high_low):
            for one in held:
                if event.time > one.trade.time + MINUTE:
                    one.awaits_trade = False
            confirmed = [one for one in held if _is_confirmed(one, event)]
            for one in confirmed:
                held.remove(one)
                count(_counted(one, event.time, event.order, event.rules, day))
            if not confirmed and (suspect := _suspect(event, recent[-RECENT:], limits, day)) is not None:
                held = [*held, suspect][-MAX_HELD:]
                result.suspects += 1
                count(replace(event, sets_price=False, sets_high_low=False))
                continue
        elif isinstance(event, Limit):
            limits.add(event)
        elif isinstance(event, Snapshot) and any(_is_held(one, event) for one in held):
            event = replace(event, trade_time=0, trade_price=math.nan)
        if isinstance(event, Trade):
            count(event)
        else:
            result.add(event)
    return result


def _suspect(event: Trade, newest: list[Trade], limits: SymbolDay, day: Day) -> Held | None:
    """The trade as a print that waits; None when it is none. `newest`: the last trades that have set the price."""
    if event.rules.take_suspects or event.halted:
        return None
    recent = [trade for trade in newest if trade.time >= event.time - 10 * MINUTE]
    if len(recent) < LEAST_RECENT:
        return None
    if (bands := _bands(event, limits, day)) is not None:
        low, high = bands
        above = below = (high - low) / 2
    else:
        low = high = median = statistics.median(trade.price for trade in recent)
        above, below = 0.2 * median, 0.2 * median
        if median < 3:
            above, below = 0.5 * median, 0.5 * median
        if median < 0.75:
            above, below = median, 0.75 * median
    if event.price - high > above:
        return Held(event, above / 4, is_above=True)
    if low - event.price > below:
        return Held(event, below / 4, is_above=False)
    return None


def _bands(event: Trade, seen: SymbolDay, day: Day) -> tuple[float, float] | None:
    """The bands in regular hours, when both were given in the last minute."""
    if not day.open <= event.time < day.close:
        return None
    newest = both = -1
    for limit in seen.limits:
        if limit.time >= newest:
            newest = limit.time
            if limit.upper == limit.upper and limit.lower == limit.lower:
                both = limit.time
    if both < 0 or both < event.time - MINUTE:
        return None
    limits = Facts()
    quotes_and_limits(limits, seen, [])
    if limits.lower is None or limits.upper is None or not limits.lower < limits.upper:
        return None
    return limits.lower, limits.upper


def _is_confirmed(held: Held, trade: Trade) -> bool:
    return held.awaits_trade and trade.time >= held.trade.time and abs(trade.price - held.trade.price) <= held.reach


def _is_held(held: Held, snapshot: Snapshot) -> bool:
    """As the snapshot's last trade."""
    trade = held.trade
    return trade.price == snapshot.trade_price and abs(trade.time - snapshot.trade_time) < MILLISECOND


def _is_reached(held: Held, bar: Bar) -> bool:
    """By a bar of its minute."""
    if held.trade.time // MINUTE != bar.start // MINUTE:
        return False
    return bar.high >= held.trade.price if held.is_above else bar.low <= held.trade.price


def _counted(held: Held, time: int, order: int, rules: Rules, day: Day) -> Trade:
    """The print as a trade of that time. Its shares have been counted when it came."""
    trade = judge_trade(order, (time, held.trade.price, 0.0, held.trade.conditions), rules, day)
    return replace(trade, has_volume=False)
