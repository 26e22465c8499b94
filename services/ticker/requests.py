"""Requests' parameters: each function returns the checked value, or raises the ServiceError to answer with."""

import contextlib
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

from services.kit.rpc.page_tokens import decode_page_token, encode_page_token
from services.kit.runtime.errors import INVALID_DATE, INVALID_LIMIT, INVALID_REQUEST
from services.market.dates import ONE_DAY, iso_date, midnight

# Every span that may be requested fits into so many bars (1 MB of JSON).
MAX_BARS: Final = 10_000
DEFAULT_BARS: Final = 1_000
DEFAULT_RESULTS: Final = 100
MAX_RESULTS: Final = 1000
FIRST_YEAR: Final = 1900
LAST_YEAR: Final = 2199


class Interval(NamedTuple):
    """A width of bars, and the longest span that may be requested by both its ends."""

    name: str
    width: timedelta
    longest: timedelta


INTERVALS: Final = {
    interval.name: interval
    for interval in (
        Interval("1m", timedelta(minutes=1), 10 * ONE_DAY),
        Interval("5m", timedelta(minutes=5), 50 * ONE_DAY),
        Interval("15m", timedelta(minutes=15), 150 * ONE_DAY),
        Interval("1h", timedelta(hours=1), 400 * ONE_DAY),
        Interval("1d", ONE_DAY, 4000 * ONE_DAY),
    )
}


class Span(NamedTuple):
    """A span of time, UTC, the end excluded; None where the request has no bound."""

    start: datetime | None
    end: datetime | None


class PageMark(NamedTuple):
    """The last result of a page: the next one begins after it."""

    time: datetime
    list: str
    rank: int
    symbol: str


def interval_of(name: str) -> Interval:
    """A width of bars; one minute by default."""
    found = INTERVALS.get(name or "1m")
    if found is None:
        raise INVALID_REQUEST.error(
            f"expected an interval among {', '.join(INTERVALS)}, was {name[:50]!r}", field="interval"
        )
    return found


def span_of(start: str, end: str, interval: Interval) -> Span:
    """`from` and `to` as times; a date `to` ends with that day."""
    span = Span(_time(start, "from"), _time(end, "to", is_end=True))
    if span.start is not None and span.end is not None:
        check_span(span.start, span.end, interval)
    return span


def check_span(start: datetime, end: datetime, interval: Interval) -> None:
    """Raises INVALID_DATE when the span is empty or too long."""
    if start >= end:
        raise INVALID_DATE.error(f"expected from before to, was {start.isoformat()} to {end.isoformat()}", field="from")
    if end - start > interval.longest:
        raise INVALID_DATE.error(
            f"expected at most {interval.longest.days} days of {interval.name} bars, was {(end - start).days + 1}",
            field="from",
            maximum_days=interval.longest.days,
        )


def bars_limit(limit: int | None, span: Span) -> int:
    """The number of bars to return; by default all of a span that has a beginning."""
    if limit is None:
        return DEFAULT_BARS if span.start is None else MAX_BARS
    if not 1 <= limit <= MAX_BARS:
        raise INVALID_LIMIT.error(f"expected a limit of 1 to {MAX_BARS}, was {limit}", maximum=MAX_BARS)
    return limit


def date_of(text: str) -> date | None:
    """A New York date; None by default."""
    if not text:
        return None
    if (day := iso_date(text)) is None or not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise INVALID_DATE.error(f"expected a date like 2026-11-23, was {text[:50]!r}", field="date")
    return day


def results_limit(limit: int | None) -> int:
    """The number of stored results to return."""
    if limit is None:
        return DEFAULT_RESULTS
    if not 1 <= limit <= MAX_RESULTS:
        raise INVALID_LIMIT.error(f"expected a limit of 1 to {MAX_RESULTS}, was {limit}", maximum=MAX_RESULTS)
    return limit


def page_token(mark: PageMark) -> str:
    """The token that requests the page after `mark`."""
    return encode_page_token([mark.time.isoformat(), mark.list, mark.rank, mark.symbol])


def page_mark(token: str) -> PageMark | None:
    """The last result of the page before; None for the first page. Raises INVALID_REQUEST."""
    return decode_page_token(token, _page_mark)


def _page_mark(time: str, list_name: object, rank: Any, symbol: object) -> PageMark:
    mark = PageMark(datetime.fromisoformat(time), str(list_name), int(rank), str(symbol))
    if mark.time.tzinfo is None or not 0 <= mark.rank < 1 << 31 or "\0" in mark.list + mark.symbol:
        raise ValueError("not a mark")
    return mark


def _time(text: str, field: str, *, is_end: bool = False) -> datetime | None:
    if not text:
        return None
    if (day := iso_date(text)) is not None:
        if FIRST_YEAR <= day.year <= LAST_YEAR:
            return midnight(day + ONE_DAY if is_end else day)
    elif "T" in text.upper():
        with contextlib.suppress(ValueError):
            time = datetime.fromisoformat(text)
            if time.tzinfo is not None and FIRST_YEAR <= time.year <= LAST_YEAR:
                return time.astimezone(UTC)
    raise INVALID_DATE.error(
        f"expected {field} as a date (2026-11-23) or a time with its offset (2026-11-23T14:30:00Z), was {text[:50]!r}",
        field=field,
    )
