"""A subscriber's side of a list stream: resuming, pacing, falling behind, going away."""

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import Final

from services.kit.rpc.envelope import LIST
from services.kit.rpc.ring import Position
from services.scanner.list_stream import ListStream, Subscriber

# A live subscriber with more deltas than this waiting is slow, and gets them as one.
CONFLATE_BEHIND: Final = 32
# A subscriber that comes from a replica that was ahead waits so long for this one.
AHEAD_SECONDS: Final = 2.0
# A paced update comes no sooner after the last one than this part of its interval;
ON_TIME: Final = 0.9
# no sooner than this where the last one was late. It takes a while to reach thousands of subscribers: one that comes
# late in a round must not miss every second round.
AFTER_LATE: Final = 0.5


class ListSubscription:
    """One reader of a ListStream: its position, and when it may get the next update.

    `requested_position`: the last one that the subscriber has applied; None begins with a
    snapshot. `interval`: the seconds between updates that it wants at least.
    """

    def __init__(self, stream: ListStream, requested_position: Position | None = None, interval: float = 0.0) -> None:
        self._stream = stream
        self._requested_position = requested_position
        self._requested_interval = interval
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bool] | None = None
        self._ended = False
        self._error: Exception | None = None
        self._generation = stream.generation
        self._position = stream.position
        # The sequence at which the catch-up is over; None once the subscriber knows.
        self._current_at: int | None = stream.position.sequence
        self._may_send_at = 0.0
        # True if the next update has been waiting for its time, so that it comes then or late.
        self._was_due = False
        self._heartbeat_at = 0.0
        self._is_slow = False

    @property
    def position(self) -> Position:
        """The last position sent."""
        return self._position

    @property
    def _interval(self) -> float:
        """Seconds between updates: as requested, or more where there are many subscribers."""
        return max(self._requested_interval, self._stream.least_interval())

    def end(self, error: Exception | None = None) -> None:
        """Ends the messages, with `error` if there is one."""
        self._ended = True
        self._error = error
        self.wake()

    def wake(self) -> None:
        """Ends its wait: there is a change, or an interruption."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    def time_is_up(self) -> None:
        """Ends its wait: the time has come."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)

    def check_pace(self) -> None:
        """Marks it slow when too much has been published while its last message is on its way."""
        if self._current_at is None and self._stream.position.sequence - self._position.sequence > CONFLATE_BEHIND:
            self._mark_slow(True)

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Yields encoded WatchListResponses: opened, the missed deltas or a snapshot, current, then each change.

        Ask for the next when the client has taken the one before. Ends after end()
        or going_away; close the generator to unsubscribe.
        """
        stream, requested = self._stream, self._requested_position
        stream.subscribers += 1
        stream.sending.add(self)
        try:
            if requested is not None:
                await self._until_caught_up(requested)
            self._generation = stream.generation
            self._heartbeat_at = stream.heartbeat_due(self._loop.time())
            yield LIST.opened(stream.position, list=stream.name)
            self._current_at = stream.position.sequence
            refused = self._refusal(requested)
            if requested is None or refused:
                if refused:
                    yield LIST.reset(stream.position, refused)
                yield self._fresh_snapshot()
            else:
                self._position = requested
            while not self._ended:
                if self._current_at is not None and self._position.sequence >= self._current_at:
                    self._current_at = None
                    yield LIST.current(self._position)
                elif stream.closing is not None:
                    yield LIST.going_away(self._position, stream.closing)
                    return
                elif self._generation != stream.generation:
                    self._generation = stream.generation
                    yield LIST.reset(stream.position, stream.restart_reason)
                    yield self._fresh_snapshot()
                elif self._position == stream.position:
                    self._mark_slow(False)
                    self._was_due = False
                    if not await self._woken(self._heartbeat_at, stream.waiting):
                        yield self._heartbeat()
                elif (wait_until := self._paced_until()) is not None:
                    # Changes do not end this wait: only an interruption or the time does.
                    self._was_due = True
                    until = min(wait_until, self._heartbeat_at)
                    if not await self._woken(until, stream.pausing) and until < wait_until:
                        yield self._heartbeat()
                elif (message := self._next_delta()) is not None:
                    yield message
                else:
                    # A long interval may outlast what is held: that is no fault of the subscriber's.
                    self._mark_slow(not self._interval)
                    newest = stream.position.sequence
                    reason = f"position {self._position} is too far behind {newest} to send what is between"
                    yield LIST.reset(stream.position, reason)
                    yield self._fresh_snapshot()
            if self._error is not None:
                raise self._error
        finally:
            stream.subscribers -= 1
            stream.sending.discard(self)
            self._mark_slow(False)

    async def _until_caught_up(self, requested: Position) -> None:
        """Waits a little where the subscriber comes from a replica that was ahead of this one."""
        deadline = self._loop.time() + AHEAD_SECONDS
        stream = self._stream
        while requested.epoch == stream.position.epoch and requested.sequence > stream.position.sequence:
            if stream.closing is not None or self._ended or not await self._woken(deadline, stream.waiting):
                return

    def _refusal(self, requested: Position | None) -> str | None:
        """Returns why the deltas after a requested position are not held; None when they are."""
        if requested is None:
            return None
        return self._stream.resume(requested).reset_reason

    def _paced_until(self) -> float | None:
        return self._may_send_at if self._interval and self._may_send_at > self._loop.time() else None

    def _next_delta(self) -> bytes | None:
        """Returns the next delta or several as one; None when only a snapshot can help."""
        stream, first = self._stream, self._position.sequence + 1
        newest = stream.position.sequence
        is_live = self._current_at is None
        if self._interval or (is_live and newest - first >= CONFLATE_BEHIND):
            if not stream.can_send(first, newest):
                return None
            last = newest
            message = stream.conflated(first, last)
        elif first >= stream.oldest:
            last = first
            message = stream.held(first)
        else:
            return None
        self._position = self._position._replace(sequence=last)
        self._sent()
        return message

    def _fresh_snapshot(self) -> bytes:
        self._position, message = self._stream.snapshot_message()
        if self._current_at is not None:
            self._current_at = self._position.sequence
        self._sent()
        return message

    def _heartbeat(self) -> bytes:
        self._heartbeat_at = self._stream.heartbeat_due(self._loop.time())
        return LIST.heartbeat(self._position)

    def _sent(self) -> None:
        now = self._loop.time()
        self._heartbeat_at = self._stream.heartbeat_due(now)
        if self._interval:
            least = AFTER_LATE if self._was_due else ON_TIME
            self._may_send_at = next_tick(now, self._interval, self._stream.phase, least)

    async def _woken(self, until: float, waiting: set[Subscriber]) -> bool:
        """Waits in `waiting` until that time at most; True if wake() came before."""
        stream = self._stream
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiter = waiter
        stream.timers.add(until, self)
        waiting.add(self)
        stream.sending.discard(self)
        try:
            return await waiter
        finally:
            stream.timers.discard(until, self)
            waiting.discard(self)
            stream.sending.add(self)
            self._waiter = None

    def _mark_slow(self, is_slow: bool) -> None:
        if is_slow != self._is_slow:
            self._is_slow = is_slow
            self._stream.mark_slow(is_slow)


def next_tick(now: float, interval: float, phase: float, least: float) -> float:
    """Returns when a subscriber that was sent something `now` may get the next update, `least` of its interval later.

    All subscribers with the same interval share one grid of times (begun at `phase`
    of the interval), so that they have the same position and share conflated deltas.
    """
    begin = phase * interval
    number = math.floor((now - begin) / interval) + 1
    if number * interval + begin - now < least * interval:
        number += 1
    return number * interval + begin
