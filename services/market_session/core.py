"""The session service's answers: dates checked, the vendor's closures taken in. Pure."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time
from typing import Final, NamedTuple

from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.errors import INVALID_DATE
from services.kit.vendor.models import MarketHoliday
from services.market.calendar import MARKET_CLOSE, MARKET_OPEN, Calendar, TradingDay

LONGEST_RANGE_DAYS: Final = 400
# The vendor writes a row per exchange; they close together.
EXCHANGE: Final = "NYSE"


class Change(NamedTuple):
    """The vendor's word on a day: closed, or closing at `close`."""

    date: date
    close: time | None


class Unusable(NamedTuple):
    """A vendor's row that says nothing that can be used; `reason` is a metric's label."""

    reason: str
    row: str


def parse_date(text: str, name: str) -> date:
    """YYYY-MM-DD; raises INVALID_DATE naming the field."""
    try:
        # Python reads other forms of ISO 8601 as well.
        if (day := date.fromisoformat(text)).isoformat() == text:
            return day
    except ValueError:
        pass
    raise INVALID_DATE.error(f"{name}: expected YYYY-MM-DD, was {text!r}", field=name)


def trading_days(calendar: Calendar, start_text: str, end_text: str) -> list[TradingDay]:
    """The days of a range of two YYYY-MM-DD, both included; raises INVALID_DATE, DATE_OUT_OF_CALENDAR."""
    start, end = parse_date(start_text, "start_date"), parse_date(end_text, "end_date")
    if not 0 <= (days := (end - start).days) <= LONGEST_RANGE_DAYS:
        raise INVALID_DATE.error(
            f"expected end_date at or up to {LONGEST_RANGE_DAYS} days after start_date, was {days} days after",
            start_date=start,
            end_date=end,
        )
    return calendar.between(start, end)


def read_holidays(rows: Iterable[MarketHoliday]) -> Iterator[Change | Unusable]:
    """What the vendor's /v1/marketstatus/upcoming says of our exchange."""
    for row in rows:
        if row.exchange != EXCHANGE:
            continue
        try:
            on = date.fromisoformat(row.date)
        except ValueError:
            yield Unusable("holiday_date", str(row))
            continue
        if row.status == "closed":
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
    """The vendor's changes to the calendar that hold: its newest word on days to come, its last on days begun."""

    def __init__(self, calendar: Calendar) -> None:
        self._base = calendar
        self._changes: dict[date, time | None] = {}

    def take(self, changes: Iterable[Change], today: date) -> tuple[Calendar, list[Change]]:
        """The calendar with them, and those that differ from what held before."""
        before = self._base.with_changes(self._changes)
        kept = {on: close for on, close in self._changes.items() if on <= today}
        # The vendor names days to come only: one that has begun stays as it was told.
        self._changes = kept | {change.date: change.close for change in changes}
        after = self._base.with_changes(self._changes)
        news = [
            Change(on, close)
            for on, close in sorted(self._changes.items())
            if after.first <= on <= after.last and before.get(on) != after.get(on)
        ]
        return after, news
