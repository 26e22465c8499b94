"""data_ingest in this process, with the real market_session, and readers of its stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import REGISTRY
from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc, frame_pb2, stream_pb2

from fastcore.market import Market
from services.data_ingest.service import DataIngest
from services.kit.lists.definitions import load_lists
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from services.market_session.service import MarketSession
from tests.support.scripted_polygon_ws import POLL_SECONDS, ScriptedPolygonWs
from tests.support.stores import Stores
from tests.support.vendor_server import VendorServer

Request = data_ingest_pb2.SubscribeFramesRequest
Response = data_ingest_pb2.SubscribeFramesResponse
WAIT_SECONDS = 60


class FrameReader:
    """A client of SubscribeFrames: a copy of the market, and the frames that came."""

    def __init__(self, stub: Any, asked: tuple[int, int] | None = None) -> None:
        self.kinds: list[str] = []
        self.frames: list[frame_pb2.Frame] = []
        self.resets: list[str] = []
        self.market: Market | None = None
        self.position = asked
        self._stub = stub
        self._call: Any = None
        self._chunks: list[bytes] = []

    async def __aenter__(self) -> Self:
        opening = data_ingest_pb2.SubscribeFramesOpen(reader="test")
        if self.position is not None:
            opening.position.CopyFrom(stream_pb2.StreamPosition(epoch=self.position[0], sequence=self.position[1]))
        self._call = self._stub.SubscribeFrames()
        await self.send(Request(open=opening))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()

    async def send(self, request: Request) -> None:
        await self._call.write(request)

    async def ack(self, sequence: int) -> None:
        assert self.position is not None
        position = stream_pb2.StreamPosition(epoch=self.position[0], sequence=sequence)
        await self.send(Request(ack=stream_pb2.StreamAck(position=position)))

    async def read(self) -> Response | None:
        """The next response, taken in; None at the end of the stream, see code()."""
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                response = await self._call.read()
        except grpc.aio.AioRpcError:
            return None
        if not isinstance(response, Response):
            return None
        self._take(response)
        return response

    async def until(self, enough: Callable[[], object]) -> None:
        """Reads on until `enough()` holds."""
        while not enough():
            assert await self.read() is not None, f"the stream ended after {self.kinds[-5:]}"

    async def until_kind(self, kind: str) -> Response:
        """Reads on to the next response of a kind."""
        while (response := await self.read()) is not None:
            if response.WhichOneof("response") == kind:
                return response
        raise AssertionError(f"expected {kind}, the stream ended after {self.kinds[-5:]}")

    async def until_price(self, symbol: str, price: float) -> None:
        """Reads on until the copy, at a watermark, has that price of a symbol."""
        await self.until(lambda: self.price(symbol) == price)

    def price(self, symbol: str) -> object:
        """Of the copy as of its last watermark."""
        state = self.market.state if self.market is not None else None
        return state.row(symbol).get("price") if state is not None and state.symbol_id(symbol) >= 0 else None

    def bodies(self, kind: str) -> list[Any]:
        return [getattr(frame, kind) for frame in self.frames if frame.WhichOneof("body") == kind]

    async def code(self) -> grpc.StatusCode:
        """How the stream ended."""
        code: grpc.StatusCode = await self._call.code()
        return code

    async def details(self) -> str:
        return str(await self._call.details())

    def _take(self, response: Response) -> None:
        kind = str(response.WhichOneof("response"))
        self.kinds.append(kind)
        if kind == "snapshot":
            chunk = response.snapshot
            assert chunk.index == len(self._chunks)
            self._chunks.append(chunk.data)
            if len(self._chunks) == chunk.count:
                self.market = Market.from_bytes(load_lists(), b"".join(self._chunks))
                self._chunks = []
                self.position = (chunk.position.epoch, chunk.position.sequence)
        elif kind == "frame":
            frame = response.frame
            position = (frame.position.epoch, frame.position.sequence)
            assert self.position is None or position == (self.position[0], self.position[1] + 1), "a hole"
            self.position = position
            self.frames.append(frame)
            if self.market is not None:
                self.market.apply(frame.SerializeToString())
        elif kind == "reset":
            self.resets.append(response.reset.reason)


class RunningSequencer:
    """A data_ingest that serves, with a client."""

    def __init__(self, service: DataIngest, host: Host, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.host = host
        self.port = host.port
        self.address = f"127.0.0.1:{host.port}"
        self.stub: Any = data_ingest_pb2_grpc.DataIngestServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)

    def reader(self, asked: tuple[int, int] | None = None) -> FrameReader:
        return FrameReader(self.stub, asked)

    async def status(self) -> data_ingest_pb2.SequencerStatus:
        request = data_ingest_pb2.GetSequencerStatusRequest()
        status: data_ingest_pb2.SequencerStatus = await self.stub.GetSequencerStatus(request)
        return status

    async def until(
        self, enough: Callable[[data_ingest_pb2.SequencerStatus], object]
    ) -> data_ingest_pb2.SequencerStatus:
        """Waits until the status is such."""
        async with asyncio.timeout(WAIT_SECONDS):
            while not enough(status := await self.status()):
                await asyncio.sleep(POLL_SECONDS)
        return status

    async def until_health(self, serving: bool) -> None:
        wanted = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(WAIT_SECONDS):
            while (await self._health.Check(health_pb2.HealthCheckRequest())).status != wanted:
                await asyncio.sleep(POLL_SECONDS)


@contextlib.asynccontextmanager
async def running_sequencer(
    vendor: VendorServer,
    feed: ScriptedPolygonWs,
    data_dir: Path,
    stores: Stores | None = None,
    environment: Mapping[str, str] | None = None,
    **sources: Any,
) -> AsyncIterator[RunningSequencer]:
    """Serves data_ingest in feed mode; `sources` are those of DataIngest. When it is left, no reader may be left."""
    common = {
        **vendor.environment,
        **(stores.environment() if stores is not None else {}),
        "TRADEUL_CLOCK": "feed",
        "TRADEUL_DATA_DIR": str(data_dir),
        "TRADEUL_METRICS_PORT_OFFSET": "0",
        **(environment or {}),
    }
    calendar = Host(MarketSession(Settings.load({**common, "TRADEUL_MARKET_SESSION_ADDRESS": "127.0.0.1:0"})))
    await calendar.start()
    settings = Settings.load(
        {
            **common,
            "TRADEUL_MARKET_SESSION_ADDRESS": f"127.0.0.1:{calendar.port}",
            "TRADEUL_POLYGON_WS_ADDRESS": f"127.0.0.1:{feed.port}",
            "TRADEUL_DATA_INGEST_ADDRESS": "127.0.0.1:0",
        }
    )
    # Services of other tests in this process count in the same gauges.
    before = subscribers()
    service = DataIngest(settings, **sources)
    host = Host(service)
    await host.start()
    channel = open_channel(f"127.0.0.1:{host.port}")
    try:
        yield RunningSequencer(service, host, channel)
    finally:
        await channel.close(None)
        await host.stop()
        await calendar.stop()
    check_nothing_is_left(service, before)


def subscribers() -> dict[tuple[str, str], float]:
    """The gauges of this process's subscribers that are not zero, by name and labels."""
    return {
        (sample.name, str(sample.labels)): sample.value
        for family in REGISTRY.collect()
        if family.name in ("tradeul_subscribers", "tradeul_slow_subscribers")
        for sample in family.samples
        if sample.value
    }


def check_nothing_is_left(service: DataIngest, before: dict[tuple[str, str], float]) -> None:
    """Readers, slow ones: all gone, in the numbers and in the metrics, which are as `before` the service began."""
    stream = service.parts.stream
    assert (len(stream.readers), stream.timers.waiting, stream.slow) == (0, 0, 0)
    left = subscribers()
    assert left == before, f"expected {before} subscribers, was {left}"
