"""Decoded market data in batches, kept until the sequencer has acknowledged them."""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from fastcore.feed_decoder import FeedDecoder
from fastcore.feed_elements import Status
from services.kit.rpc.envelope import MARKET
from services.kit.rpc.ring import Position, Ring
from services.kit.runtime.clock import monotonic

# About 1.3 million trades: half a minute of a busy market.
MAX_HELD_BYTES: Final = 64 * 1024 * 1024
MAX_HELD_BATCHES: Final = 1 << 16
# A position has 32 bits: beyond this sequence the batches are renumbered as soon as all were acknowledged.
LAST_SEQUENCE: Final = 1 << 31
# A batch costs every reader the same, full or not: events wait for company until the batch before is so old.
FLUSH_SECONDS: Final = 0.003
MAX_BATCH_ROWS: Final = 4096
# A vendor drops a reader that stalls, and then more is lost than our oldest batches.
PATIENCE_SECONDS: Final = 5.0
# Of a connection that comes and goes the newest gaps are enough.
MAX_GAPS: Final = 64


class Timer(Protocol):
    """The event loop's."""

    def cancel(self) -> None: ...


class Gap(NamedTuple):
    """That the vendor's connection was lost or is back, behind the batch at `position`, as an encoded response."""

    number: int
    position: Position
    message: bytes


class FeedBuffer:
    """The feed's events, from the vendor's message to the ring of batches.

    A batch is closed at `max_rows` events; with fewer, as soon as the one before it is FLUSH_SECONDS old.

    Args:
        epoch: numbers the batches' positions; greater than that of any earlier process.
        on_batch: is called after each batch.
        call_later: the event loop's; without one only rows close a batch, and flush().
        now: the seconds of the event loop's clock.
    """

    def __init__(
        self,
        epoch: int,
        on_batch: Callable[[], None] = lambda: None,
        call_later: Callable[[float, Callable[[], None]], Timer] | None = None,
        now: Callable[[], float] = monotonic,
        max_batches: int = MAX_HELD_BATCHES,
        max_bytes: int = MAX_HELD_BYTES,
        max_rows: int = MAX_BATCH_ROWS,
        last_sequence: int = LAST_SEQUENCE,
    ) -> None:
        self._new_ring: Callable[[int], Ring] = lambda epoch: Ring(epoch, max_batches, max_bytes)
        self._last_sequence = last_sequence
        self.decoder = FeedDecoder()
        self.ring = self._new_ring(epoch)
        self.dropped_batches = 0
        self.dropped_events = 0
        # Gaps so far, those included that are no longer held.
        self.gaps = 0
        self._on_batch = on_batch
        self._call_later = call_later
        self._now = now
        self._flushed_at = float("-inf")
        self._flush_timer: Timer | None = None
        self._max_rows = max_rows
        # Events of each batch in the ring, so that those of a dropped one can be counted.
        self._rows: deque[int] = deque()
        self._gaps: deque[Gap] = deque(maxlen=MAX_GAPS)

    @property
    def position(self) -> Position:
        """Of the newest batch."""
        return self.ring.position

    @property
    def held_batches(self) -> int:
        """Batches that are neither acknowledged nor dropped."""
        return self.ring.newest + 1 - self.ring.oldest

    def decode(self, message: bytes | memoryview) -> list[Status]:
        """Takes one message of the vendor's; returns the statuses in it, which are about the connection."""
        statuses = self.decoder.decode(message)
        rows = self.decoder.rows
        if rows >= self._max_rows:
            self.flush()
        elif rows and self._flush_timer is None and self._call_later is not None:
            if (pause := self._flushed_at + FLUSH_SECONDS - self._now()) > 0:
                self._flush_timer = self._call_later(pause, self.flush)
            else:
                self.flush()
        return statuses

    def flush(self) -> None:
        """Makes what came since the last batch a batch, if anything did."""
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        rows = self.decoder.rows
        body = self.decoder.take()
        if not body:
            return
        self._flushed_at = self._now()
        if self.ring.newest >= self._last_sequence and not self.held_batches:
            self.ring = self._new_ring(self.ring.epoch + 1)
        ring = self.ring
        message, _ = MARKET.positioned("batch", Position(ring.epoch, ring.newest + 1), body)
        ring.append(message)
        self._rows.append(rows)
        while len(self._rows) > self.held_batches:
            self.dropped_batches += 1
            self.dropped_events += self._rows.popleft()
        self._on_batch()

    def add_gap(self, from_ns: int, to_ns: int | None, reason: str) -> None:
        """Behind what has come so far the connection was lost at `from_ns`, or is back since `to_ns`."""
        self.flush()
        position = self.position
        message = MARKET.message("feed_gap", position=position.message(), from_ns=from_ns, to_ns=to_ns, reason=reason)
        self._gaps.append(Gap(self.gaps, position, message))
        self.gaps += 1

    def gap(self, number: int) -> Gap | None:
        """Gap `number`, counted from 0, or the next one that is held; None when there is none."""
        return next((gap for gap in self._gaps if gap.number >= number), None) if number < self.gaps else None

    def first_gap_after(self, position: Position) -> int:
        """The number of the first gap after the batch at `position` or a later one."""
        return next((gap.number for gap in self._gaps if gap.position >= position), self.gaps)

    def acknowledge(self, position: Position) -> bool:
        """Forgets the batches up to `position`; False when that is no position of ours."""
        if position.epoch != self.ring.epoch or position.sequence > self.ring.newest:
            return False
        self.ring.release(position.sequence)
        while len(self._rows) > self.held_batches:
            self._rows.popleft()
        return True


class Backpressure:
    """Decides when the vendor's messages are left in the socket because the sequencer is behind.

    Pauses above `high` bytes held and resumes below half of it. Only a sequencer that is there and makes progress
    is waited for: without one, or `patience` seconds after its last acknowledgement, reading continues and the oldest
    batches make room.
    """

    def __init__(self, high: int, patience: float = PATIENCE_SECONDS) -> None:
        self.is_paused = False
        self._high = high
        self._low = high // 2
        self._patience = patience
        self._progress_at = float("-inf")

    def progress(self, now: float) -> None:
        """The sequencer came, or acknowledged something, `now` (seconds of any clock)."""
        self._progress_at = now

    def update(self, held_bytes: int, has_reader: bool, now: float) -> bool:
        """True if reading is to be paused."""
        if not has_reader or now - self._progress_at > self._patience:
            self.is_paused = False
        elif held_bytes > self._high:
            self.is_paused = True
        elif held_bytes < self._low:
            self.is_paused = False
        return self.is_paused
