"""The sequenced stream for its readers: the ring, the whole state when the ring does not reach, and who reads.

The sequencer never waits for a reader.
"""

from collections.abc import Callable
from typing import Final

from tradeul.v1 import data_ingest_pb2

from services.data_ingest import metrics
from services.data_ingest.stream.frame_subscription import FrameSubscription
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.rpc.envelope import FRAMES
from services.kit.rpc.resume import ResumePlan, plan_resume
from services.kit.rpc.ring import Position, Ring
from services.kit.rpc.wire import LENGTH_DELIMITED, varint
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

CHUNK_BYTES: Final = 1 << 20
HEARTBEAT_SECONDS: Final = 2.0
# A whole state that nobody asked for in this time is thrown away.
STATE_SECONDS: Final = 30.0
_DATA_TAG: Final = varint(
    data_ingest_pb2.SnapshotChunk.DESCRIPTOR.fields_by_name["data"].number << 3 | LENGTH_DELIMITED
)


class WholeState:
    """The market at a position, in pieces that are encoded as they are sent."""

    def __init__(self, position: Position, data: bytes) -> None:
        self.position = position
        self._data = memoryview(data)
        self.count = max(1, -(-len(data) // CHUNK_BYTES))

    def chunk(self, index: int) -> bytes:
        """The encoded response with piece `index` of `count`."""
        piece = self._data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        head = data_ingest_pb2.SnapshotChunk(position=self.position.message(), index=index, count=self.count)
        return FRAMES.wrap("snapshot", head.SerializeToString(), _DATA_TAG, varint(len(piece)), piece)


class FrameStream:
    """`on_slow` is told of each reader that fell behind (True) and has caught up or gone (False)."""

    def __init__(
        self,
        sequencer: Sequencer,
        on_slow: Callable[[bool], None] = lambda is_slow: None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.heartbeat_seconds = heartbeat_seconds
        self.closing: str | None = None
        self.slow = 0
        self.readers: set[FrameSubscription] = set()
        # Readers that wait for a frame.
        self.waiting: set[FrameSubscription] = set()
        self._sequencer = sequencer
        self._on_slow = on_slow
        self._state: WholeState | None = None
        self._state_used_at = 0.0
        sequencer.listen(self._on_frame)

    @property
    def ring(self) -> Ring:
        """Of the epoch in force."""
        return self._sequencer.ring

    def subscribe(
        self, asked: Position | None, reader: str, credit: int, wants_newest_state: bool = False
    ) -> FrameSubscription:
        """A reader whose last frame was `asked`, None for one that has none. It counts once it reads."""
        return FrameSubscription(self, asked, reader, credit, wants_newest_state)

    def plan(self, asked: Position) -> ResumePlan:
        """The reader's next frame, and why it needs the whole state first, if it does."""
        return plan_resume(asked, self.ring.epoch, self.ring.oldest, self.ring.newest)

    def whole_state(self, of_now: bool = False) -> WholeState:
        """A state from which the ring goes on; made once for all who need one at about the same time.

        `of_now`: one of the newest frame.
        """
        self._state_used_at = monotonic()
        state = self._state
        if state is None or self._is_behind(state) or (of_now and state.position != self.ring.position):
            began = monotonic()
            position, data = self._sequencer.snapshot()
            self._state = WholeState(position, data)
            seconds = monotonic() - began
            metrics.STATE_SECONDS.observe(seconds)
            log.info("whole state made", position=str(position), bytes=len(data), seconds=round(seconds, 4))
        assert self._state is not None, "it was made when there was none"
        return self._state

    def release_state(self) -> None:
        """Throws away a whole state that is of no more use; to be called now and then."""
        state = self._state
        if state is not None and (self._is_behind(state) or monotonic() - self._state_used_at > STATE_SECONDS):
            self._state = None

    def _is_behind(self, state: WholeState) -> bool:
        """Whether who loads it now would have too little time for what follows."""
        ring = self.ring
        return state.position.epoch != ring.epoch or (
            ring.has_dropped and not ring.is_safe(state.position.sequence + 1)
        )

    def _on_frame(self, _: str, __: bytes) -> None:
        if self.waiting:
            waiting, self.waiting = self.waiting, set()
            for reader in waiting:
                reader.wake()

    def close(self, reason: str) -> None:
        """Ends every reader's stream with going_away; later ones get it at once."""
        self.closing = reason
        for reader in list(self.readers):
            reader.wake()

    def mark_slow(self, is_slow: bool) -> None:
        self.slow += 1 if is_slow else -1
        self._on_slow(is_slow)
