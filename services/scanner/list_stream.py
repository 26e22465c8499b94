"""One list's changes, encoded once, for any number of subscribers at their own pace.

The writer (`publish`) never waits. A subscriber that falls behind what is held
gets a reset and a fresh snapshot; one that asked for a least interval, or is
behind by much, gets merged deltas.
"""

import asyncio
import math
import zlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from typing import Final

from services.scanner import grammar
from services.scanner.grammar import ListPosition
from services.scanner.merge import merge_deltas

MAX_HELD: Final = 4096
MAX_HELD_BYTES: Final = 8 * 1024 * 1024
# So many merged spans are kept for those who stand at the same place.
MAX_MERGED: Final = 16
# A live subscriber with more deltas than this waiting gets them as one.
MERGE_BEHIND: Final = 32
HEARTBEAT_SECONDS: Final = 10.0
# A client that comes from a replica that was ahead waits so long for this one.
AHEAD_SECONDS: Final = 2.0
# A paced update may come so much of its interval after the last one.
ON_TIME: Final = 0.9


class ListStream:
    """The changes of one list since an epoch began or since a whole state was loaded.

    `name` is what the list is called in messages; `take_snapshot` gives the
    encoded RankedList as last published; `on_slow` is told of each subscriber
    that fell behind.
    """

    def __init__(
        self,
        name: str,
        position: ListPosition,
        take_snapshot: Callable[[], bytes],
        on_slow: Callable[[], None],
        *,
        max_held: int = MAX_HELD,
        max_held_bytes: int = MAX_HELD_BYTES,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.name = name
        self.subscribers = 0
        # Those that fell behind and have not caught up.
        self.slow = 0
        self._take_snapshot = take_snapshot
        self._on_slow = on_slow
        self._max_held = max_held
        self._max_held_bytes = max_held_bytes
        self.heartbeat_seconds = heartbeat_seconds
        # Lists send their paced updates at different times.
        self.phase = zlib.crc32(name.encode()) % 1000 / 1000
        self._position = position
        self._deltas: dict[int, bytes] = {}
        self._oldest = position.sequence + 1
        self._held_bytes = 0
        self._merged: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._snapshot: tuple[ListPosition, bytes] | None = None
        # Grows when the list is replaced as a whole.
        self.generation = 0
        self.restart_reason = ""
        self.closing: str | None = None
        # Each is set once and replaced: whoever waits holds the one that was there.
        self.changed = asyncio.Event()
        self.interrupted = asyncio.Event()

    @property
    def position(self) -> ListPosition:
        """The position of the newest change."""
        return self._position

    @property
    def oldest(self) -> int:
        """The sequence of the oldest delta held; one more than the newest sequence when none is."""
        return self._oldest

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def publish(self, previous_sequence: int, sequence: int, delta: bytes) -> None:
        """Takes the list's next encoded ListDelta; raises ValueError when it does not follow the last one."""
        if (previous_sequence, sequence) != (self._position.sequence, self._position.sequence + 1):
            raise ValueError(
                f"list {self.name}: expected the delta {self._position.sequence} to {self._position.sequence + 1}, "
                f"was {previous_sequence} to {sequence}"
            )
        message = grammar.delta(delta)
        self._deltas[sequence] = message
        self._held_bytes += len(message)
        self._position = self._position._replace(sequence=sequence)
        while len(self._deltas) > self._max_held or self._held_bytes > self._max_held_bytes:
            self._held_bytes -= len(self._deltas.pop(self._oldest))
            self._oldest += 1
        self._wake()

    def restart(self, position: ListPosition, reason: str) -> None:
        """The list was replaced as a whole: everybody gets a reset and a snapshot."""
        self._deltas.clear()
        self._merged.clear()
        self._held_bytes = 0
        self._position = position
        self._oldest = position.sequence + 1
        self._snapshot = None
        self.generation += 1
        self.restart_reason = reason
        self._interrupt()

    def close(self, reason: str) -> None:
        """Ends every subscription with going_away; later ones get it at once."""
        self.closing = reason
        self._interrupt()

    async def follow(self, asked: ListPosition | None = None, min_interval_ms: int = 0) -> AsyncGenerator[bytes, None]:
        """Encoded WatchListResponses: opened, what was missed or a snapshot, current, then what changes.

        `asked` is the last position the subscriber has applied. Ends after
        going_away only; close the generator to unsubscribe.
        """
        self.subscribers += 1
        subscriber = _Subscriber(self, min_interval_ms / 1000)
        messages = subscriber.messages(asked)
        try:
            async for message in messages:
                yield message
        finally:
            self.subscribers -= 1
            subscriber.leave()
            await messages.aclose()

    def snapshot_message(self) -> tuple[ListPosition, bytes]:
        """The list now as an encoded response, with its position; made once per change."""
        if self._snapshot is None or self._snapshot[0] != self._position:
            self._snapshot = (self._position, grammar.snapshot(self._take_snapshot()))
        return self._snapshot

    def held(self, sequence: int) -> bytes:
        return self._deltas[sequence]

    def merged(self, first: int, last: int) -> bytes:
        """The held deltas `first` to `last` as one encoded response, made once for all who stand there."""
        if first == last:
            return self._deltas[first]
        key = (first, last)
        message = self._merged.get(key)
        if message is None:
            deltas = [grammar.unwrap(self._deltas[sequence]) for sequence in range(first, last + 1)]
            message = grammar.delta(merge_deltas(deltas))
            self._merged[key] = message
            if len(self._merged) > MAX_MERGED:
                self._merged.popitem(last=False)
        return message

    def mark_slow(self, is_slow: bool) -> None:
        """Counts a subscriber that fell behind, until it has caught up."""
        self.slow += 1 if is_slow else -1
        if is_slow:
            self._on_slow()

    def _wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    def _interrupt(self) -> None:
        self.interrupted.set()
        self.interrupted = asyncio.Event()
        self._wake()


class _Subscriber:
    """One reader of a ListStream: where it stands, and when it may get the next update."""

    def __init__(self, stream: ListStream, interval: float) -> None:
        self._stream = stream
        self._interval = interval
        self._now = asyncio.get_running_loop().time
        self._generation = stream.generation
        self._at = stream.position
        # The catch-up is over here; None once that was said.
        self._current_at: int | None = None
        self._may_send_at = 0.0
        self._heartbeat_at = 0.0
        self._is_slow = False

    async def messages(self, asked: ListPosition | None) -> AsyncGenerator[bytes, None]:
        stream = self._stream
        if asked is not None:
            await self._let_catch_up(asked)
        self._generation = stream.generation
        self._heartbeat_at = self._now() + stream.heartbeat_seconds
        yield grammar.opened(stream.name, stream.position)
        refused = self._refusal(asked)
        if asked is None or refused:
            if refused:
                yield grammar.reset(stream.position, refused)
            yield self._fresh_snapshot()
        else:
            self._at = asked
        self._current_at = stream.position.sequence
        while True:
            if self._current_at is not None and self._at.sequence >= self._current_at:
                self._current_at = None
                yield grammar.current(self._at)
            elif stream.closing is not None:
                yield grammar.going_away(self._at, stream.closing)
                return
            elif self._generation != stream.generation:
                self._generation = stream.generation
                yield grammar.reset(stream.position, stream.restart_reason)
                yield self._fresh_snapshot()
            elif self._at == stream.position:
                self._mark_slow(False)
                if not await _happens(stream.changed, self._heartbeat_at - self._now()):
                    yield self._heartbeat()
            elif (wait_until := self._paced_until()) is not None:
                # Changes are let pass here: only an interruption or the time ends this wait.
                until = min(wait_until, self._heartbeat_at)
                if not await _happens(stream.interrupted, until - self._now()) and until < wait_until:
                    yield self._heartbeat()
            elif self._at.sequence + 1 >= stream.oldest:
                yield self._next_delta()
            else:
                # A long interval may outlast what is held: that is no fault of the subscriber's.
                if not self._interval:
                    self._mark_slow(True)
                    reason = f"position {self._at} is older than the oldest held, {stream.oldest}"
                    yield grammar.reset(stream.position, reason)
                yield self._fresh_snapshot()

    def leave(self) -> None:
        """Takes this subscriber out of the counts."""
        self._mark_slow(False)

    async def _let_catch_up(self, asked: ListPosition) -> None:
        """Waits a little when the subscriber comes from a replica that was ahead of this one."""
        deadline = self._now() + AHEAD_SECONDS
        stream = self._stream
        while asked.epoch == stream.position.epoch and asked.sequence > stream.position.sequence:
            if stream.closing is not None or not await _happens(stream.changed, deadline - self._now()):
                return

    def _refusal(self, asked: ListPosition | None) -> str | None:
        """Why the missed deltas of a subscriber at `asked` cannot be had; None when they can."""
        if asked is None:
            return None
        position, oldest = self._stream.position, self._stream.oldest
        if asked.epoch != position.epoch:
            return f"position {asked} is of another epoch, this one is {position.epoch}"
        if asked.sequence > position.sequence:
            return f"position {asked} is ahead of the newest, {position.sequence}"
        if asked.sequence + 1 < oldest:
            return f"position {asked} is older than the oldest held, {oldest}"
        return None

    def _paced_until(self) -> float | None:
        return self._may_send_at if self._interval and self._may_send_at > self._now() else None

    def _next_delta(self) -> bytes:
        stream, first = self._stream, self._at.sequence + 1
        newest = stream.position.sequence
        is_live = self._current_at is None
        if self._interval or (is_live and newest - first >= MERGE_BEHIND):
            last = newest
            message = stream.merged(first, last)
        else:
            last = first
            message = stream.held(first)
        self._at = self._at._replace(sequence=last)
        self._sent()
        return message

    def _fresh_snapshot(self) -> bytes:
        self._at, message = self._stream.snapshot_message()
        self._sent()
        return message

    def _heartbeat(self) -> bytes:
        self._heartbeat_at = self._now() + self._stream.heartbeat_seconds
        return grammar.heartbeat(self._at)

    def _sent(self) -> None:
        now = self._now()
        self._heartbeat_at = now + self._stream.heartbeat_seconds
        if self._interval:
            self._may_send_at = next_tick(now, self._interval, self._stream.phase)

    def _mark_slow(self, is_slow: bool) -> None:
        if is_slow != self._is_slow:
            self._is_slow = is_slow
            self._stream.mark_slow(is_slow)


def next_tick(now: float, interval: float, phase: float) -> float:
    """When a subscriber that was sent something `now` may get the next update.

    All who ask for the same interval share one grid of times (begun at `phase`
    of the interval), so that they stand at the same place and share merged deltas.
    """
    begin = phase * interval
    tick = (math.floor((now - begin) / interval) + 1) * interval + begin
    # A wake-up that was a little late stays on the grid; anything else would come too early.
    return tick if tick - now >= ON_TIME * interval else tick + interval


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came within `seconds`."""
    if seconds <= 0:
        return False
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
