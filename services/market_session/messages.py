"""The session service's messages, from the calendar's answers."""

from datetime import time
from typing import Final

from google.protobuf import json_format
from tradeul.v1 import market_session_pb2, session_pb2, stream_pb2

from services.kit.runtime.clock import NS_PER_SECOND, new_york_time
from services.market import calendar
from services.market.calendar import Moment, TradingDay

Response = market_session_pb2.WatchSessionResponse

USUAL_HOURS: Final = (calendar.PRE_MARKET_START, calendar.MARKET_OPEN, calendar.MARKET_CLOSE, time(20, 0))


def current_session(moment: Moment, now_ns: int) -> market_session_pb2.CurrentSession:
    """The session as the contract shows it."""
    day = moment.day
    times = USUAL_HOURS if day is None else tuple(new_york_time(ns).time() for ns in day[1:5])
    pre_market_start, market_open, market_close, post_market_end = (each.isoformat() for each in times)
    return market_session_pb2.CurrentSession(
        current_session=session_pb2.Session.ValueType(moment.session),
        trading_date=moment.trading_date.isoformat(),
        is_trading_day=day is not None,
        is_holiday=moment.is_holiday,
        is_early_close=day is not None and day.is_early_close,
        pre_market_start=pre_market_start,
        market_open=market_open,
        market_close=market_close,
        post_market_end=post_market_end,
        next_session=session_pb2.Session.ValueType(moment.next_session),
        seconds_until_next_session=round((moment.next_session_ns - now_ns) / NS_PER_SECOND, 3),
    )


def session_json(message: market_session_pb2.CurrentSession) -> str:
    """The same JSON as at the public door, in one line."""
    return json_format.MessageToJson(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True, indent=None
    )


def trading_day_info(day: TradingDay) -> market_session_pb2.TradingDayInfo:
    return market_session_pb2.TradingDayInfo(
        date=day.date.isoformat(),
        pre_market_start_ns=day.pre_market_start_ns,
        market_open_ns=day.market_open_ns,
        market_close_ns=day.market_close_ns,
        post_market_end_ns=day.post_market_end_ns,
        is_early_close=day.is_early_close,
    )


def opened(position: stream_pb2.StreamPosition) -> bytes:
    return Response(opened=market_session_pb2.SessionOpened(position=position)).SerializeToString()


def session(message: market_session_pb2.CurrentSession) -> bytes:
    return Response(session=message).SerializeToString()


def heartbeat(position: stream_pb2.StreamPosition) -> bytes:
    return Response(heartbeat=stream_pb2.StreamHeartbeat(position=position)).SerializeToString()


def going_away(position: stream_pb2.StreamPosition, reason: str) -> bytes:
    return Response(going_away=stream_pb2.StreamGoingAway(position=position, reason=reason)).SerializeToString()
