"""A subscriber's side of a list stream: resuming, pacing, falling behind, going away."""

import asyncio
import math
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Final

from services.kit.rpc.envelope import LIST
from services.kit.rpc.resume import plan_resume
from services.kit.rpc.ring import Position

if TYPE_CHECKING:
    from services.scanner.list_stream import ListStream

# A live subscriber with more deltas than this waiting is slow, and gets them as one.
MERGE_BEHIND: Final = 32
# A client that comes from a replica that was ahead waits so long for this one.
AHEAD_SECONDS: Final = 2.0
# A paced update comes no sooner after the last one than this part of its interval;
ON_TIME: Final = 0.9
# no sooner than this where the last one was late. It takes a while to reach all of a crowd: who comes late in a
# round is not to miss every second one.
AFTER_LATE: Final = 0.5


class ListSubscription:
    """One reader of a ListStream: where it stands, and when it may get the next update."""

    def __init__(self, stream: "ListStream", asked: Position | None, interval: float) -> None:
        self._stream = stream
        self._asked = asked
        self._asked_interval = interval
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bool] | None = None
        self._ended = False
        self._error: Exception | None = None
        self._generation = stream.generation
        self._at = stream.position
        # The catch-up is over here; None once that was said.
        self._current_at: int | None = stream.position.sequence
        self._may_send_at = 0.0
        # Whether the next update has been waiting for its time, so that it comes then or late.
        self._was_due = False
        self._heartbeat_at = 0.0
        self._is_slow = False

    @property
    def at(self) -> Position:
        """The last position sent."""
        return self._at

    @property
    def _interval(self) -> float:
        """Seconds between updates: what was asked for, or more in a crowd."""
        return max(self._asked_interval, self._stream.least_interval())

    def end(self, error: Exception | None = None) -> None:
        """Ends the messages, with `error` if there is one."""
        self._ended = True
        self._error = error
        self.wake()

    def wake(self) -> None:
        """Something happened that a wait may be about."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    def time_is_up(self) -> None:
        """The time has come until which it waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(False)

    def check_pace(self) -> None:
        """Its last message is on its way: it is slow when too much has been published meanwhile."""
        if self._current_at is None and self._stream.position.sequence - self._at.sequence > MERGE_BEHIND:
            self._mark_slow(True)

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Encoded WatchListResponses: opened, what was missed or a snapshot, current, then what changes.

        Ask for the next when the client has taken the one before. Ends after end()
        or going_away; close the generator to unsubscribe.
        """
        stream, asked = self._stream, self._asked
        stream.subscribers += 1
        stream.sending.add(self)
        try:
            if asked is not None:
                await self._let_catch_up(asked)
            self._generation = stream.generation
            self._heartbeat_at = stream.heartbeat_due(self._loop.time())
            yield LIST.opened(stream.position, list=stream.name)
            self._current_at = stream.position.sequence
            refused = self._refusal(asked)
            if asked is None or refused:
                if refused:
                    yield LIST.reset(stream.position, refused)
                yield self._fresh_snapshot()
            else:
                self._at = asked
            while not self._ended:
                if self._current_at is not None and self._at.sequence >= self._current_at:
                    self._current_at = None
                    yield LIST.current(self._at)
                elif stream.closing is not None:
                    yield LIST.going_away(self._at, stream.closing)
                    return
                elif self._generation != stream.generation:
                    self._generation = stream.generation
                    yield LIST.reset(stream.position, stream.restart_reason)
                    yield self._fresh_snapshot()
                elif self._at == stream.position:
                    self._mark_slow(False)
                    self._was_due = False
                    if not await self._woken(self._heartbeat_at, stream.waiting):
                        yield self._heartbeat()
                elif (wait_until := self._paced_until()) is not None:
                    # Changes are let pass here: only an interruption or the time ends this wait.
                    self._was_due = True
                    until = min(wait_until, self._heartbeat_at)
                    if not await self._woken(until, stream.pausing) and until < wait_until:
                        yield self._heartbeat()
                elif (message := self._next_delta()) is not None:
                    yield message
                else:
                    # A long interval may outlast what is held: that is no fault of the subscriber's.
                    self._mark_slow(not self._interval)
                    reason = f"position {self._at} is too far behind {stream.position.sequence} to send what is between"
                    yield LIST.reset(stream.position, reason)
                    yield self._fresh_snapshot()
            if self._error is not None:
                raise self._error
        finally:
            stream.subscribers -= 1
            stream.sending.discard(self)
            self._mark_slow(False)

    async def _let_catch_up(self, asked: Position) -> None:
        """Waits a little when the subscriber comes from a replica that was ahead of this one."""
        deadline = self._loop.time() + AHEAD_SECONDS
        stream = self._stream
        while asked.epoch == stream.position.epoch and asked.sequence > stream.position.sequence:
            if stream.closing is not None or self._ended or not await self._woken(deadline, stream.waiting):
                return

    def _refusal(self, asked: Position | None) -> str | None:
        """Why the missed deltas of a subscriber at `asked` cannot be had; None when they can."""
        if asked is None:
            return None
        epoch, newest = self._stream.position
        return plan_resume(asked, epoch, self._stream.oldest, newest).reset_reason

    def _paced_until(self) -> float | None:
        return self._may_send_at if self._interval and self._may_send_at > self._loop.time() else None

    def _next_delta(self) -> bytes | None:
        """The next delta or several as one; None when only a snapshot can help."""
        stream, first = self._stream, self._at.sequence + 1
        newest = stream.position.sequence
        is_live = self._current_at is None
        if self._interval or (is_live and newest - first >= MERGE_BEHIND):
            if not stream.can_send(first, newest):
                return None
            last = newest
            message = stream.merged(first, last)
        elif first >= stream.oldest:
            last = first
            message = stream.held(first)
        else:
            return None
        self._at = self._at._replace(sequence=last)
        self._sent()
        return message

    def _fresh_snapshot(self) -> bytes:
        self._at, message = self._stream.snapshot_message()
        if self._current_at is not None:
            self._current_at = self._at.sequence
        self._sent()
        return message

    def _heartbeat(self) -> bytes:
        self._heartbeat_at = self._stream.heartbeat_due(self._loop.time())
        return LIST.heartbeat(self._at)

    def _sent(self) -> None:
        now = self._loop.time()
        self._heartbeat_at = self._stream.heartbeat_due(now)
        if self._interval:
            least = AFTER_LATE if self._was_due else ON_TIME
            self._may_send_at = next_tick(now, self._interval, self._stream.phase, least)

    async def _woken(self, until: float, waiting: set["ListSubscription"]) -> bool:
        """Waits in `waiting` for wake(), at most `until` that time; whether it came."""
        stream = self._stream
        waiter: asyncio.Future[bool] = self._loop.create_future()
        self._waiter = waiter
        stream.alarms.add(until, self)
        waiting.add(self)
        stream.sending.discard(self)
        try:
            return await waiter
        finally:
            stream.alarms.discard(until, self)
            waiting.discard(self)
            stream.sending.add(self)
            self._waiter = None

    def _mark_slow(self, is_slow: bool) -> None:
        if is_slow != self._is_slow:
            self._is_slow = is_slow
            self._stream.mark_slow(is_slow)


def next_tick(now: float, interval: float, phase: float, least: float) -> float:
    """When a subscriber that was sent something `now` may get the next update, `least` of its interval later.

    All who ask for the same interval share one grid of times (begun at `phase`
    of the interval), so that they stand at the same place and share merged deltas.
    """
    begin = phase * interval
    number = math.floor((now - begin) / interval) + 1
    if number * interval + begin - now < least * interval:
        number += 1
    return number * interval + begin
