"""AnalyticsService: protos to and from the core."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc.aio
from tradeul.v1 import analytics_pb2

from services.analytics import messages, metrics, requests
from services.analytics.board import MetricsBoard
from services.analytics.core import AnalyticsCore
from services.kit.errors import INVALID_REQUEST, OPEN_EXPECTED, OPEN_REPEATED, ServiceError

Context = grpc.aio.ServicerContext[Any, Any]
Request = analytics_pb2.SubscribeMetricsRequest


class AnalyticsServicer:
    def __init__(self, core: AnalyticsCore, board: MetricsBoard) -> None:
        self._core = core
        self._board = board

    async def GetRvol(self, request: analytics_pb2.GetRvolRequest, _: Context) -> analytics_pb2.Rvol:
        symbol_id = self._core.symbol_id(request.symbol)
        answer = messages.rvol(self._core, symbol_id, self._core.measures(symbol_id))
        if (position := messages.position_of(self._core)) is not None:
            answer.position.CopyFrom(position)
        return answer

    async def GetIntraday(self, request: analytics_pb2.GetIntradayRequest, _: Context) -> analytics_pb2.Intraday:
        symbol_id = self._core.symbol_id(request.symbol)
        answer = messages.intraday(self._core, symbol_id, self._core.measures(symbol_id))
        if (position := messages.position_of(self._core)) is not None:
            answer.position.CopyFrom(position)
        return answer

    async def WatchMetrics(self, request: analytics_pb2.WatchMetricsRequest, _: Context) -> AsyncGenerator[bytes, None]:
        stream = self._stream(request)
        with metrics.WATCHERS.track_inprogress():
            async with contextlib.aclosing(stream):
                async for message in stream:
                    yield message

    async def SubscribeMetrics(self, incoming: AsyncIterator[Request], context: Context) -> None:
        """Writes until the client cancels; the client's end of sending is not its end of listening."""
        first = await anext(aiter(incoming), None)
        if first is None or first.WhichOneof("request") != "open":
            raise OPEN_EXPECTED.error("expected open as the first message")
        stream = self._stream(first.open)
        with metrics.WATCHERS.track_inprogress():
            writing = asyncio.create_task(_write(stream, context), name="analytics.write")
            reading = asyncio.create_task(_read(incoming), name="analytics.read")
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

    def _stream(self, request: analytics_pb2.WatchMetricsRequest) -> AsyncGenerator[bytes, None]:
        symbols = requests.watched(self._core, request.symbols)
        return self._board.stream(symbols, requests.interval_seconds(request))


async def _write(stream: AsyncGenerator[bytes, None], context: Context) -> None:
    async with contextlib.aclosing(stream):
        async for message in stream:
            await context.write(message)


async def _read(incoming: AsyncIterator[Request]) -> bool:
    """Whether the client cancelled, else it has only stopped sending; raises on a second open."""
    async for request in incoming:
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
