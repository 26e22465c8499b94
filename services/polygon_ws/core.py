"""Decoded market data in batches, kept until the sequencer has acknowledged them."""

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from fastcore.feed_decoder import FeedDecoder
from fastcore.feed_elements import Status
from services.kit.rpc.envelope import MARKET
from services.kit.rpc.resume import plan_resume
from services.kit.rpc.ring import Position, Ring

# About 1.3 million trades: half a minute of a busy market.
MAX_HELD_BYTES: Final = 64 * 1024 * 1024
MAX_HELD_BATCHES: Final = 1 << 16
# A position has 32 bits: beyond this sequence the batches are numbered anew as soon as all were acknowledged.
LAST_SEQUENCE: Final = 1 << 31
# A batch is closed at so many events, if not by time.
MAX_BATCH_ROWS: Final = 4096
# Of a connection that comes and goes the newest gaps are enough.
MAX_GAPS: Final = 64


class Gap(NamedTuple):
    """That the vendor's connection was lost or is back, behind the batch at `position`, as an encoded response."""

    number: int
    position: Position
    message: bytes


class Held(NamedTuple):
    """What is remembered of a batch in the ring, so that one dropped can be counted."""

    rows: int
    size: int


class FeedBuffer:
    """The feed's events, from the vendor's message to the ring of batches.

    Args:
        epoch: numbers the batches' positions; greater than that of any earlier process.
        on_batch: is called after each batch.
    """

    def __init__(
        self,
        epoch: int,
        on_batch: Callable[[], None] = lambda: None,
        max_batches: int = MAX_HELD_BATCHES,
        max_bytes: int = MAX_HELD_BYTES,
        max_rows: int = MAX_BATCH_ROWS,
        last_sequence: int = LAST_SEQUENCE,
    ) -> None:
        self._new_ring: Callable[[int], Ring] = lambda epoch: Ring(epoch, max_batches, max_bytes)
        self._last_sequence = last_sequence
        self.decoder = FeedDecoder()
        self.ring = Ring(epoch, max_batches, max_bytes)
        self.dropped_batches = 0
        self.dropped_events = 0
        self.held_bytes = 0
        self._on_batch = on_batch
        self._max_rows = max_rows
        self._held: deque[Held] = deque()
        self._gaps: deque[Gap] = deque(maxlen=MAX_GAPS)
        # Gaps so far, those included that are no longer held.
        self.gaps = 0

    @property
    def position(self) -> Position:
        """Of the newest batch."""
        return self.ring.position

    @property
    def oldest(self) -> int:
        """Sequence of the oldest batch that is held; one more than the newest when none is."""
        return self.ring.newest + 1 - len(self._held)

    @property
    def held_batches(self) -> int:
        return len(self._held)

    def take(self, message: bytes | memoryview) -> list[Status]:
        """Decodes one message of the vendor's; returns what it says about the connection."""
        said = self.decoder.decode(message)
        if self.decoder.rows >= self._max_rows:
            self.flush()
        return said

    def flush(self) -> bool:
        """Makes what came since the last batch a batch; whether there was anything."""
        rows = self.decoder.rows
        body = self.decoder.take()
        if not body:
            return False
        if self.ring.newest >= self._last_sequence and not self._held:
            self.ring = self._new_ring(self.ring.epoch + 1)
        ring = self.ring
        message, _ = MARKET.positioned("batch", Position(ring.epoch, ring.newest + 1), body)
        ring.append(message)
        self._held.append(Held(rows, len(message)))
        self.held_bytes += len(message)
        while len(self._held) > ring.newest + 1 - ring.oldest:
            self.dropped_batches += 1
            self.dropped_events += self._forget()
        self._on_batch()
        return True

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

    def first_gap_behind(self, sequence: int) -> int:
        """The number of the first gap that stands behind batch `sequence` or a later one."""
        here = (gap for gap in self._gaps if gap.position.epoch == self.ring.epoch)
        return next((gap.number for gap in here if gap.position.sequence >= sequence), self.gaps)

    def acknowledge(self, asked: Position) -> bool:
        """Forgets the batches up to `asked`; False when that is no position of ours."""
        if asked.epoch != self.ring.epoch or asked.sequence > self.ring.newest:
            return False
        while self._held and self.oldest <= asked.sequence:
            self._forget()
        self.ring.release(asked.sequence)
        return True

    def resume(self, asked: Position | None) -> tuple[int, str | None]:
        """Where a subscriber goes on, the sequence of its next batch, and why batches were lost to it, if so.

        One that knows no position begins with the oldest batch that is held.
        """
        if asked is None:
            return self.oldest, None
        plan = plan_resume(asked, self.ring.epoch, self.oldest, self.ring.newest)
        return (plan.next_sequence, None) if plan.reset_reason is None else (self.oldest, plan.reset_reason)

    def _forget(self) -> int:
        rows, size = self._held.popleft()
        self.held_bytes -= size
        return rows
