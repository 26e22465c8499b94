"""Follows the sequencer's stream and hands on its frames and snapshots until it is stopped.

Knows the messages of the stream and nothing of a frame's body. A connection that
ends is opened again with the last position, after a jittered pause that grows
while nothing comes of it.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import grpc
import grpc.aio
from prometheus_client import Counter
from tradeul.v1 import data_ingest_pb2, stream_pb2

from services.kit.rpc.channel import open_channel
from services.kit.rpc.frames import Frame, FrameError, StreamHole, next_frame
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import only_field
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Address

log = get_logger(__name__)

RECONNECTS: Final = Counter(
    "tradeul_frame_stream_reconnects", "Times the stream of the sequencer was opened.", ["reader"]
)

METHOD: Final = "/tradeul.v1.DataIngestService/SubscribeFrames"
# The sequencer sends watermarks all the time: silence means that it is gone.
SILENCE_SECONDS: Final = 10.0
# A snapshot may take a while to be put together.
OPEN_SECONDS: Final = 30.0
CREDIT: Final = 1024
ACK_EVERY: Final = 128

OpenStream = Callable[[None], "grpc.aio.StreamStreamCall[bytes, bytes]"]

_FIELDS: Final = {field.name: field.number for field in data_ingest_pb2.SubscribeFramesResponse.DESCRIPTOR.fields}
OPENED: Final = _FIELDS["opened"]
FRAME: Final = _FIELDS["frame"]
SNAPSHOT: Final = _FIELDS["snapshot"]
CURRENT: Final = _FIELDS["current"]
HEARTBEAT: Final = _FIELDS["heartbeat"]
RESET: Final = _FIELDS["reset"]
GOING_AWAY: Final = _FIELDS["going_away"]


class FrameSink(Protocol):
    """What the reader feeds. Its methods may not wait."""

    @property
    def position(self) -> Position | None:
        """The last frame applied; None when a snapshot is needed."""

    def apply(self, frame: Frame) -> None:
        """Takes the frame after `position`; raises FrameError when it cannot be applied."""

    def load(self, data: bytes, position: Position) -> None:
        """Takes a snapshot of the market; raises FrameError when it cannot be read."""

    def forget(self) -> None:
        """Drops the position, since what was applied can no longer be trusted: a snapshot comes next."""

    def set_unhealthy_reason(self, reason: str) -> None:
        """Takes why the stream is not followed; "" while it is."""


class FrameReader:
    """One reader of DataIngestService.SubscribeFrames; `name` is what logs and metrics call it.

    `wants_newest_state`: a snapshot is to be one of now, whatever it costs the sequencer.
    """

    def __init__(self, target: Address | str, sink: FrameSink, name: str, *, wants_newest_state: bool = False) -> None:
        self._target = target
        self._sink = sink
        self._name = name
        self._wants_newest_state = wants_newest_state
        self._chunks: list[bytes] = []
        self._chunks_of = Position(0, 0)
        self._unacknowledged = 0
        # True once the connection brought anything of use: then the pause starts small again.
        self._progressed = False

    async def run(self) -> None:
        """Reads until cancelled."""
        backoff = Backoff()
        async with open_channel(self._target) as channel:
            # Requests and responses are bytes.
            open_stream: OpenStream = channel.stream_stream(METHOD)  # type: ignore[call-arg]
            while True:
                self._sink.set_unhealthy_reason(f"connecting to data_ingest at {self._target}")
                self._progressed = False
                RECONNECTS.labels(self._name).inc()
                why = await self._follow(open_stream)
                if self._progressed:
                    backoff.reset()
                pause = backoff.next()
                self._sink.set_unhealthy_reason(f"data_ingest at {self._target}: {why}")
                log.warning("stream of data_ingest ended", reason=why, again_in=pause)
                await asyncio.sleep(pause)

    async def _follow(self, open_stream: OpenStream) -> str:
        """Follows one connection to its end; returns why it ended."""
        call = open_stream(None)
        responses = aiter(call)
        self._chunks.clear()
        self._unacknowledged = 0
        silence = OPEN_SECONDS
        try:
            await call.write(self._open_request())
            while True:
                async with asyncio.timeout(silence):
                    message = await anext(responses)
                silence = SILENCE_SECONDS
                if (end := self._take(message)) is not None:
                    return end
                if self._unacknowledged >= ACK_EVERY:
                    self._unacknowledged = 0
                    await call.write(self._ack_request())
        except StopAsyncIteration:
            return f"ended by the server: {await call.details() or 'no details'}"
        except TimeoutError:
            return f"nothing came for {silence:g} s"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except asyncio.InvalidStateError:
            # What writing to an ended call raises: it ended while a frame was applied.
            return f"ended with {(await call.code()).name}: {await call.details() or 'no details'}"
        except StreamHole as error:
            return str(error)
        except FrameError as error:
            # Going on would leave a copy that differs from everybody else's. What cannot
            # be read will not be readable at once, so that the pauses grow.
            self._sink.forget()
            self._progressed = False
            return str(error)
        finally:
            call.cancel()

    def _take(self, message: bytes) -> str | None:
        """Handles one response; returns why to end the connection, None to go on."""
        try:
            number, payload = only_field(message)
        except ValueError as error:
            raise FrameError(f"response of data_ingest cannot be read: {error}") from error
        if number == FRAME:
            self._sink.apply(next_frame(payload, self._sink.position))
            self._unacknowledged += 1
        elif number == SNAPSHOT:
            self._take_chunk(data_ingest_pb2.SnapshotChunk.FromString(bytes(payload)))
        elif number == CURRENT:
            self._check_position(stream_pb2.StreamCurrent.FromString(bytes(payload)).position)
            self._sink.set_unhealthy_reason("")
            self._progressed = True
        elif number == RESET:
            reset = stream_pb2.StreamReset.FromString(bytes(payload))
            log.info("data_ingest reset the stream", reason=reset.reason)
            self._sink.set_unhealthy_reason(f"waiting for a snapshot: {reset.reason}")
        elif number == GOING_AWAY:
            self._progressed = True
            return f"going away: {stream_pb2.StreamGoingAway.FromString(bytes(payload)).reason}"
        elif number == HEARTBEAT:
            self._check_position(stream_pb2.StreamHeartbeat.FromString(bytes(payload)).position)
        elif number != OPENED:
            raise FrameError(f"expected a response of field {OPENED}-{GOING_AWAY}, was field {number}")
        return None

    def _take_chunk(self, chunk: data_ingest_pb2.SnapshotChunk) -> None:
        position = Position.of(chunk.position)
        if chunk.index == 0:
            self._chunks.clear()
            self._chunks_of = position
        if position != self._chunks_of:
            raise FrameError(f"expected a snapshot chunk of {self._chunks_of}, was of {position}")
        if chunk.index != len(self._chunks) or chunk.index >= chunk.count:
            raise FrameError(f"expected snapshot chunk {len(self._chunks)}, was {chunk.index} of {chunk.count}")
        self._chunks.append(chunk.data)
        if len(self._chunks) < chunk.count:
            return
        data = b"".join(self._chunks)
        self._chunks.clear()
        self._sink.load(data, position)

    def _check_position(self, message: stream_pb2.StreamPosition) -> None:
        """Checks that nothing is missing; raises StreamHole when the sequencer has sent more than was received."""
        position = Position.of(message)
        # Position 0 is that of a sequencer that has sent nothing at all.
        if position.sequence and position != self._sink.position:
            raise StreamHole(f"expected to be at {position}, which was all sent, was at {self._sink.position}")

    def _open_request(self) -> bytes:
        request = data_ingest_pb2.SubscribeFramesOpen(
            reader=self._name, credit=CREDIT, wants_newest_state=self._wants_newest_state
        )
        if (position := self._sink.position) is not None:
            request.position.CopyFrom(position.message())
        return data_ingest_pb2.SubscribeFramesRequest(open=request).SerializeToString()

    def _ack_request(self) -> bytes:
        position = self._sink.position
        assert position is not None, "a frame was applied"
        ack = stream_pb2.StreamAck(position=position.message())
        return data_ingest_pb2.SubscribeFramesRequest(ack=ack).SerializeToString()
