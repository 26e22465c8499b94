"""BarService by script."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc.aio
from tradeul.v1 import bars_pb2, frame_pb2, market_data_pb2, stream_pb2

from services.kit.rpc.server import add_servicer

SECOND_NS = 1_000_000_000


def bar_batch(
    span: "market_data_pb2.BarSpan.ValueType", *bars: tuple[int, int, float], op: float = math.nan
) -> market_data_pb2.BarBatch:
    """Bars of (symbol id, end in seconds since 1970, close)."""
    batch = market_data_pb2.BarBatch(span=span)
    length = SECOND_NS if span == market_data_pb2.SECOND else 60 * SECOND_NS
    for symbol_id, end, close in bars:
        batch.symbol_id.append(symbol_id)
        batch.start_ns.append(end * SECOND_NS - length)
        batch.end_ns.append(end * SECOND_NS)
        for column, value in (
            (batch.open, close - 0.25),
            (batch.high, close + 0.5),
            (batch.low, close - 0.5),
            (batch.close, close),
            (batch.volume, 100.0),
            (batch.accumulated_volume, 12_345.5),
            (batch.day_vwap, close),
            (batch.official_open, op),
            (batch.vwap, close + 0.125),
            (batch.average_size, math.nan),
        ):
            column.append(value)
    return batch


class ScriptedBars:
    """The symbols are named to each watcher when it comes."""

    def __init__(self, symbols: Sequence[str]) -> None:
        self.symbols = symbols
        self.port = 0
        # None ends the stream.
        self.watchers: set[asyncio.Queue[bars_pb2.WatchBarsResponse | None]] = set()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def send(self, response: bars_pb2.WatchBarsResponse | None) -> None:
        for watcher in self.watchers:
            watcher.put_nowait(response)

    def bars(self, batch: market_data_pb2.BarBatch) -> None:
        self.send(bars_pb2.WatchBarsResponse(bars=batch))

    async def WatchBars(
        self, _: bars_pb2.WatchBarsRequest, __: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[bars_pb2.WatchBarsResponse]:
        watcher: asyncio.Queue[bars_pb2.WatchBarsResponse | None] = asyncio.Queue()
        self.watchers.add(watcher)
        try:
            yield bars_pb2.WatchBarsResponse(symbols=frame_pb2.SymbolTable(first_id=0, symbols=self.symbols))
            yield bars_pb2.WatchBarsResponse(heartbeat=stream_pb2.StreamHeartbeat())
            while (response := await watcher.get()) is not None:
                yield response
        finally:
            self.watchers.discard(watcher)


@contextlib.asynccontextmanager
async def scripted_bars(*symbols: str) -> AsyncIterator[ScriptedBars]:
    bars = ScriptedBars(symbols)
    server = grpc.aio.server()
    add_servicer(server, bars_pb2.DESCRIPTOR.services_by_name["BarService"], bars)
    bars.port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield bars
    finally:
        await server.stop(0)
