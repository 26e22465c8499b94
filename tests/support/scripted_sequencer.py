"""A sequencer that does what a test says: an in-process gRPC server speaking SubscribeFrames."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from tradeul.v1 import data_ingest_pb2, stream_pb2

from fastcore.market import Market
from services.kit.alerts.recent_alerts import RecentAlerts
from services.kit.lists.definitions import load_lists
from services.kit.rpc.envelope import FRAMES
from services.kit.rpc.frames import read_frame
from services.kit.rpc.market_copy import WATERMARK
from services.kit.rpc.server import SERVER_OPTIONS, add_servicer
from tests.support.mesh import free_ports
from tests.support.tape import Tape

Request = data_ingest_pb2.SubscribeFramesRequest
Response = data_ingest_pb2.SubscribeFramesResponse
CHUNK_BYTES = 2048
POLL_SECONDS = 0.005


class FrameReaderSeen:
    """One reader that connected: how it opened, what it acknowledged, what is on its way to it."""

    def __init__(self, opening: data_ingest_pb2.SubscribeFramesOpen) -> None:
        self.opening = opening
        self.acknowledged = 0
        self.outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()

    @property
    def asked(self) -> tuple[int, int] | None:
        """The position with which it came."""
        if not self.opening.HasField("position"):
            return None
        return (self.opening.position.epoch, self.opening.position.sequence)


class ScriptedSequencer:
    """`async with ScriptedSequencer(tape)`: serves. Frames of `tape` are given out by `send`.

    It keeps a market of its own for whole states, and the frames from `oldest` on.
    """

    def __init__(self, tape: Tape, port: int = 0) -> None:
        self.port = port or free_ports(1)[0]
        self.status = data_ingest_pb2.SequencerStatus()
        self.readers: list[FrameReaderSeen] = []
        # Whether frames reach the readers that are connected.
        self.is_lossy = False
        # Of all epochs, for readers who want them.
        self.recent = RecentAlerts()
        self._begin(tape)
        self._server: grpc.aio.Server | None = None

    def _begin(self, tape: Tape) -> None:
        self.tape = tape
        self.market = Market(load_lists(), tape.epoch)
        self.frames: dict[int, bytes] = {}
        self.oldest = 1
        self.connected: list[FrameReaderSeen] = []

    async def __aenter__(self) -> "ScriptedSequencer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def start(self, tape: Tape | None = None) -> None:
        """Serves, on the port of before; with a `tape`, as a restarted sequencer whose numbering is new."""
        if tape is not None:
            self._begin(tape)
        server = grpc.aio.server(options=SERVER_OPTIONS)
        add_servicer(server, data_ingest_pb2.DESCRIPTOR.services_by_name["DataIngestService"], self)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server

    async def die(self) -> None:
        """Cuts everybody off without a word."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    # --- the script

    @property
    def position(self) -> stream_pb2.StreamPosition:
        return stream_pb2.StreamPosition(epoch=self.tape.epoch, sequence=self.market.sequence)

    def send(self, *frames: bytes) -> None:
        """The next frames, applied to its own market and given to all readers, as they want them."""
        responses: list[bytes] = []
        for frame in frames:
            self.market.apply(frame)
            if read_frame(memoryview(frame)).kind == WATERMARK:
                self.recent.take(self.market)
            self.frames[self.market.sequence] = frame
            responses.append(frame_response(frame))
        if self.is_lossy:
            return
        for reader in self.connected:
            if reader.opening.wants_bundles and len(responses) > 1:
                reader.outgoing.put_nowait(FRAMES.wrap("bundle", *responses))
            else:
                for response in responses:
                    reader.outgoing.put_nowait(response)

    def trade(self, prices: dict[str, float], seconds: float = 0.0) -> None:
        """Trades, then a watermark."""
        self.send(self.tape.trades(prices), self.tape.watermark(seconds))

    def say(self, response: Response | bytes) -> None:
        """Any response, to all readers."""
        message = response if isinstance(response, bytes) else response.SerializeToString()
        for reader in self.connected:
            reader.outgoing.put_nowait(message)

    def say_snapshot(self) -> None:
        """The whole state of now, unasked."""
        for chunk in self.chunks():
            self.say(chunk)

    def keep_alerts(self, most: int) -> None:
        """Keeps the newest alerts only, at most so many."""
        kept = self.recent.all()
        self.recent = RecentAlerts(kept[max(0, len(kept) - most) :])

    def hang_up(self) -> None:
        """Ends all streams with OK."""
        for reader in self.connected:
            reader.outgoing.put_nowait(None)

    def forget_before(self, sequence: int) -> None:
        """Frames below are no longer held."""
        self.oldest = sequence

    async def until_connections(self, count: int) -> FrameReaderSeen:
        """Waits until readers have connected so often; the newest."""
        while len(self.readers) < count:
            await asyncio.sleep(POLL_SECONDS)
        return self.readers[-1]

    def chunks(self) -> list[Response]:
        data, position = self.market.to_bytes(), self.position
        pieces = [data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES)]
        return [
            Response(
                snapshot=data_ingest_pb2.SnapshotChunk(position=position, index=index, count=len(pieces), data=piece)
            )
            for index, piece in enumerate(pieces)
        ]

    # --- DataIngestService

    async def SubscribeFrames(self, requests: AsyncIterator[Request], _: Any) -> AsyncIterator[bytes]:
        first = await anext(aiter(requests))
        assert first.WhichOneof("request") == "open"
        reader = FrameReaderSeen(first.open)
        for response in self._catch_up(reader.asked, first.open.wants_alerts):
            reader.outgoing.put_nowait(response.SerializeToString())
        self.readers.append(reader)
        self.connected.append(reader)
        acks = asyncio.create_task(self._read_acks(requests, reader))
        try:
            while (message := await reader.outgoing.get()) is not None:
                yield message
        finally:
            acks.cancel()
            if reader in self.connected:
                self.connected.remove(reader)

    def _catch_up(self, asked: tuple[int, int] | None, wants_alerts: bool) -> list[Response]:
        now = self.position
        responses = [Response(opened=data_ingest_pb2.FramesOpened(position=now))]
        if asked is not None and asked[0] == self.tape.epoch and self.oldest <= asked[1] + 1 <= now.sequence + 1:
            missed = range(asked[1] + 1, now.sequence + 1)
            responses += [Response.FromString(frame_response(self.frames[sequence])) for sequence in missed]
        else:
            if asked is not None:
                responses.append(Response(reset=stream_pb2.StreamReset(position=now, reason="position is gone")))
            if wants_alerts:
                # In several, as they come when there are many.
                for alert in self.recent.all():
                    responses.append(Response(alerts=data_ingest_pb2.RecentAlerts()))
                    responses[-1].alerts.alerts.add().ParseFromString(alert)
            responses += self.chunks()
        return [*responses, Response(current=stream_pb2.StreamCurrent(position=now))]

    async def _read_acks(self, requests: AsyncIterator[Request], reader: FrameReaderSeen) -> None:
        async for request in requests:
            if request.WhichOneof("request") == "ack":
                reader.acknowledged = request.ack.position.sequence

    async def WatchClock(self, request: Any, context: Any) -> None:
        raise NotImplementedError

    async def GetSequencerStatus(self, request: Any, context: Any) -> data_ingest_pb2.SequencerStatus:
        return self.status


def frame_response(frame: bytes) -> bytes:
    """An encoded Frame as a response."""
    response = Response()
    response.frame.ParseFromString(frame)
    return response.SerializeToString()
