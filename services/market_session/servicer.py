"""MarketSessionService: protos to and from the calendar."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import grpc.aio
from tradeul.v1 import market_session_pb2

from services.kit.rpc.subscribing import opening, write_until_cancelled
from services.kit.runtime.errors import CLOCK_UNKNOWN, INVALID_REQUEST
from services.market.calendar import Calendar
from services.market_session import core, messages, metrics
from services.market_session.board import CLOCK_MESSAGE, SessionBoard

Context = grpc.aio.ServicerContext[Any, Any]
Direction = market_session_pb2.GetTradingDayRequest


class MarketSessionServicer:
    """`calendar` and `now_ns` give what holds when a request comes; `now_ns` None while the time is not known."""

    def __init__(self, calendar: Callable[[], Calendar], now_ns: Callable[[], int | None], board: SessionBoard) -> None:
        self._calendar = calendar
        self._now_ns = now_ns
        self._board = board

    async def GetCurrentSession(
        self, _: market_session_pb2.GetCurrentSessionRequest, __: Context
    ) -> market_session_pb2.CurrentSession:
        if (now_ns := self._now_ns()) is None:
            raise CLOCK_UNKNOWN.error(CLOCK_MESSAGE)
        return messages.current_session(self._calendar().at(now_ns), now_ns)

    async def WatchSession(self, _: market_session_pb2.WatchSessionRequest, __: Context) -> AsyncGenerator[bytes, None]:
        with metrics.WATCHERS.track_inprogress():
            async with contextlib.aclosing(self._board.stream()) as stream:
                async for message in stream:
                    yield message

    async def SubscribeSession(
        self, requests: AsyncIterator[market_session_pb2.SubscribeSessionRequest], context: Context
    ) -> None:
        """Writes until the client cancels; the client's end of sending is not its end of listening."""
        await opening(requests)
        with metrics.WATCHERS.track_inprogress():
            await write_until_cancelled(self._board.stream(), requests, context)

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
        return messages.trading_day_info(find(core.parse_date(request.date, "date")))

    async def ListTradingDays(
        self, request: market_session_pb2.ListTradingDaysRequest, _: Context
    ) -> market_session_pb2.ListTradingDaysResponse:
        days = core.trading_days(self._calendar(), request.start_date, request.end_date)
        return market_session_pb2.ListTradingDaysResponse(days=[messages.trading_day_info(day) for day in days])
