"""MarketSessionService: protos to and from the calendar."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import grpc.aio
from tradeul.v1 import market_session_pb2

from services.kit.errors import CLOCK_UNKNOWN, INVALID_REQUEST, OPEN_EXPECTED, OPEN_REPEATED, ServiceError
from services.market_session import core, messages, metrics
from services.market_session.board import CLOCK_MESSAGE, SessionBoard
from services.market_session.calendar import Calendar

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
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("request") != "open":
            raise OPEN_EXPECTED.error("expected open as the first message")
        with metrics.WATCHERS.track_inprogress():
            writing = asyncio.create_task(self._write(context), name="market_session.write")
            reading = asyncio.create_task(_read(requests), name="market_session.read")
            try:
                await asyncio.wait({writing, reading}, return_when=asyncio.FIRST_COMPLETED)
                if reading.done() and not writing.done() and not reading.result():
                    await writing
                if writing.done():
                    writing.result()
            finally:
                for task in (writing, reading):
                    task.cancel()
                await asyncio.gather(writing, reading, return_exceptions=True)

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

    async def _write(self, context: Context) -> None:
        async with contextlib.aclosing(self._board.stream()) as stream:
            async for message in stream:
                await context.write(message)


async def _read(requests: AsyncIterator[market_session_pb2.SubscribeSessionRequest]) -> bool:
    """Whether the client cancelled, else it has only stopped sending; raises on a second open."""
    async for request in requests:
        kind = request.WhichOneof("request")
        if kind == "cancel":
            return True
        if kind != "ack":
            raise _unexpected(kind)
    return False


def _unexpected(kind: str | None) -> ServiceError:
    if kind == "open":
        return OPEN_REPEATED.error("expected open as the first message only")
    return INVALID_REQUEST.error("expected open, ack or cancel, was an empty message")
