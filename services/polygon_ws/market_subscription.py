"""The sequencer's side of the market stream: resuming, falling behind, going away."""

import asyncio
from collections.abc import AsyncGenerator

from services.kit.rpc.envelope import MARKET
from services.kit.rpc.ring import Position
from services.polygon_ws.core import FeedBuffer


class MarketSubscription:
    """One reader of a FeedBuffer, from `asked` (its last batch) on, or from the oldest held."""

    def __init__(self, buffer: FeedBuffer, asked: Position | None, heartbeat_seconds: float) -> None:
        self._buffer = buffer
        self._asked = asked
        self._heartbeat_seconds = heartbeat_seconds
        self._woken = asyncio.Event()
        self._closing: str | None = None
        self._ended = False
        self._error: Exception | None = None
        self._fell_behind = 0
        self._next = 0

    @property
    def fell_behind(self) -> int:
        """How often batches were dropped before this reader took them."""
        return self._fell_behind

    def wake(self) -> None:
        """There is something new."""
        self._woken.set()

    def end(self, error: Exception | None = None) -> None:
        """Ends the messages at once, with `error` if there is one."""
        if not self._ended:
            self._ended = True
            self._error = error
            self.wake()

    def go_away(self, reason: str) -> None:
        """Ends the messages after those that are there, with going_away."""
        self._closing = reason
        self.wake()

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Encoded SubscribeMarketResponses; ends after end() or go_away(), raising what end() was given."""
        buffer = self._buffer
        self._next, lost = buffer.resume(self._asked)
        epoch = buffer.ring.epoch
        yield self._opened()
        if lost is not None:
            yield MARKET.reset(self._position(), lost)
        next_gap = buffer.first_gap_behind(self._next - 1)
        is_current = False
        current_at = buffer.position.sequence
        while not self._ended:
            if buffer.ring.epoch != epoch:
                # All of the old one was acknowledged: nothing is lost.
                epoch = buffer.ring.epoch
                self._next = buffer.oldest
                yield MARKET.reset(self._position(), f"batches are numbered anew in epoch {epoch}")
                yield self._opened()
            elif self._next < buffer.oldest:
                self._fell_behind += 1
                reason = f"batch {self._next} was dropped before it was taken; the oldest held is {buffer.oldest}"
                self._next = buffer.oldest
                yield MARKET.reset(self._position(), reason)
                # The symbols of the batches that are gone.
                yield self._opened()
            elif (gap := buffer.gap(next_gap)) is not None and (
                gap.position.epoch != epoch or gap.position.sequence < self._next
            ):
                next_gap = gap.number + 1
                yield gap.message
            elif not is_current and self._next > current_at:
                is_current = True
                yield MARKET.current(self._position())
            elif self._next <= buffer.position.sequence:
                message = buffer.ring.get(self._next)
                self._next += 1
                yield message
            elif self._closing is not None:
                yield MARKET.going_away(self._position(), self._closing)
                return
            elif not await self._wait():
                yield MARKET.heartbeat(self._position())
        if self._error is not None:
            raise self._error

    def _opened(self) -> bytes:
        return MARKET.opened(self._buffer.position, symbols=self._buffer.decoder.symbols)

    def _position(self) -> Position:
        """Of the last batch sent."""
        return Position(self._buffer.ring.epoch, self._next - 1)

    async def _wait(self) -> bool:
        """Whether there was a wake-up before a heartbeat was due."""
        self._woken.clear()
        try:
            async with asyncio.timeout(self._heartbeat_seconds):
                await self._woken.wait()
        except TimeoutError:
            return False
        return True
