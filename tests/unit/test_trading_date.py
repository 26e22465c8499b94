"""trading_date: one meaning in the calendar, in frames and in the states made of them."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradeul.v1 import frame_pb2

from services.kit.runtime.clock import NEW_YORK
from services.market.days import Calendar, Day
from services.market.nyse import nyse_calendar
from services.market.trading_date import trading_date
from services.market_session.messages import trading_day_info

NYSE = nyse_calendar(datetime.date(2026, 1, 1))
FIRST, LAST = datetime.date(2025, 11, 3), datetime.date(2026, 12, 31)
DAYS = Calendar(Day.of(trading_day_info(day)) for day in NYSE.between(FIRST, LAST))


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
    assert str(NYSE.at(ns(now)).trading_date) == expected
    day = DAYS.begun(ns(now))
    assert day is not None
    assert trading_date(str(day.date), str(day.next_date), ns(now)) == expected


@given(st.datetimes(datetime.datetime(2025, 11, 4), datetime.datetime(2026, 12, 20)))
def test_a_copy_of_the_market_says_what_the_calendar_says(now: datetime.datetime) -> None:
    """The copy knows only the day in force, and which one follows."""
    now_ns = ns(now.isoformat(timespec="seconds"))
    day = DAYS.begun(now_ns)
    assert day is not None
    frame = frame_pb2.TradingDay.FromString(day.encode())
    assert trading_date(frame.trading_date, frame.next_trading_date, now_ns) == str(NYSE.at(now_ns).trading_date)
    assert Day.decode(frame) == day


def test_where_the_calendar_ends_nothing_follows() -> None:
    last = DAYS.days[-1]
    assert (last.next_date, Day.decode(frame_pb2.TradingDay.FromString(last.encode()))) == (None, last)
    assert trading_date("2026-12-31", "", ns("2027-01-02T12:00:00")) == "2026-12-31"
    assert trading_date("2026-12-31", "2027-01-04", 0) == "2026-12-31"
