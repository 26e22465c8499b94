"""MarketSessionService: protos to and from the calendar."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
from tradeul.v1 import market_session_pb2

from services.kit.rpc.subscribing import first_request, serve, write_all
from services.kit.runtime.errors import CLOCK_UNKNOWN, INVALID_REQUEST
from services.market.calendar import Calendar
from services.market.dates import parse_date
from services.market_session import core, metrics
from services.market_session.broadcast import CLOCK_MESSAGE, SessionBroadcast

Context = grpc.aio.ServicerContext[Any, Any]
Direction = market_session_pb2.GetTradingDayRequest


class MarketSessionServicer:
    """`calendar()` and `now_ns()` are current; the latter is None while the time is not known."""

    def __init__(
        self, calendar: Callable[[], Calendar], now_ns: Callable[[], int | None], broadcast: SessionBroadcast
    ) -> None:
        self._calendar = calendar
        self._now_ns = now_ns
        self._broadcast = broadcast

    async def GetCurrentSession(
        self, _: market_session_pb2.GetCurrentSessionRequest, __: Context
    ) -> market_session_pb2.CurrentSession:
        if (now_ns := self._now_ns()) is None:
            raise CLOCK_UNKNOWN.error(CLOCK_MESSAGE)
        return core.current_session(self._calendar().session_at(now_ns), now_ns)

    async def WatchSession(self, _: market_session_pb2.WatchSessionRequest, context: Context) -> None:
        with metrics.WATCHERS.track_inprogress():
            await write_all(self._broadcast.stream(), context)

    async def SubscribeSession(
        self, requests: AsyncIterator[market_session_pb2.SubscribeSessionRequest], context: Context
    ) -> None:
        """Writes until the client cancels; the client's end of sending is not its end of listening."""
        await first_request(requests)
        with metrics.WATCHERS.track_inprogress():
            await serve(self._broadcast.stream(), requests, context)

    async def GetTradingDay(
        self, request: market_session_pb2.GetTradingDayRequest, _: Context
    ) -> market_session_pb2.TradingDayInfo:
        calendar = self._calendar()
        find = {
            Direction.DIRECTION_UNSPECIFIED: calendar.on,
            Direction.NEXT: calendar.after,
            Direction.PREVIOUS: calendar.before,
        }.get(request.direction)
        if find is None:
            raise INVALID_REQUEST.error(f"direction: expected NEXT, PREVIOUS or none, was {request.direction}")
        return find(parse_date(request.date, "date")).info()

    async def ListTradingDays(
        self, request: market_session_pb2.ListTradingDaysRequest, _: Context
    ) -> market_session_pb2.ListTradingDaysResponse:
        return core.list_trading_days(self._calendar(), request)
