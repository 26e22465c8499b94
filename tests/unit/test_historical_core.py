"""Requests, days and progress of loads."""

import datetime

import pytest

from services.historical.core import REST, Kind, Progress, Request, baseline_days, days_of, make_request
from services.kit.runtime.errors import ServiceError
from services.market.calendar import Calendar, nyse_calendar

date = datetime.date


@pytest.fixture(scope="module")
def calendar() -> Calendar:
    return nyse_calendar(date(2026, 1, 1))


def test_a_request_is_made_of_texts() -> None:
    assert make_request("slots", "", "2025-11-03", "") == Request(Kind.SLOTS, REST, date(2025, 11, 3))
    assert make_request("ohlc", "s3://flatfiles", "", "2025-11-03").last == date(2025, 11, 3)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        (("trades", "", "", ""), "INVALID_REQUEST"),
        (("slots", "", "20251103", ""), "INVALID_DATE"),
        (("slots", "", "2025-11-04", "2025-11-03"), "INVALID_DATE"),
        (("ohlc", "", "", "", True), "INVALID_REQUEST"),
    ],
)
def test_what_is_no_request_is_refused(texts: tuple[str, str, str, str], reason: str) -> None:
    with pytest.raises(ServiceError) as refused:
        make_request(*texts)
    assert refused.value.reason.name == reason


def test_days_of_a_load(calendar: Calendar) -> None:
    newest = date(2025, 11, 28)
    days = days_of(Request(Kind.SLOTS), calendar, newest)
    assert len(days) == 30 and days[-1].date == newest
    assert len(days_of(Request(Kind.OHLC), calendar, newest)) == 250
    # Thanksgiving is none, and nothing after the newest complete day is.
    few = days_of(Request(Kind.OHLC, REST, date(2025, 11, 26), date(2025, 12, 31)), calendar, newest)
    assert [day.date for day in few] == [date(2025, 11, 26), date(2025, 11, 28)]
    for first, last in ((date(2025, 11, 27), date(2025, 11, 27)), (date(2025, 12, 1), None)):
        with pytest.raises(ServiceError):
            days_of(Request(Kind.OHLC, REST, first, last), calendar, newest)


def test_early_closes_are_left_out_of_a_baseline_and_not_replaced(calendar: Calendar) -> None:
    day, days = baseline_days(calendar, date(2025, 12, 5))
    assert day == date(2025, 12, 8)
    assert len(days) == 29 and date(2025, 11, 28) not in days and date(2025, 11, 27) not in days


def test_progress_tells_rate_and_time_left() -> None:
    progress = Progress("bars", total=100, done=20, skipped=30)
    assert progress.rate(10.0) == 2.0
    assert progress.seconds_left(10.0) == 25.0
    assert Progress("bars", total=100).seconds_left(10.0) is None
