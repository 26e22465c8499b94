"""AnalyticsService: checks requests, answers them from the core, and writes the streams."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final

import grpc.aio
from tradeul.v1 import analytics_pb2

from services.analytics import metrics
from services.analytics.core import SLOT, SLOTS, AnalyticsCore
from services.analytics.metrics_broadcast import MetricsBroadcast, intraday, rvol
from services.kit.rpc.subscribing import first_request, serve, write_all
from services.kit.runtime.errors import INVALID_REQUEST

MAX_SYMBOLS: Final = 500
LEAST_INTERVAL_MS: Final = 1000
LONGEST_INTERVAL_MS: Final = 60_000

Context = grpc.aio.ServicerContext[Any, Any]
Request = analytics_pb2.SubscribeMetricsRequest


class AnalyticsServicer:
    def __init__(self, core: AnalyticsCore, broadcast: MetricsBroadcast) -> None:
        self._core = core
        self._broadcast = broadcast

    async def GetRvol(self, request: analytics_pb2.GetRvolRequest, _: Context) -> analytics_pb2.Rvol:
        symbol_id = self._core.symbol_id(request.symbol)
        answer = rvol(self._core, symbol_id, self._core.measures(symbol_id))
        if self._core.position is not None:
            answer.position.CopyFrom(self._core.position.message())
        return answer

    async def GetVolumeCurve(
        self, request: analytics_pb2.GetVolumeCurveRequest, context: Context
    ) -> analytics_pb2.VolumeCurve:
        core = self._core
        current = await self.GetRvol(analytics_pb2.GetRvolRequest(symbol=request.symbol), context)
        return volume_curve(core, core.symbol_id(request.symbol), current)

    async def GetIntraday(self, request: analytics_pb2.GetIntradayRequest, _: Context) -> analytics_pb2.Intraday:
        symbol_id = self._core.symbol_id(request.symbol)
        answer = intraday(self._core, symbol_id, self._core.measures(symbol_id))
        if self._core.position is not None:
            answer.position.CopyFrom(self._core.position.message())
        return answer

    async def WatchMetrics(self, request: analytics_pb2.WatchMetricsRequest, context: Context) -> None:
        stream = self._stream(request)
        with metrics.WATCHERS.track_inprogress():
            await write_all(stream, context)

    async def SubscribeMetrics(self, incoming: AsyncIterator[Request], context: Context) -> None:
        """Writes until the client cancels; a client that stops sending continues reading."""
        stream = self._stream((await first_request(incoming)).open)
        with metrics.WATCHERS.track_inprogress():
            await serve(stream, incoming, context)

    def _stream(self, request: analytics_pb2.WatchMetricsRequest) -> AsyncGenerator[bytes, None]:
        symbols = requested_symbols(self._core, request.symbols)
        return self._broadcast.stream(symbols, interval_seconds(request))


def volume_curve(core: AnalyticsCore, symbol_id: int, current: analytics_pb2.Rvol) -> analytics_pb2.VolumeCurve:
    """The usual and today's volumes at the ends of the slots; `current` is the symbol's Rvol."""
    answer = analytics_pb2.VolumeCurve(rvol=current)
    usual = core.usual_volumes(symbol_id)
    end = core.day_start
    for slot in range(SLOTS):
        end += SLOT
        point = answer.slots.add(
            slot=slot, usual=usual[slot] if usual else None, today=core.slot_volume(slot, symbol_id)
        )
        point.time.FromDatetime(end)
    return answer


def requested_symbols(core: AnalyticsCore, symbols: Sequence[str]) -> list[str]:
    """Returns the symbols as the market writes them, each once; raises INVALID_REQUEST, UNKNOWN_SYMBOL."""
    if not 1 <= len(symbols) <= MAX_SYMBOLS:
        raise INVALID_REQUEST.error(f"expected 1 to {MAX_SYMBOLS} symbols, was {len(symbols)}", field="symbols")
    return list(dict.fromkeys(core.symbols[core.symbol_id(symbol)] for symbol in symbols))


def interval_seconds(request: analytics_pb2.WatchMetricsRequest) -> float:
    """Returns the least time between updates; raises INVALID_REQUEST."""
    if not request.HasField("min_interval_ms"):
        return LEAST_INTERVAL_MS / 1000
    if not LEAST_INTERVAL_MS <= request.min_interval_ms <= LONGEST_INTERVAL_MS:
        raise INVALID_REQUEST.error(
            f"expected min_interval_ms of {LEAST_INTERVAL_MS} to {LONGEST_INTERVAL_MS}, was {request.min_interval_ms}",
            field="min_interval_ms",
        )
    return request.min_interval_ms / 1000
