"""Which trading day it is: docs/semantics.md, "Trading date"."""

from datetime import UTC, datetime

from services.kit.runtime.clock import NEW_YORK, NS_PER_SECOND


def trading_date(day: str, next_day: str, now_ns: int) -> str:
    """The New York date of `now_ns` if that is a trading day, else the next trading day.

    Args:
        day: the trading day in force (YYYY-MM-DD), which may be over.
        next_day: the one after it; empty where the calendar ends.
        now_ns: ns since 1970 UTC; 0 when it is not known.
    """
    if not next_day or not now_ns:
        return day
    today = datetime.fromtimestamp(now_ns // NS_PER_SECOND, UTC).astimezone(NEW_YORK).date()
    return next_day if today.isoformat() > day else day
