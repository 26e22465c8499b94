"""Loads: kinds, requests, the days they cover, their progress. Pure."""

import datetime
import enum
from collections.abc import Sequence
from typing import Final, NamedTuple

from services.kit.runtime.errors import INVALID_DATE, INVALID_REQUEST
from services.market.calendar import Calendar, TradingDay
from services.market.dates import parse_date

REST: Final = "rest"
# The days that make a baseline.
SLOT_DAYS: Final = 30
OHLC_DAYS: Final = 250
LONGEST_DAYS: Final = 3000


class Kind(enum.StrEnum):
    """The kinds of loads."""

    UNIVERSE = "universe"
    METADATA = "metadata"
    OHLC = "ohlc"
    SLOTS = "slots"


class State(enum.StrEnum):
    """The states of a load; INTERRUPTED: its process is gone."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    INTERRUPTED = "INTERRUPTED"


class Request(NamedTuple):
    """A request. Without dates the newest complete days; `source` is "rest", a folder or an s3:// URL.

    `is_raw`: as if there were no splits, for files whose splits are not known.
    """

    kind: Kind
    source: str = REST
    first: datetime.date | None = None
    last: datetime.date | None = None
    is_raw: bool = False
    again: bool = False


class Progress(NamedTuple):
    """Counts of units (days or symbols): `skipped` were loaded before, `failed` were not; `set_aside` counts rows."""

    step: str = ""
    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: int = 0
    rows: int = 0
    set_aside: int = 0

    @property
    def is_complete(self) -> bool:
        return self.done + self.skipped >= self.total and not self.failed

    def rate(self, seconds: float) -> float:
        """Units a second, without those skipped."""
        return (self.done + self.failed) / seconds if seconds > 0 else 0.0

    def seconds_left(self, seconds: float) -> float | None:
        """The remaining seconds at the rate so far; None before the first unit."""
        rate = self.rate(seconds)
        return (self.total - self.done - self.skipped - self.failed) / rate if rate > 0 else None


class Problem(NamedTuple):
    """Something that was set aside: a line of a file, an item of an answer, or (line 0) the whole of either."""

    place: str
    line: int
    reason: str


def make_request(kind: str, source: str, first: str, last: str, is_raw: bool = False, again: bool = False) -> Request:
    """The request that these texts make; raises INVALID_REQUEST, INVALID_DATE."""
    if kind not in list(Kind):
        raise INVALID_REQUEST.error(f"kind: expected one of {', '.join(Kind)}, was {kind[:50]!r}", kind=kind[:50])
    if is_raw and kind != Kind.SLOTS:
        raise INVALID_REQUEST.error("no_splits: expected for slots only, whose days are brought to the same shares")
    start, end = parse_date(first, "from") if first else None, parse_date(last, "to") if last else None
    if start is not None and end is not None and start > end:
        raise INVALID_DATE.error(f"expected from at or before to, was {start} to {end}", start=start, end=end)
    return Request(Kind(kind), source or REST, start, end, is_raw, again)


def days_of(request: Request, calendar: Calendar, newest: datetime.date) -> Sequence[TradingDay]:
    """The trading days to load: from `first` (or as many as the kind wants) to `last`, at most `newest`.

    Raises INVALID_DATE when there are none or too many.
    """
    last = newest if request.last is None else min(request.last, newest)
    if request.first is None:
        wanted = {Kind.SLOTS: SLOT_DAYS, Kind.OHLC: OHLC_DAYS}.get(request.kind, 1)
        days = calendar.between(max(calendar.first, last - datetime.timedelta(days=wanted * 2)), last)[-wanted:]
    else:
        if request.first > last:
            raise INVALID_DATE.error(f"expected from at or before the newest complete day, {last}", first=request.first)
        days = calendar.between(request.first, last)
    if not 1 <= len(days) <= LONGEST_DAYS:
        raise INVALID_DATE.error(f"expected 1 to {LONGEST_DAYS} trading days, were {len(days)}", days=len(days))
    return days


def baseline_days(calendar: Calendar, last: datetime.date) -> tuple[datetime.date, Sequence[datetime.date]]:
    """The day that a baseline is for, the trading day after `last`, and the days that make it, ascending.

    These are the 30 trading days up to `last` without the early closes, which are not replaced.
    """
    days = calendar.between(max(calendar.first, last - datetime.timedelta(days=SLOT_DAYS * 2)), last)[-SLOT_DAYS:]
    return calendar.after(last).date, [day.date for day in days if not day.is_early_close]
