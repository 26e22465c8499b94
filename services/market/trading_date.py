"""Which trading day it is: docs/semantics.md, "Trading date"."""

from services.kit.runtime.clock import new_york_date


def trading_date(day: str, next_day: str, now_ns: int) -> str:
    """The New York date of `now_ns` if that is a trading day, else the next trading day.

    Args:
        day: the trading day in force (YYYY-MM-DD), which may be over.
        next_day: the one after it; empty where the calendar ends.
        now_ns: ns since 1970 UTC; 0 when it is not known.
    """
    if not next_day or not now_ns:
        return day
    return next_day if new_york_date(now_ns).isoformat() > day else day
