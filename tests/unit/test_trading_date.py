"""trading_date: one meaning in the calendar, in frames and in the states made of them."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kit.runtime.clock import NEW_YORK
from services.market.calendar import Calendar, TradingDay, nyse_calendar
from services.market.dates import trading_date

NYSE = nyse_calendar(datetime.date(2026, 1, 1))
FIRST, LAST = datetime.date(2025, 11, 3), datetime.date(2026, 12, 31)
DAYS = Calendar(TradingDay.of_info(day.info()) for day in NYSE.between(FIRST, LAST))


def ns(text: str) -> int:
    return int(datetime.datetime.fromisoformat(text).replace(tzinfo=NEW_YORK).timestamp()) * 10**9


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-11-25T09:30:00", "2026-11-25"),
        # After its last session the day is still its date's.
        ("2026-11-25T23:59:59", "2026-11-25"),
        # Thanksgiving, from midnight on.
        ("2026-11-26T00:00:00", "2026-11-27"),
        ("2026-11-26T12:00:00", "2026-11-27"),
        ("2026-11-27T03:59:59", "2026-11-27"),
        ("2026-11-27T17:00:00", "2026-11-27"),
        ("2026-11-28T10:00:00", "2026-11-30"),
    ],
)
def test_on_a_day_without_trading_it_is_the_next_trading_day(now: str, expected: str) -> None:
    assert str(NYSE.session_at(ns(now)).trading_date) == expected
    day = DAYS.in_force(ns(now))
    assert day is not None
    assert trading_date(str(day.date), str(day.next_date), ns(now)) == expected


@given(st.datetimes(datetime.datetime(2025, 11, 4), datetime.datetime(2026, 12, 20)))
def test_a_copy_of_the_market_says_what_the_calendar_says(now: datetime.datetime) -> None:
    """The copy knows only the day in force, and which one follows."""
    now_ns = ns(now.isoformat(timespec="seconds"))
    day = DAYS.in_force(now_ns)
    assert day is not None
    frame = day.frame()
    assert trading_date(frame.trading_date, frame.next_trading_date, now_ns) == str(
        NYSE.session_at(now_ns).trading_date
    )
    assert TradingDay.of_frame(frame) == day


def test_where_the_calendar_ends_nothing_follows() -> None:
    last = DAYS.days[-1]
    assert (last.next_date, TradingDay.of_frame(last.frame())) == (None, last)
    assert trading_date("2026-12-31", "", ns("2027-01-02T12:00:00")) == "2026-12-31"
    assert trading_date("2026-12-31", "2027-01-04", 0) == "2026-12-31"
