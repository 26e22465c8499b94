"""The opening ranges of one symbol: high and low of the first minutes of the regular session."""

from typing import Final

from fastcore.fields import OPENING_MINUTES
from fastcore.reference.day_events import Bar, Day, SymbolDay, Trade

MINUTE: Final = 60_000_000_000


def opening_ranges(events: SymbolDay, day: Day) -> dict[str, float]:
    """By field name; one without prices is absent."""
    values: dict[str, float] = {}
    for minutes in OPENING_MINUTES:
        end = day.open + minutes * MINUTE
        reach = _trades(events, day, end) + _bars(events, day, end)
        if reach:
            values[f"or{minutes}_high"] = max(high for high, _ in reach)
            values[f"or{minutes}_low"] = min(low for _, low in reach)
    return values


def _trades(events: SymbolDay, day: Day, end: int) -> list[tuple[float, float]]:
    """Those that came before one that set the price at the range's end or later."""
    reach = []
    for trade in events.trades:
        if trade.sets_high_low and day.open <= trade.time < end:
            reach.append((trade.price, trade.price))
        if trade.sets_price and trade.time >= end:
            break
    return reach


def _bars(events: SymbolDay, day: Day, end: int) -> list[tuple[float, float]]:
    """Those that lie inside, of a symbol that had no trades and no later bar than that when they came."""
    reach = []
    has_traded = False
    newest = -1
    for event in events.arrivals:
        if isinstance(event, Trade):
            has_traded = has_traded or event.has_volume
        elif isinstance(event, Bar):
            if day.open <= event.start and event.end <= end and newest <= end and not has_traded:
                reach.append((event.high, event.low))
            newest = max(newest, event.end)
    return reach
