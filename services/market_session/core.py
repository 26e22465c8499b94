"""The service's answers and messages, made of the calendar. Pure."""

from collections.abc import Iterable
from datetime import time
from typing import Final

from google.protobuf import json_format
from tradeul.v1 import market_session_pb2, session_pb2

from services.kit.runtime.clock import NS_PER_SECOND, new_york_time
from services.kit.runtime.errors import INVALID_DATE
from services.market.calendar import MARKET_CLOSE, MARKET_OPEN, PRE_MARKET_START, Calendar, SessionAt
from services.market.dates import parse_date

LONGEST_RANGE_DAYS: Final = 400
_USUAL_HOURS: Final = (PRE_MARKET_START, MARKET_OPEN, MARKET_CLOSE, time(20, 0))


def current_session(at: SessionAt, now_ns: int) -> market_session_pb2.CurrentSession:
    """The session at `now_ns` (ns since 1970 UTC); hours of a day without trading are the usual ones."""
    day = at.day
    hours: Iterable[time] = _USUAL_HOURS if day is None else (new_york_time(ns).time() for ns in day[1:5])
    pre_market_start, market_open, market_close, post_market_end = (each.isoformat() for each in hours)
    return market_session_pb2.CurrentSession(
        current_session=session_pb2.Session.ValueType(at.session),
        trading_date=at.trading_date.isoformat(),
        is_trading_day=day is not None,
        is_holiday=at.is_holiday,
        is_early_close=day is not None and day.is_early_close,
        pre_market_start=pre_market_start,
        market_open=market_open,
        market_close=market_close,
        post_market_end=post_market_end,
        next_session=session_pb2.Session.ValueType(at.next_session),
        seconds_until_next_session=round((at.next_session_ns - now_ns) / NS_PER_SECOND, 3),
    )


def session_json(message: market_session_pb2.CurrentSession) -> str:
    """The same JSON as the gateway shows, in one line."""
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )


def list_trading_days(
    calendar: Calendar, request: market_session_pb2.ListTradingDaysRequest
) -> market_session_pb2.ListTradingDaysResponse:
    """The days of the range, both included; raises INVALID_DATE, DATE_OUT_OF_CALENDAR."""
    start, end = parse_date(request.start_date, "start_date"), parse_date(request.end_date, "end_date")
    if not 0 <= (days := (end - start).days) <= LONGEST_RANGE_DAYS:
        raise INVALID_DATE.error(
            f"expected end_date at or up to {LONGEST_RANGE_DAYS} days after start_date, was {days} days after",
            start_date=start,
            end_date=end,
        )
    return market_session_pb2.ListTradingDaysResponse(days=[day.info() for day in calendar.between(start, end)])
