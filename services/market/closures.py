"""Changes of the calendar that the vendor announces: a day of mourning, a storm, an early close."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from typing import Final, NamedTuple, Protocol

from services.kit.runtime.clock import NEW_YORK
from services.market.calendar import MARKET_CLOSE, MARKET_OPEN, Calendar
from services.market.dates import iso_date

# The vendor writes a row per exchange; they close together.
EXCHANGE: Final = "NYSE"


class Holiday(Protocol):
    """A row of the vendor's /v1/marketstatus/upcoming."""

    @property
    def exchange(self) -> str: ...
    @property
    def date(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def close(self) -> str | None: ...


class Change(NamedTuple):
    """A day that the vendor announces as closed, or as closing at `close` (New York time)."""

    date: date
    close: time | None


class Unusable(NamedTuple):
    """A row of the vendor that cannot be used; `reason` is a metric's label."""

    reason: str
    row: str


def read_holidays(rows: Iterable[Holiday]) -> Iterator[Change | Unusable]:
    """The changes that the rows of our exchange announce."""
    for row in rows:
        if row.exchange != EXCHANGE:
            continue
        if (on := iso_date(row.date)) is None:
            yield Unusable("holiday_date", str(row))
        elif row.status == "closed":
            yield Change(on, None)
        elif row.status == "early-close":
            close = _close(row.close, on)
            yield Unusable("holiday_close", str(row)) if close is None else Change(on, close)
        else:
            yield Unusable("holiday_status", str(row))


def _close(text: str | None, on: date) -> time | None:
    """The closing time in New York, if it is one of an early close on that day."""
    try:
        close = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    if close.tzinfo is None:
        return None
    local = close.astimezone(NEW_YORK)
    is_early = local.date() == on and MARKET_OPEN < local.time() < MARKET_CLOSE
    return local.time().replace(microsecond=0) if is_early else None


class Closures:
    """The vendor's changes that hold: the newest announcement of days to come, the last one of days begun."""

    def __init__(self, calendar: Calendar) -> None:
        self._base = calendar
        self._changes: dict[date, time | None] = {}

    def take(self, changes: Iterable[Change], today: date) -> tuple[Calendar, list[Change]]:
        """The calendar with them, and those that differ from what held before."""
        before = self._base.with_changes(self._changes)
        kept = {on: close for on, close in self._changes.items() if on <= today}
        # The vendor names days to come only: one that has begun keeps its last announcement.
        self._changes = kept | {change.date: change.close for change in changes}
        after = self._base.with_changes(self._changes)
        news = [
            Change(on, close)
            for on, close in sorted(self._changes.items())
            if _close_ns(before, on) != _close_ns(after, on)
        ]
        return after, news


def _close_ns(calendar: Calendar, on: date) -> int | None:
    day = calendar.find(on)
    return None if day is None else day.market_close_ns
