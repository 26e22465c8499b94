"""One list's changes, encoded once, for any number of subscribers at their own pace: resuming, pacing, conflating.

The writer (`publish`) never waits. A subscriber that requested a minimum
interval, or is behind by some deltas, gets them conflated; one that is behind
by more than is held or worth conflating gets a new snapshot.
"""

import asyncio
import math
from collections import Counter, OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final

from fastcore.changed_fields import changed_list_delta
from services.kit.rpc.cursor import Cursor, Timers
from services.kit.rpc.envelope import LIST
from services.kit.rpc.pacing import AFTER_LATE, ON_TIME, Phases, next_tick
from services.kit.rpc.ring import Position, Ring
from services.scanner.conflation import ListStep, conflate
from services.scanner.crowd import ChangeRate, Demand
from services.scanner.turns import Turns

MAX_HELD: Final = 4096
# Deltas of more bytes than this are neither held nor conflated: a snapshot, made once for all, is cheaper.
MAX_HELD_BYTES: Final = 2 * 1024 * 1024
# Deltas of more bytes than this are conflated in a turn: at 1 MiB it takes about half a millisecond.
MAX_AT_ONCE_BYTES: Final = 1024 * 1024
# So many conflated spans are kept for subscribers at the same position, and of so many bytes in all.
MAX_CONFLATED: Final = 16
MAX_CONFLATED_BYTES: Final = 1024 * 1024
# So many deltas with changed fields only are kept: a subscriber that keeps up is behind by CONFLATE_BEHIND at most.
MAX_CHANGED: Final = 64
HEARTBEAT_SECONDS: Final = 10.0
# A live subscriber with more deltas than this waiting is slow, and gets them as one.
CONFLATE_BEHIND: Final = 32
# A subscriber that comes from a replica that was ahead waits so long for this one, and again while it comes nearer, up
# to so many times.
AHEAD_SECONDS: Final = 2.0
AHEAD_TIMES: Final = 5


