"""Follows the sequencer's stream and hands on its frames and snapshots until it is stopped.

Knows the messages of the stream and nothing of a frame's body. A connection that
ends is opened again with the last position, after a jittered pause that grows
while nothing comes of it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final, Protocol

from google.protobuf.message import Message
from prometheus_client import Counter
from tradeul.v1 import data_ingest_pb2, stream_pb2

from fastcore.wire import fields
from services.kit.rpc.channel import Connection, StreamEnded, reconnecting
from services.kit.rpc.envelope import FRAMES
from services.kit.rpc.frames import Frame, FrameError, StreamHole, next_frame
from services.kit.rpc.ring import Position
from services.kit.rpc.sequencers import Sequencers, SequencerTarget
from services.kit.rpc.wire import message_of
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import ServiceError
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

RECONNECTS: Final = Counter("tradeul_frame_stream_reconnects", "Times the sequencer's stream was opened.", ["reader"])

METHOD: Final = "/tradeul.v1.DataIngestService/SubscribeFrames"
# The sequencer sends watermarks all the time: silence means that it is gone.
SILENCE_SECONDS: Final = 10.0
# The patience of readers whom nobody watches tick by tick. They have no need of each watermark at once, fewer messages
# leave the processors to those through whom trades pass, and no watermark comes later for their sake.
PATIENT_SECONDS: Final = 0.05
# A snapshot may take a while to be put together.
OPEN_SECONDS: Final = 30.0
CREDIT: Final = 1024
# Of the event loop, before the sink does what it has put off. Who is woken in the first may wake others.
TURNS_BEFORE_SETTLING: Final = 2
# Frames are acknowledged when so many have been applied, or after so long by a reader that is not patient: from that
# the sequencer knows how far behind it is.
ACK_EVERY: Final = 128
ACK_SECONDS: Final = 0.02
_ALERT: Final = data_ingest_pb2.RecentAlerts.DESCRIPTOR.fields_by_name["alerts"].number
_FRAMES: Final = data_ingest_pb2.FrameBundle.DESCRIPTOR.fields_by_name["frames"].number

# Of the responses that are read as messages.
CONTENTS: Final[dict[str, type[Message]]] = {
    "opened": data_ingest_pb2.FramesOpened,
    "snapshot": data_ingest_pb2.SnapshotChunk,
    "current": stream_pb2.StreamCurrent,
    "heartbeat": stream_pb2.StreamHeartbeat,
    "reset": stream_pb2.StreamReset,
    "going_away": stream_pb2.StreamGoingAway,
}


class FrameSink(Protocol):
    """Takes what the reader reads. Its methods may not wait."""

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

    `target`: the address of the sequencer, or those of several, of which one leads.
    `wants_newest_state`: a snapshot is to be one of now, whatever it costs the sequencer.
    `patience_seconds`: how long frames may wait for those that follow, so that there are fewer messages.
    `take_alerts`: gets the newest alerts before each snapshot, encoded and in order, just before it is loaded.
    `settle`: does what the sink has put off, after those whom a response has woken; may raise FrameError.
    """

    def __init__(
        self,
        target: SequencerTarget,
        sink: FrameSink,
        name: str,
        *,
        wants_newest_state: bool = False,
        patience_seconds: float = 0.0,
        take_alerts: Callable[[list[bytes]], None] | None = None,
        settle: Callable[[], None] | None = None,
    ) -> None:
        self._sequencers = Sequencers(target)
        self._sink = sink
        self._name = name
        self._wants_newest_state = wants_newest_state
        self._patience_seconds = patience_seconds
        self._take_alerts = take_alerts
        self._settle = settle
        self._alerts: list[bytes] = []
        self._chunks: list[bytes] = []
        self._chunks_of = Position(0, 0)
        self._unacknowledged = 0
        self._acknowledged_at = 0.0
        self._backoff = self._sequencers.backoff()
        # True once the connection brought anything of use: then the pause starts small again.
        self._progressed = False
        self._has_warned = False

    async def run(self) -> None:
        """Reads until cancelled."""
        async with self._sequencers:
            await reconnecting(self._follow, self._ended, self._backoff)

    def _ended(self, reason: str, pause: float) -> None:
        # While nobody leads, each is asked again and again.
        is_repeated = self._sequencers.are_several and not self._progressed and self._has_warned
        self._has_warned = True
        (log.debug if is_repeated else log.warning)("stream of data_ingest ended", reason=reason, again_in=pause)

    async def _follow(self) -> str:
        """Follows one connection to its end, after which it is the next sequencer's turn; returns why it ended."""
        sequencers = self._sequencers
        address = sequencers.address
        self._sink.set_unhealthy_reason(f"connecting to data_ingest at {address}")
        RECONNECTS.labels(self._name).inc()
        self._progressed = False
        self._chunks.clear()
        self._alerts = []
        self._unacknowledged = 0
        was_silent = False
        # Requests and responses are bytes.
        call: Any = sequencers.channel.stream_stream(METHOD)  # type: ignore[call-arg]
        seconds, first_seconds = map(sequencers.silence_seconds, (SILENCE_SECONDS, OPEN_SECONDS))
        try:
            with Connection[bytes](call(), seconds, first_seconds) as connection:
                await connection.write(self._open_request())
                while (end := await self._handle(await connection.read())) is None:
                    if self._is_acknowledgement_due():
                        self._unacknowledged, self._acknowledged_at = 0, monotonic()
                        await connection.write(self._ack_request())
        except StreamEnded as ended:
            end, was_silent = str(ended), ended.is_silence
        except (StreamHole, ServiceError) as error:
            end = str(error)
        except FrameError as error:
            # Going on would leave a copy that differs from all others. What cannot
            # be read will not be readable at once, so that the pauses grow.
            self._sink.forget()
            end, self._progressed = str(error), False
        self._sink.set_unhealthy_reason(f"data_ingest at {address}: {end}")
        sequencers.next(was_silent)
        if self._progressed:
            self._backoff.reset()
        return end

    async def _handle(self, message: bytes) -> str | None:
        """Takes one response, and lets the sink do what it has put off, also when that fails or is cancelled."""
        if self._settle is None:
            return self._take(message)
        try:
            end = self._take(message)
            for _ in range(TURNS_BEFORE_SETTLING):
                await asyncio.sleep(0)
        except BaseException:
            # Why this ends counts, a cancellation above all.
            with contextlib.suppress(FrameError):
                self._settle()
            raise
        self._settle()
        return end

    def _take(self, message: bytes) -> str | None:
        """Handles one response; returns why to end the connection, None to continue."""
        try:
            kind, payload = FRAMES.read(message)
            content: Any = message_of(CONTENTS[kind], payload) if kind in CONTENTS else None
        except ValueError as error:
            raise FrameError(f"response of data_ingest cannot be read: {error}") from error
        if kind == "bundle":
            self._apply_bundle(payload)
        elif kind == "frame":
            self._apply(payload)
        elif kind == "opened":
            self._sequencers.check(content.fencing_number)
        elif kind == "alerts":
            self._add_alerts(payload)
        elif kind == "snapshot":
            self._take_chunk(content)
        elif kind == "current":
            self._check_position(content.position)
            self._sink.set_unhealthy_reason("")
            self._progressed, self._has_warned = True, False
        elif kind == "reset":
            log.info("data_ingest reset the stream", reason=content.reason)
            self._sink.set_unhealthy_reason(f"waiting for a snapshot: {content.reason}")
        elif kind == "going_away":
            self._progressed = True
            return f"going away: {content.reason}"
        elif kind == "heartbeat":
            self._check_position(content.position)
        return None

    def _apply(self, frame: memoryview) -> None:
        self._sink.apply(next_frame(frame, self._sink.position))
        self._unacknowledged += 1

    def _apply_bundle(self, bundle: memoryview) -> None:
        try:
            frames = [bundle[start:end] for number, _, start, end in fields(bundle) if number == _FRAMES]
        except ValueError as error:
            raise FrameError(f"bundle of frames cannot be read: {error}") from error
        for frame in frames:
            self._apply(frame)

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
        if self._take_alerts is not None:
            alerts, self._alerts = self._alerts, []
            self._take_alerts(alerts)
        self._sink.load(data, position)

    def _add_alerts(self, chunk: memoryview) -> None:
        try:
            self._alerts += [bytes(chunk[start:end]) for number, _, start, end in fields(chunk) if number == _ALERT]
        except ValueError as error:
            raise FrameError(f"alerts cannot be read: {error}") from error

    def _check_position(self, message: stream_pb2.StreamPosition) -> None:
        """Checks that nothing is missing; raises StreamHole when the sequencer has sent more than was received."""
        position = Position.of(message)
        # Position 0 is that of a sequencer that has sent nothing at all.
        if position.sequence and position != self._sink.position:
            raise StreamHole(f"expected to be at {position}, which was all sent, was at {self._sink.position}")

    def _is_acknowledgement_due(self) -> bool:
        if self._unacknowledged >= ACK_EVERY:
            return True
        may_wait = self._patience_seconds > 0 or not self._unacknowledged
        return not may_wait and monotonic() - self._acknowledged_at >= ACK_SECONDS

    def _open_request(self) -> bytes:
        request = data_ingest_pb2.SubscribeFramesOpen(
            reader=self._name,
            credit=CREDIT,
            wants_newest_state=self._wants_newest_state,
            wants_alerts=self._take_alerts is not None,
            wants_bundles=True,
            patience_ms=round(self._patience_seconds * 1000),
        )
        if (position := self._sink.position) is not None:
            request.position.CopyFrom(position.message())
        return data_ingest_pb2.SubscribeFramesRequest(open=request).SerializeToString()

    def _ack_request(self) -> bytes:
        position = self._sink.position
        assert position is not None, "a frame was applied"
        ack = stream_pb2.StreamAck(position=position.message())
        return data_ingest_pb2.SubscribeFramesRequest(ack=ack).SerializeToString()
