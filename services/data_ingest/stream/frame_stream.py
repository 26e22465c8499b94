"""The sequenced stream for its readers: the ring, a snapshot when the ring does not reach, and who reads.

The sequencer never waits for a reader. Readers that want bundles get the market's events with the watermark that
follows them, as one message: nothing is seen of them before, and each message costs more than what is in it. A patient
reader gets what came meanwhile at intervals.
"""

import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final, NamedTuple

from services.data_ingest.stream.committed import Committed
from services.data_ingest.stream.sequencer import Sequencer
from services.data_ingest.stream.snapshots import Snapshot, Snapshots
from services.kit.rpc.cursor import Broadcast, Cursor
from services.kit.rpc.envelope import FRAMES
from services.kit.rpc.ring import Position, Ring
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import INVALID_POSITION
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

HEARTBEAT_SECONDS: Final = 2.0
# Frames that a watermark follows within milliseconds (services/data_ingest/feed/watermarks.py).
EVENTS: Final = frozenset({"trades", "bars", "quotes", "limits", "halts"})
# So many bytes of events are sent without waiting for it, about 6,000 trades: a reader applies them meanwhile.
BUNDLE_BYTES: Final = 256 * 1024
# Of so many watermarks that a reader has not applied it is noted when they came.
MAX_NOTED: Final = 4096
# So that a patient reader is still no slow one.
MAX_PATIENCE_SECONDS: Final = 1.0


class ReaderOptions(NamedTuple):
    """The wishes of a reader; `credit`: frames that may be unacknowledged, 0 for any number.

    `patience_seconds`: how long frames may wait after the last message, of a reader that wants bundles.
    """

    credit: int = 0
    wants_newest_state: bool = False
    wants_alerts: bool = False
    wants_bundles: bool = False
    patience_seconds: float = 0.0


