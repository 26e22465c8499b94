"""polygon_ws in this process against a scripted vendor, and a sequencer to read it."""

import contextlib
import json
import random
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import grpc.aio
import numpy as np
from tradeul.v1 import polygon_ws_pb2, polygon_ws_pb2_grpc, stream_pb2

from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from services.polygon_ws.connection import Timing
from services.polygon_ws.service import PolygonWs
from tests.support.vendor_server import VendorServer

START_MS = 1_763_994_600_000
Response = polygon_ws_pb2.SubscribeMarketResponse


def quick() -> Timing:
    """Back-off for tests: the same shape, a hundredth of the time."""
    return Timing(first_backoff=0.005, longest_backoff=0.02, rng=random.Random(7))


def trade(symbol: str, number: int, **more: Any) -> dict[str, Any]:
    """Trade `number`: its price says which it is."""
    return {"ev": "T", "sym": symbol, "x": 4, "i": str(number), "p": number, "s": 100, "t": START_MS + number, **more}


def message(*elements: Any) -> str:
    return json.dumps(elements, separators=(",", ":"))


class Sequencer:
    """A client of SubscribeMarket that keeps the symbol table and the trades it got."""

    def __init__(self, stub: polygon_ws_pb2_grpc.PolygonWsServiceStub, position: tuple[int, int] | None = None) -> None:
        self.symbols: list[str] = []
        self.sequences: list[int] = []
        self.trades: list[tuple[str, float]] = []
        self.kinds: list[str] = []
        self.resets: list[str] = []
        self.position = position
        self._stub = stub
        self._call: Any = None

    async def __aenter__(self) -> Self:
        opening = polygon_ws_pb2.SubscribeMarketOpen()
        if self.position is not None:
            opening.position.CopyFrom(stream_pb2.StreamPosition(epoch=self.position[0], sequence=self.position[1]))
        self._call = self._stub.SubscribeMarket()  # type: ignore[call-arg]
        await self._call.write(polygon_ws_pb2.SubscribeMarketRequest(open=opening))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()

    async def send(self, request: polygon_ws_pb2.SubscribeMarketRequest) -> None:
        await self._call.write(request)

    async def ack(self, sequence: int | None = None) -> None:
        """Acknowledges everything received, or up to `sequence`."""
        assert self.position is not None
        position = stream_pb2.StreamPosition(epoch=self.position[0], sequence=sequence or self.position[1])
        await self.send(polygon_ws_pb2.SubscribeMarketRequest(ack=stream_pb2.StreamAck(position=position)))

    async def read(self) -> Response | None:
        """The next response, taken in; None at the end of the stream, see code()."""
        try:
            response: Response = await self._call.read()
        except grpc.aio.AioRpcError:
            return None
        if response is grpc.aio.EOF:  # type: ignore[attr-defined]
            return None
        kind = response.WhichOneof("response") or ""
        self.kinds.append(kind)
        if kind == "opened":
            self.symbols = list(response.opened.symbols)
            self.epoch = response.opened.position.epoch
        elif kind == "reset":
            self.resets.append(response.reset.reason)
        elif kind == "batch":
            self._take(response.batch)
        return response

    async def until(self, kind: str) -> Response:
        """Reads on to the next response of a kind."""
        while (response := await self.read()) is not None:
            if response.WhichOneof("response") == kind:
                return response
        raise AssertionError(f"expected {kind}, the stream ended after {self.kinds}")

    async def until_trades(self, count: int) -> None:
        """Reads on until `count` trades have come."""
        while len(self.trades) < count:
            assert await self.read() is not None, f"expected {count} trades, the stream ended after {len(self.trades)}"

    async def code(self) -> grpc.StatusCode:
        """How the stream ended."""
        code: grpc.StatusCode = await self._call.code()
        return code

    async def details(self) -> str:
        return str(await self._call.details())

    def _take(self, batch: polygon_ws_pb2.MarketBatch) -> None:
        first = batch.first_symbol_id
        assert first <= len(self.symbols), "a hole in the symbol table"
        self.symbols[first : first + len(batch.new_symbols)] = batch.new_symbols
        self.position = (batch.position.epoch, batch.position.sequence)
        self.sequences.append(batch.position.sequence)
        prices = np.asarray(batch.trades.price)
        self.trades += [(self.symbols[i], float(p)) for i, p in zip(batch.trades.symbol_id, prices, strict=True)]


class RunningFeed:
    """A polygon_ws that serves, with a client."""

    def __init__(self, service: PolygonWs, host: Host, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.host = host
        self.channel = channel
        self.stub = polygon_ws_pb2_grpc.PolygonWsServiceStub(channel)

    async def status(self) -> polygon_ws_pb2.FeedStatus:
        status: polygon_ws_pb2.FeedStatus = await self.stub.GetFeedStatus(polygon_ws_pb2.GetFeedStatusRequest())
        return status

    def sequencer(self, position: tuple[int, int] | None = None) -> Sequencer:
        return Sequencer(self.stub, position)


@contextlib.asynccontextmanager
async def running_feed(
    vendor: VendorServer | Mapping[str, str], environment: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[RunningFeed]:
    """Serves polygon_ws against `vendor`, or the environment of one; `options` are those of PolygonWs."""
    settings = Settings.load(
        {
            **(vendor.environment if isinstance(vendor, VendorServer) else vendor),
            "TRADEUL_POLYGON_WS_ADDRESS": "127.0.0.1:0",
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            "TRADEUL_SUBSCRIPTIONS": "T.*",
            **(environment or {}),
        }
    )
    service = PolygonWs(settings, **{"timing": quick(), **options})
    host = Host(service)
    await host.start()
    channel = open_channel(f"127.0.0.1:{host.port}")
    try:
        yield RunningFeed(service, host, channel)
    finally:
        await channel.close(None)
        await host.stop()
