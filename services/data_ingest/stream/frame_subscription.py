"""A reader's side of the sequenced stream: resuming, credit, falling behind, going away."""

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from services.kit.rpc.envelope import FRAMES
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import INVALID_POSITION
from services.kit.runtime.logging import get_logger

if TYPE_CHECKING:
    from services.data_ingest.stream.frame_stream import FrameStream

log = get_logger(__name__)


class FrameSubscription:
    """One reader of a FrameStream. `credit`: frames that may be unacknowledged; 0 for any number."""

    def __init__(
        self, stream: "FrameStream", asked: Position | None, reader: str, credit: int, wants_newest_state: bool = False
    ) -> None:
        self._stream = stream
        # Of an epoch that has ended, until all of it was sent.
        self._ring = stream.ring
        self._asked = asked
        self._reader = reader
        self._credit = credit
        self._wants_newest_state = wants_newest_state
        self._woken = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None
        self._next = 0
        self._acknowledged = 0
        self._current_at: int | None = None
        self._is_slow = False
        self._is_holding = False

    @property
    def at(self) -> Position:
        """The last frame sent, or the whole state."""
        return Position(self._ring.epoch, self._next - 1)

    def wake(self) -> None:
        """Something happened that a wait may be about."""
        self._woken.set()

    def end(self, error: Exception | None = None) -> None:
        """Ends the messages at once, with `error` if there is one."""
        if not self._ended:
            self._ended = True
            self._error = error
            self.wake()

    def acknowledge(self, position: Position) -> None:
        """The reader has applied what came up to `position`; raises INVALID_POSITION when that was not sent.

        One of another epoch is of what the reader had before it came here, and no matter.
        """
        if position.epoch != self._ring.epoch:
            return
        if position.sequence > self.at.sequence:
            raise INVALID_POSITION.error(f"expected an acknowledgement of at most {self.at}, was {position}")
        if position.sequence > self._acknowledged:
            self._acknowledged = position.sequence
            self.wake()

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Encoded SubscribeFramesResponses; ends after end() or going_away, raising what end() was given."""
        stream = self._stream
        ring = self._ring = stream.ring
        stream.readers.add(self)
        try:
            yield FRAMES.opened(ring.position)
            needs_state, reset_reason = self._asked is None, None
            if self._asked is not None:
                plan = stream.plan(self._asked)
                self._go_on_at(plan.next_sequence)
                needs_state, reset_reason = plan.reset_reason is not None, plan.reset_reason
            self._current_at = ring.newest
            while not self._ended:
                if reset_reason is not None:
                    yield FRAMES.reset(ring.position, reset_reason)
                    reset_reason = None
                elif needs_state:
                    needs_state = False
                    if ring is not stream.ring:
                        self._let_go()
                        ring = self._ring = stream.ring
                    state = stream.whole_state(self._wants_newest_state)
                    # Loading it may take longer than the ring lasts.
                    self._hold(state.position.sequence + 1)
                    for index in range(state.count):
                        if self._ended:
                            break
                        yield state.chunk(index)
                    self._go_on_at(state.position.sequence + 1)
                    self._current_at = ring.newest
                    if ring.is_safe(self._next):
                        self._let_go()
                elif self._next > ring.newest and ring is not stream.ring:
                    self._let_go()
                    ring = self._ring = stream.ring
                    self._current_at = None
                    needs_state, reset_reason = True, f"epoch {self.at.epoch} began"
                    self._go_on_at(1)
                elif self._next < ring.oldest:
                    self._mark_slow(True)
                    needs_state = True
                    reset_reason = (
                        f"frame {self._next} was dropped before it was taken; the oldest held is {ring.oldest}"
                    )
                    log.warning("reader fell behind", reader=self._reader, reason=reset_reason)
                elif self._current_at is not None and self._next > self._current_at:
                    self._current_at = None
                    yield FRAMES.current(self.at)
                elif self._next <= ring.newest and not self._is_out_of_credit():
                    message = ring.get(self._next)
                    self._next += 1
                    if self._is_holding:
                        self._hold(self._next)
                        if ring.is_safe(self._next):
                            self._let_go()
                    yield message
                elif stream.closing is not None:
                    yield FRAMES.going_away(self.at, stream.closing)
                    return
                else:
                    if self._next > ring.newest:
                        self._mark_slow(False)
                    if not await self._wait():
                        yield FRAMES.heartbeat(self.at)
            if self._error is not None:
                raise self._error
        finally:
            stream.readers.discard(self)
            stream.waiting.discard(self)
            self._let_go()
            self._mark_slow(False)

    def _hold(self, sequence: int) -> None:
        """What follows a whole state is kept until it was read, or the reader is back where the ring lasts."""
        self._is_holding = True
        self._ring.hold(self, sequence)

    def _let_go(self) -> None:
        if self._is_holding:
            self._is_holding = False
            self._ring.let_go(self)

    def _go_on_at(self, sequence: int) -> None:
        self._next = sequence
        # The credit is for what follows.
        self._acknowledged = sequence - 1

    def _is_out_of_credit(self) -> bool:
        return self._credit > 0 and self.at.sequence - self._acknowledged >= self._credit

    async def _wait(self) -> bool:
        """Whether something woke it before a heartbeat was due."""
        self._woken.clear()
        self._stream.waiting.add(self)
        try:
            async with asyncio.timeout(self._stream.heartbeat_seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        finally:
            self._stream.waiting.discard(self)
        return True

    def _mark_slow(self, is_slow: bool) -> None:
        if is_slow != self._is_slow:
            self._is_slow = is_slow
            self._stream.mark_slow(is_slow)
