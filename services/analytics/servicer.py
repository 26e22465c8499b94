"""AnalyticsService: protos to and from the core."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc.aio
from tradeul.v1 import analytics_pb2

from services.analytics import messages, metrics, requests
from services.analytics.board import MetricsBoard
from services.analytics.core import AnalyticsCore
from services.kit.rpc.subscribing import opening, write_until_cancelled

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
        stream = self._stream((await opening(incoming)).open)
        with metrics.WATCHERS.track_inprogress():
            await write_until_cancelled(stream, incoming, context)

    def _stream(self, request: analytics_pb2.WatchMetricsRequest) -> AsyncGenerator[bytes, None]:
        symbols = requests.watched(self._core, request.symbols)
        return self._board.stream(symbols, requests.interval_seconds(request))