class ListStream:
    """The changes of one list since an epoch began or a snapshot was loaded.

    `name`: the list's in messages; `take_snapshot` returns the encoded RankedList
    as last published; `on_slow` is called for each subscriber that fell behind
    (True) and has caught up or gone (False); `turns`: those in which many changes are conflated, its own by default.
    """

    def __init__(
        self,
        name: str,
        position: Position,
        take_snapshot: Callable[[], bytes],
        on_slow: Callable[[bool], None],
        *,
        max_held: int = MAX_HELD,
        max_held_bytes: int = MAX_HELD_BYTES,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        turns: Turns | None = None,
    ) -> None:
        self.name = name
        self.subscribers = 0
        # Subscribers that fell behind and have not caught up.
        self.slow = 0
        self._take_snapshot = take_snapshot
        self._on_slow = on_slow
        self._turns = turns or Turns()
        # Seconds between updates that every subscriber but those of the mesh gets at least.
        self.least_interval = 0.0
        # How many of those want which interval.
        self._intervals: Counter[float] = Counter()
        self._bounds = (max_held, max_held_bytes)
        self.phases = Phases(name)
        # Another one when the list is replaced as a whole.
        self.ring = Ring(position.epoch, *self._bounds, newest=position.sequence)
        # Of the deltas in the ring, the records (fastcore.changed_fields).
        self._records: dict[int, bytes] = {}
        # By the first and the last sequence, with complete rows and with changed fields only.
        self._conflated: OrderedDict[tuple[int, int, bool], bytes] = OrderedDict()
        self._changed: OrderedDict[int, bytes] = OrderedDict()
        # What is conflated in a turn, until then.
        self._conflating: dict[tuple[int, int, bool], asyncio.Future[bytes]] = {}
        self._snapshot: tuple[Position, bytes] | None = None
        self.restart_reason = ""
        self.closing: str | None = None
        # Subscriptions that wait for a change, those that wait for their time to come, and
        # those whose last message is on its way to the client.
        self.waiting: set[ListSubscription] = set()
        self.pausing: set[ListSubscription] = set()
        self.sending: set[ListSubscription] = set()
        self.timers = Timers(heartbeat_seconds)
        self._rate = ChangeRate(position.sequence, self.timers.loop.time())

    @property
    def position(self) -> Position:
        """The position of the newest change."""
        return self.ring.position

    def demands(self, now: float) -> Iterator[Demand]:
        """Yields how many messages a second its subscribers want, as the list changes at present."""
        rate = self._rate.measure(self.ring.newest, now)
        for interval, count in self._intervals.items():
            yield Demand(min(rate, 1 / interval) if interval else rate, count)

    def pace(self, interval: float) -> None:
        """Sends no more often than that, if the list changes more often."""
        self.least_interval = interval if self._rate.value * interval > 1 else 0.0

    def count(self, change: int, interval: float | None) -> None:
        """Counts a subscriber that comes (1) or goes (-1).

        `interval`: what it wants, None for one of the mesh, which is not paced.
        """
        self.subscribers += change
        if interval is not None:
            self._intervals[interval] += change
            if not self._intervals[interval]:
                del self._intervals[interval]

    def publish(self, previous_sequence: int, sequence: int, message: bytes, changed: bytes = b"") -> None:
        """Publishes the list's next delta, an encoded WatchListResponse; raises ValueError when it does not follow the
        last one.

        `changed`: the records of its updates (fastcore.changed_fields); without them all their fields count as changed.
        """
        newest = self.ring.newest
        if (previous_sequence, sequence) != (newest, newest + 1):
            raise ValueError(
                f"list {self.name}: expected the delta {newest} to {newest + 1}, was {previous_sequence} to {sequence}"
            )
        self.ring.append(message)
        self._records[sequence] = changed
        while self._records and (oldest := next(iter(self._records))) < self.ring.oldest:
            del self._records[oldest]
        for subscription in self.sending:
            subscription.check_pace()
        waiting, self.waiting = self.waiting, set()
        for subscription in waiting:
            subscription.wake()

    def restart(self, position: Position, reason: str) -> None:
        """Replaces the list as a whole: every subscriber gets a reset and a snapshot."""
        self.ring = Ring(position.epoch, *self._bounds, newest=position.sequence)
        self._records.clear()
        self._conflated.clear()
        self._conflating = {}
        self._changed.clear()
        self._snapshot = None
        self.restart_reason = reason
        for subscription in (*self.waiting, *self.pausing):
            subscription.wake()

    def close(self, reason: str) -> None:
        """Ends every subscription with going_away; later ones get it at once."""
        self.closing = reason
        for subscription in (*self.waiting, *self.pausing, *self.sending):
            subscription.go_away(reason)

    def snapshot_message(self) -> tuple[Position, bytes]:
        """The list now as an encoded response, with its position; made once per change."""
        if self._snapshot is None or self._snapshot[0] != self.position:
            self._snapshot = (self.position, LIST.wrap("snapshot", self._take_snapshot()))
        return self._snapshot

    def can_send(self, first: int, last: int) -> bool:
        """True if the deltas `first` to `last` are held and few enough to be conflated."""
        return first >= self.ring.oldest and self.ring.span_bytes(first, last) <= MAX_HELD_BYTES

    def step(self, sequence: int, changed_fields_only: bool) -> bytes:
        """The held delta to `sequence` as an encoded response, made once for all subscribers of its form."""
        if not changed_fields_only:
            return self.ring.get(sequence)
        if (message := self._changed.get(sequence)) is None:
            message = self._changed[sequence] = _response(self._step(sequence), changed_fields_only)
            if len(self._changed) > MAX_CHANGED:
                self._changed.popitem(last=False)
        return message

    async def conflated(self, first: int, last: int, changed_fields_only: bool = False) -> bytes:
        """The held deltas `first` to `last` as one encoded response, made once for all subscribers there."""
        ring, key = self.ring, (first, last, changed_fields_only)
        if first == last:
            return self.step(first, changed_fields_only)
        if (message := self._conflated.get(key)) is not None:
            return message
        if (making := self._conflating.get(key)) is not None:
            return await asyncio.shield(making)
        steps = [self._step(sequence) for sequence in range(first, last + 1)]

        def make() -> bytes:
            message = _response(conflate(steps), changed_fields_only)
            if self.ring is ring:
                held = self._conflated
                held[key] = message
                while len(held) > MAX_CONFLATED or sum(map(len, held.values())) > MAX_CONFLATED_BYTES:
                    held.popitem(last=False)
            return message

        if ring.span_bytes(first, last) <= MAX_AT_ONCE_BYTES:
            return make()
        # Others who want the same wait with this one, and what is to be conflated is held once for all of them.
        conflating = self._conflating
        making = conflating[key] = asyncio.ensure_future(self._turns.take(make))
        making.add_done_callback(lambda _: conflating.pop(key, None))
        return await asyncio.shield(making)

    def _step(self, sequence: int) -> ListStep:
        return ListStep(LIST.read(self.ring.get(sequence))[1], self._records[sequence])

    def mark_slow(self, is_slow: bool) -> None:
        """Counts a subscriber that fell behind, until it has caught up."""
        self.slow += 1 if is_slow else -1
        self._on_slow(is_slow)