class FrameStream(Broadcast["FrameSubscription"]):
    """`on_slow` is called with True when a reader has fallen behind, with False when it has caught up or gone.

    `fencing_number`: of the lease under which this sequencer leads, 0 for the only one; `may_show`: False while another
    one may lead.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        on_slow: Callable[[bool], None] = lambda is_slow: None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        super().__init__(heartbeat_seconds)
        self.fencing_number = 0
        self.may_show: Callable[[], bool] = lambda: True
        # Readers that have fallen behind and not caught up.
        self.slow = 0
        self._sequencer = sequencer
        self._on_slow = on_slow
        self.snapshots = Snapshots(sequencer, on_made=self.wake)
        sequencer.listen(self._frame_added)
        sequencer.committed.listen(self.wake)

    @property
    def ring(self) -> Ring:
        """Of the epoch in force."""
        return self._sequencer.ring

    @property
    def committed(self) -> Committed:
        """The part of the stream that readers may have."""
        return self._sequencer.committed

    def subscribe(
        self,
        requested_position: Position | None,
        reader: str,
        options: ReaderOptions,
    ) -> "FrameSubscription":
        """A reader whose last frame is at `requested_position`, None for one that has none. It counts once it reads."""
        return FrameSubscription(self, requested_position, reader, options)

    @property
    def behind_seconds(self) -> float:
        """How far behind the readers that rank are, all of them; 0 when one is not, or without such readers.

        It is the best of them that counts: one that cannot keep up is no reason to serve all others later.
        """
        now = monotonic()
        ranking = (reader for reader in self.readers if reader.ranks and reader.is_live)
        return min((reader.behind_seconds(now) for reader in ranking), default=0.0)

    def _frame_added(self, body: str, content: bytes) -> None:
        for reader in self.readers:
            reader.frame_added(body, len(content))

    def close(self, reason: str) -> None:
        super().close(reason)
        self.snapshots.close()

    def mark_slow(self, is_slow: bool) -> None:
        """Counts a reader that has fallen behind, until it has caught up or gone."""
        self.slow += 1 if is_slow else -1
        self._on_slow(is_slow)


class FrameSubscription(Cursor):
    """One reader of a FrameStream."""

    def __init__(
        self, stream: FrameStream, requested_position: Position | None, reader: str, options: ReaderOptions
    ) -> None:
        # The ring stays that of an epoch that has ended until all of it was sent.
        super().__init__(stream.ring, stream.timers, stream.mark_slow)
        self._stream = stream
        self._requested_position = requested_position
        self._reader = reader
        self._options = options
        self._acknowledged = 0
        # The watermarks after that, with the times when they came.
        self._watermarks: deque[tuple[int, float]] = deque()
        # Bytes of events for which it was not woken yet.
        self._unannounced = 0
        # When a patient reader's next message is due, by the event loop's clock, and whether it waits until then.
        self._due_at = 0.0
        self._is_patient = False
        # What is to be sent once it may be shown, and the frame that it has to have.
        self._snapshot: Snapshot | None = None
        self._not_before: Position | None = None

    @property
    def newest(self) -> int:
        return self._stream.committed.newest(self.ring)

    @property
    def ranks(self) -> bool:
        """True for a reader that shows what it gets at once, and says how far it is."""
        return self._options.wants_bundles and not self._options.patience_seconds and self._options.credit > 0

    def behind_seconds(self, now: float) -> float:
        """How long ago a watermark came by which it should have acknowledged the one before; 0 when it has.

        It acknowledges when something comes: the last watermark before a pause says nothing.
        """
        return now - self._watermarks[1][1] if len(self._watermarks) > 1 else 0.0

    def move(self, position: Position, ring: Ring | None = None) -> None:
        super().move(position, ring)
        self._watermarks.clear()

    def frame_added(self, body: str, size: int) -> None:
        """There is a frame with a content of `size` bytes."""
        if body == "watermark" and self.is_live and self.ranks and len(self._watermarks) < MAX_NOTED:
            self._watermarks.append((self.ring.newest, monotonic()))
        if self._is_patient or (self._options.wants_bundles and body in EVENTS):
            self._unannounced += size
            if self._unannounced < BUNDLE_BYTES:
                return
        self._unannounced = 0
        self.wake()

    def acknowledge(self, position: Position) -> None:
        """The reader has applied what came up to `position`; raises INVALID_POSITION when that was not sent.

        A position of another epoch is of what the reader had before it came here, and no matter.
        """
        if position.epoch != self.ring.epoch:
            return
        if position.sequence > self.position.sequence:
            raise INVALID_POSITION.error(f"expected an acknowledgement of at most {self.position}, was {position}")
        if position.sequence > self._acknowledged:
            waited = self._is_out_of_credit()
            self._acknowledged = position.sequence
            while self._watermarks and self._watermarks[0][0] <= position.sequence:
                self._watermarks.popleft()
            if waited:
                # Otherwise events that wait for their watermark would be sent before.
                self.wake()

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Encoded SubscribeFramesResponses; ends after end() or going_away, raising what end() was given."""
        stream = self._stream
        with stream.joined(self):
            self.move(Position(stream.ring.epoch, stream.committed.newest(stream.ring)), stream.ring)
            yield FRAMES.opened(self.position, fencing_number=stream.fencing_number)
            needs_snapshot, reset_reason = self._requested_position is None, None
            if self._requested_position is not None:
                reset_reason = self.resume(self._requested_position)
                self._acknowledged = self.position.sequence
            self.catch_up()
            while not self.is_over:
                if not stream.may_show() and self.closing is None:
                    # Without heartbeats, so that the reader looks for who leads.
                    self._drop_snapshot()
                    await self.wait()
                elif reset_reason is not None:
                    yield FRAMES.reset(Position(self.ring.epoch, self.newest), reset_reason)
                    needs_snapshot, reset_reason = True, None
                elif needs_snapshot and not self._has_snapshot():
                    # It is being made, or of a frame that may not be shown yet.
                    if self.closing is not None:
                        yield FRAMES.going_away(None, self.closing)
                        return
                    if not await self.wait():
                        yield FRAMES.heartbeat(None)
                elif needs_snapshot:
                    needs_snapshot = False
                    for chunk in self._snapshot_chunks():
                        yield chunk
                elif self._has_ended() and stream.committed.begins(stream.ring):
                    self.move(Position(stream.ring.epoch, 0), stream.ring)
                    reset_reason = f"epoch {stream.ring.epoch} began"
                elif (reset_reason := self.lost_reason) is not None:
                    self.mark_slow(True)
                    log.warning("reader fell behind", reader=self._reader, reason=reset_reason)
                elif self.becomes_current():
                    yield FRAMES.current(self.position)
                elif self.has_next and not self._is_out_of_credit():
                    if self._is_early():
                        await self._wait_until_due()
                    else:
                        yield self._take_frames()
                elif self.closing is not None:
                    yield FRAMES.going_away(self.position, self.closing)
                    return
                else:
                    if not self.has_next:
                        self.mark_slow(False)
                    if not await self.wait():
                        yield FRAMES.heartbeat(self.position)
            self.raise_error()

    def _take_frames(self) -> bytes:
        """The response with the next frame, or with all there are to a reader that wants bundles."""
        message = self.take()
        if not self._options.wants_bundles:
            return message
        self._due_at = self._timers.loop.time() + self._options.patience_seconds
        messages, size = [message], len(message)
        while size < BUNDLE_BYTES and self.has_next and not self._is_out_of_credit():
            messages.append(message := self.take())
            size += len(message)
        return FRAMES.wrap("bundle", *messages) if len(messages) > 1 else message

    def _is_early(self) -> bool:
        """True while a patient reader's frames wait for those that follow."""
        return (
            self._options.patience_seconds > 0
            and self.is_live
            and self.closing is None
            and self._timers.loop.time() < self._due_at
            and self.ring.span_bytes(self.next_sequence, self.newest) < BUNDLE_BYTES
        )

    async def _wait_until_due(self) -> None:
        self._is_patient = True
        try:
            await self.wait(self._due_at)
        finally:
            self._is_patient = False

    def _has_ended(self) -> bool:
        """True if all of an epoch was sent that is over."""
        return self.ring is not self._stream.ring and self.next_sequence > self.ring.newest

    def _has_snapshot(self) -> bool:
        """True if there is a snapshot that may be shown. What follows it is held, since loading may take long."""
        if self._options.wants_newest_state and self._not_before is None:
            self._not_before = self._stream.ring.position
        if self._snapshot is None:
            self._snapshot = self._stream.snapshots.take(self._not_before)
            if self._snapshot is None:
                return False
            self.move(self._snapshot.position, self._stream.ring)
            self.hold()
        return self._stream.committed.covers(self._snapshot.position)

    def _drop_snapshot(self) -> None:
        """Takes another one when it may be sent: the ring does not wait so long."""
        if self._snapshot is not None:
            self._snapshot = None
            self.let_go()

    def _snapshot_chunks(self) -> Iterator[bytes]:
        """The reader continues after the snapshot."""
        snapshot, self._snapshot = self._snapshot, None
        self._not_before = None
        assert snapshot is not None, "there is one"
        # The credit is for what follows.
        self._acknowledged = snapshot.position.sequence
        alerts = snapshot.alert_chunks() if self._options.wants_alerts else iter(())
        for chunk in itertools.chain(alerts, map(snapshot.chunk, range(snapshot.count))):
            if self.is_over:
                return
            self.sent()
            yield chunk
        self.catch_up()
        self.let_go_if_safe()

    def _is_out_of_credit(self) -> bool:
        credit = self._options.credit
        return credit > 0 and self.position.sequence - self._acknowledged >= credit
