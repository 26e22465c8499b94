"""Dates and times of the market: New York's midnights, the trading date, and texts that are dates."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from services.kit.runtime.clock import NEW_YORK, new_york_date
from services.kit.runtime.errors import INVALID_DATE

ONE_DAY: Final = timedelta(days=1)
SATURDAY: Final = 5


def midnight(day: date) -> datetime:
    """The beginning of a date in New York, as a time in UTC."""
    return datetime.combine(day, time(), NEW_YORK).astimezone(UTC)


def day_bounds(day: date) -> tuple[datetime, datetime]:
    """The beginning and the end of a date in New York, as times in UTC."""
    return midnight(day), midnight(day + ONE_DAY)


def trading_date(day: str, next_day: str, now_ns: int) -> str:
    """The New York date of `now_ns` if that is a trading day, else the next trading day (docs/semantics.md).

    Args:
        day: the trading day in force (YYYY-MM-DD), which may be over.
        next_day: the one after it; empty where the calendar ends.
        now_ns: ns since 1970 UTC; 0 when it is not known.
    """
    if not next_day or not now_ns:
        return day
    return next_day if new_york_date(now_ns).isoformat() > day else day


def iso_date(text: object) -> date | None:
    """The date that a text YYYY-MM-DD names; None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    # Python reads other forms of ISO 8601 as well.
    return day if day.isoformat() == text else None


def parse_date(text: str, field: str) -> date:
    """The date that a request's `field` names; raises INVALID_DATE."""
    if (day := iso_date(text)) is None:
        raise INVALID_DATE.error(f"{field}: expected YYYY-MM-DD, was {text[:50]!r}", field=field)
    return day


def server_time(text: str) -> datetime:
    """The vendor's RFC 3339 time; raises ValueError for anything else, a time without offset too."""
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"server time: expected an offset from UTC, was {text!r}")
    return time
