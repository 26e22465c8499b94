"""GET /api/session/current: exactly the contract's names and kinds of values."""

import json
from datetime import date, datetime
from typing import Any

import pytest

from services.kit.runtime.clock import NEW_YORK, ns_of
from services.market.calendar import Calendar, TradingDay
from services.market_session import core

TUESDAY = {
    "current_session": "PRE_MARKET",
    "trading_date": "2026-03-10",
    "is_trading_day": True,
    "is_holiday": False,
    "is_early_close": False,
    "pre_market_start": "04:00:00",
    "market_open": "09:30:00",
    "market_close": "16:00:00",
    "post_market_end": "20:00:00",
    "next_session": "MARKET_OPEN",
    "seconds_until_next_session": 5400.0,
}
FRIDAY = date(2026, 11, 27)


@pytest.fixture(scope="module")
def calendar() -> Calendar:
    from services.market.calendar import nyse_calendar

    return nyse_calendar(date(2026, 1, 1))


def shown(calendar: Calendar, text: str) -> dict[str, Any]:
    now_ns = ns_of(datetime.fromisoformat(text).replace(tzinfo=NEW_YORK))
    message = core.current_session(calendar.session_at(now_ns), now_ns)
    body: dict[str, Any] = json.loads(core.session_json(message))
    return body


def test_a_usual_day(calendar: Calendar) -> None:
    assert shown(calendar, "2026-03-10T08:00:00") == TUESDAY


def test_an_early_close(calendar: Calendar) -> None:
    by_rule = TradingDay.by_rule(FRIDAY, datetime(2026, 11, 27, 13).time())
    assert calendar.on(FRIDAY) == by_rule._replace(next_date=date(2026, 11, 30))
    assert shown(calendar, "2026-11-27T13:00:00") == {
        **TUESDAY,
        "current_session": "POST_MARKET",
        "trading_date": "2026-11-27",
        "is_early_close": True,
        "market_close": "13:00:00",
        "post_market_end": "17:00:00",
        "next_session": "CLOSED",
        "seconds_until_next_session": 14400.0,
    }


def test_a_holiday_shows_the_usual_hours(calendar: Calendar) -> None:
    assert shown(calendar, "2026-12-25T12:00:00") == {
        **TUESDAY,
        "current_session": "CLOSED",
        "trading_date": "2026-12-28",
        "is_trading_day": False,
        "is_holiday": True,
        "next_session": "PRE_MARKET",
        "seconds_until_next_session": 64 * 3600.0,
    }


def test_a_night_over_the_change_of_clocks_is_an_hour_shorter(calendar: Calendar) -> None:
    body = shown(calendar, "2026-03-07T12:00:00")
    assert (body["is_holiday"], body["seconds_until_next_session"]) == (False, 39 * 3600.0)
