"""Relative volume and the day's range of a symbol, from all its messages."""

import math
from array import array

from fastcore.reference.day_events import Bar, Snapshot, Trade
from fastcore.reference.derived import LEAST_DAYS, at_time_of_day, slot_of
from fastcore.reference.market_twin import MarketTwin
from fastcore.reference.snapshots import MINUTE, accepted

_FIELDS = ("volume_today", "rvol", "rvol_slot", "intraday_high", "intraday_low")


def measures(twin: MarketTwin, symbol: str) -> dict[str, float | int]:
    """The known fields of fastcore.measures.Measures by name, without updated_ns, which is the row's updated_at."""
    row = twin.row(symbol)
    result: dict[str, float | int] = {name: float(row[name]) for name in _FIELDS if name in row}
    baseline = twin.baseline_of(symbol)
    if baseline is not None:
        result["days"] = baseline.days
        if baseline.days >= LEAST_DAYS and twin.day is not None:
            result["baseline"] = at_time_of_day(baseline.volume, twin.day, twin.moment(symbol))
    reached = _reached(twin, symbol)
    if reached:
        # The earliest to arrive of the highest, and of the lowest.
        result["high_ns"] = max(reached, key=lambda reach: reach[0])[2]
        result["low_ns"] = min(reached, key=lambda reach: reach[1])[2]
    return result


def volume_curve(twin: MarketTwin, symbol: str) -> list[float]:
    """The mean cumulative volumes at the ends of the 192 slots, rounded; empty without a baseline of enough days."""
    baseline = twin.baseline_of(symbol)
    if baseline is None or baseline.days < LEAST_DAYS:
        return []
    return [round(volume, 6) for volume in baseline.volume]


def slot_of_now(twin: MarketTwin) -> int:
    """The volume slot of now; 0 before a trading day is known, when no time is in one."""
    return slot_of(twin.day, twin.now_ns) if twin.day is not None else 191 if twin.now_ns else 0


def _reached(twin: MarketTwin, symbol: str) -> list[tuple[float, float, int]]:
    """(high, low, when) of all that may set the intraday extremes, in order of arrival."""
    if twin.day is None:
        return []
    events = twin.events_of(symbol)
    snapshots = accepted(events, twin.day)
    reached: list[tuple[float, float, int]] = []
    for event in events.arrivals:
        if isinstance(event, Trade) and event.sets_high_low:
            reached.append((event.price, event.price, event.time))
        elif isinstance(event, Bar):
            reached.append((event.high, event.low, event.end))
        elif isinstance(event, Snapshot) and event in snapshots:
            ends = min(event.minute_start + MINUTE, event.updated)
            if event.minute_start >= twin.day.start:
                reached.append((event.minute_high, event.minute_low, ends))
            if event.trade_time >= twin.day.start:
                reached.append((event.trade_price, event.trade_price, event.trade_time))
            if event.updated > twin.day.open:
                reached.append((event.high, event.low, event.updated))
    return [reach for reach in reached if not any(map(math.isnan, reach[:2]))]


def touched_since(twin: MarketTwin, seen: "array[int]") -> list[int]:
    """The ids of symbols touched since `seen` was brought up to date, which it is by this."""
    now = [twin.touched.get(symbol, 0) for symbol in twin.symbols]
    touched = [i for i, count in enumerate(now) if i >= len(seen) or count != seen[i]]
    seen[:] = array("I", now)
    return touched