class ListSubscription(Cursor):
    """One reader of a ListStream: its position, and when it may get the next update.

    `requested_position`: the last one that the subscriber has applied; None begins with a
    snapshot. `interval`: the seconds between updates that it wants at least. `changed_fields_only`: what it gets of
    updates. `is_internal`: True for a service of the mesh, which passes changes on to many, and so gets each of them in
    a crowd, too.
    """

    def __init__(
        self,
        stream: ListStream,
        requested_position: Position | None = None,
        interval: float = 0.0,
        *,
        changed_fields_only: bool = False,
        is_internal: bool = False,
    ) -> None:
        super().__init__(stream.ring, stream.timers, stream.mark_slow)
        self._stream = stream
        self._requested_position = requested_position
        self._requested_interval = interval
        self._changed_fields_only = changed_fields_only
        self._is_internal = is_internal
        self._phase = stream.phases.take()
        self._may_send_at = 0.0
        # True if the next update has been waiting for its time, so that it comes then or late.
        self._was_due = False

    @property
    def _interval(self) -> float:
        """Seconds between updates: as requested, or more where there are many subscribers."""
        if self._is_internal:
            return self._requested_interval
        return max(self._requested_interval, self._stream.least_interval)

    def check_pace(self) -> None:
        """Marks it slow when too much has been published while its last message is on its way."""
        if self.is_live and self.ring.newest - self.position.sequence > CONFLATE_BEHIND:
            self.mark_slow(True)

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Yields encoded WatchListResponses: opened, the missed deltas or a snapshot, current, then each change.

        Ask for the next when the client has taken the one before. Ends after end()
        or going_away; close the generator to unsubscribe.
        """
        stream, requested = self._stream, self._requested_position
        counted = None if self._is_internal else self._requested_interval
        stream.count(1, counted)
        stream.sending.add(self)
        self.closing = stream.closing
        try:
            if requested is not None:
                await self._until_caught_up(requested)
            yield LIST.opened(stream.position, list=stream.name)
            self.move(stream.position, stream.ring)
            self.catch_up()
            reset_reason = self.resume(requested) if requested is not None else None
            if reset_reason is not None:
                yield LIST.reset(stream.position, reset_reason)
            if requested is None or reset_reason is not None:
                yield self._fresh_snapshot()
            while not self.is_over:
                if self.becomes_current():
                    yield LIST.current(self.position)
                elif self.closing is not None:
                    yield LIST.going_away(self.position, self.closing)
                    return
                elif self.ring is not stream.ring:
                    yield LIST.reset(stream.position, stream.restart_reason)
                    yield self._fresh_snapshot()
                elif not self.has_next:
                    self.mark_slow(False)
                    self._was_due = False
                    if not await self._wait_in(stream.waiting):
                        yield LIST.heartbeat(self.position)
                elif (time := self._paced_until()) is not None:
                    # Changes do not end this wait: only an interruption or the time does.
                    self._was_due = True
                    if not await self._wait_in(stream.pausing, time):
                        yield LIST.heartbeat(self.position)
                elif (message := await self._next_delta()) is not None:
                    yield message
                else:
                    # A long interval may outlast what is held: that is no fault of the subscriber's.
                    self.mark_slow(not self._interval)
                    newest = stream.position.sequence
                    reason = f"position {self.position} is too far behind {newest} to send what is between"
                    yield LIST.reset(stream.position, reason)
                    yield self._fresh_snapshot()
            self.raise_error()
        finally:
            stream.count(-1, counted)
            stream.sending.discard(self)
            self.mark_slow(False)

    async def _until_caught_up(self, requested: Position) -> None:
        """Waits where the subscriber comes from a replica that was ahead of this one, while this comes nearer."""
        stream, loop = self._stream, self._stream.timers.loop
        for _ in range(AHEAD_TIMES):
            before, deadline = stream.position, loop.time() + AHEAD_SECONDS
            while loop.time() < deadline:
                is_ahead = requested.epoch == stream.position.epoch and requested > stream.position
                if not is_ahead or self.closing is not None or self.is_over:
                    return
                await self._wait_in(stream.waiting, deadline)
            if stream.position == before:
                return

    def _paced_until(self) -> float | None:
        is_early = self._interval and self._may_send_at > self._stream.timers.loop.time()
        return self._may_send_at if is_early else None

    async def _next_delta(self) -> bytes | None:
        """Returns the next delta or several as one; None when only a snapshot can help."""
        first, newest = self.next_sequence, self.ring.newest
        if self._interval or (self.is_live and newest - first >= CONFLATE_BEHIND):
            if not self._stream.can_send(first, newest):
                return None
            position = self.ring.position
            message = await self._stream.conflated(first, newest, self._changed_fields_only)
            self.move(position)
        elif self.lost_reason is None:
            self.take()
            message = self._stream.step(first, self._changed_fields_only)
        else:
            return None
        self._sent()
        return message

    def _fresh_snapshot(self) -> bytes:
        position, message = self._stream.snapshot_message()
        self.move(position, self._stream.ring)
        if not self.is_live:
            self.catch_up()
        self._sent()
        return message

    def _sent(self) -> None:
        self.sent()
        if self._interval:
            least = AFTER_LATE if self._was_due else ON_TIME
            now = self._stream.timers.loop.time()
            self._may_send_at = next_tick(now, self._interval, self._phase, least)

    async def _wait_in(self, waiting: set["ListSubscription"], until: float = math.inf) -> bool:
        """Waits, as wait() does, among those in `waiting`."""
        stream = self._stream
        waiting.add(self)
        stream.sending.discard(self)
        try:
            return await self.wait(until)
        finally:
            waiting.discard(self)
            stream.sending.add(self)


def _response(step: ListStep, changed_fields_only: bool) -> bytes:
    return LIST.wrap("delta", changed_list_delta(*step) if changed_fields_only else step.delta)
