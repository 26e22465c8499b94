"""One list's changes, encoded once, for any number of subscribers at their own pace.

The writer (`publish`) never waits. A subscriber that asked for a least
interval, or is behind by some deltas, gets them conflated; one that is behind
by more than is held or worth conflating gets a new snapshot.
"""

import asyncio
import math
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from services.kit.rpc.envelope import LIST
from services.kit.rpc.ring import Position, ResumePlan, Ring
from services.scanner.conflation import conflate

MAX_HELD: Final = 4096
MAX_HELD_BYTES: Final = 8 * 1024 * 1024
# Deltas of more bytes than this are not conflated: a snapshot, made once for everybody, is cheaper.
MAX_CONFLATED_BYTES: Final = 2 * 1024 * 1024
# So many conflated spans are kept for subscribers at the same position.
MAX_CONFLATED: Final = 16
HEARTBEAT_SECONDS: Final = 10.0
# Heartbeats come at multiples of this part of it.
HEARTBEAT_STEPS: Final = 4


class Subscriber(Protocol):
    """A subscription, as its stream sees it. Its methods may not wait."""

    def wake(self) -> None:
        """Ends its wait: there is a change, or an interruption."""

    def time_is_up(self) -> None:
        """Ends its wait: the time set in Timers has come."""

    def check_pace(self) -> None:
        """Another change was published while its last message is on its way."""


class Timers:
    """Wake-up times. Subscribers that wait until the same time, to the last bit, share one timer of the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._subscribers: dict[float, set[Subscriber]] = {}

    def add(self, when: float, subscriber: Subscriber) -> None:
        """Calls its time_is_up() at `when` by the loop's clock, unless it is discarded before."""
        subscribers = self._subscribers.get(when)
        if subscribers is None:
            self._subscribers[when] = subscribers = set()
            self._loop.call_at(when, self._expire, when)
        subscribers.add(subscriber)

    def discard(self, when: float, subscriber: Subscriber) -> None:
        """Takes a subscriber out; the timer stays for others."""
        if (subscribers := self._subscribers.get(when)) is not None:
            subscribers.discard(subscriber)

    def _expire(self, when: float) -> None:
        for subscriber in self._subscribers.pop(when):
            subscriber.time_is_up()


class ListStream:
    """The changes of one list since an epoch began or a snapshot was loaded.

    `name`: the list's in messages; `take_snapshot` returns the encoded RankedList
    as last published; `on_slow` is called for each subscriber that fell behind
    (True) and has caught up or gone (False); `least_interval` returns the seconds
    between updates that every subscriber gets at least.
    """

    def __init__(
        self,
        name: str,
        position: Position,
        take_snapshot: Callable[[], bytes],
        on_slow: Callable[[bool], None],
        least_interval: Callable[[], float] = lambda: 0.0,
        *,
        max_held: int = MAX_HELD,
        max_held_bytes: int = MAX_HELD_BYTES,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.name = name
        self.subscribers = 0
        # Subscribers that fell behind and have not caught up.
        self.slow = 0
        self._take_snapshot = take_snapshot
        self._on_slow = on_slow
        self.least_interval = least_interval
        self._bounds = (max_held, max_held_bytes)
        self.heartbeat_seconds = heartbeat_seconds
        # Lists send their paced updates at different times.
        self.phase = zlib.crc32(name.encode()) % 1000 / 1000
        self._ring = Ring(position.epoch, *self._bounds, newest=position.sequence)
        self._conflated: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._snapshot: tuple[Position, bytes] | None = None
        # Grows when the list is replaced as a whole.
        self.generation = 0
        self.restart_reason = ""
        self.closing: str | None = None
        # Subscriptions that wait for a change, those that wait for their time to come, and
        # those whose last message is on its way to the client.
        self.waiting: set[Subscriber] = set()
        self.pausing: set[Subscriber] = set()
        self.sending: set[Subscriber] = set()
        self.timers = Timers()

    @property
    def position(self) -> Position:
        """The position of the newest change."""
        return self._ring.position

    @property
    def oldest(self) -> int:
        """The sequence of the oldest delta held; one more than the newest sequence when none is."""
        return self._ring.oldest

    @property
    def held_bytes(self) -> int:
        return self._ring.held_bytes

    def publish(self, previous_sequence: int, sequence: int, delta: bytes) -> None:
        """Publishes the list's next encoded ListDelta; raises ValueError when it does not follow the last one."""
        newest = self._ring.newest
        if (previous_sequence, sequence) != (newest, newest + 1):
            raise ValueError(
                f"list {self.name}: expected the delta {newest} to {newest + 1}, was {previous_sequence} to {sequence}"
            )
        self._ring.append(LIST.wrap("delta", delta))
        for subscription in self.sending:
            subscription.check_pace()
        self._wake()

    def restart(self, position: Position, reason: str) -> None:
        """Replaces the list as a whole: every subscriber gets a reset and a snapshot."""
        self._ring = Ring(position.epoch, *self._bounds, newest=position.sequence)
        self._conflated.clear()
        self._snapshot = None
        self.generation += 1
        self.restart_reason = reason
        self._interrupt()

    def close(self, reason: str) -> None:
        """Ends every subscription with going_away; later ones get it at once."""
        self.closing = reason
        self._interrupt()

    def snapshot_message(self) -> tuple[Position, bytes]:
        """The list now as an encoded response, with its position; made once per change."""
        if self._snapshot is None or self._snapshot[0] != self.position:
            self._snapshot = (self.position, LIST.wrap("snapshot", self._take_snapshot()))
        return self._snapshot

    def resume(self, position: Position) -> ResumePlan:
        return self._ring.resume(position)

    def held(self, sequence: int) -> bytes:
        """The change to `sequence` as an encoded response; raises KeyError when it is not held."""
        return self._ring.get(sequence)

    def can_send(self, first: int, last: int) -> bool:
        """True if the deltas `first` to `last` are held and few enough to be conflated."""
        return first >= self._ring.oldest and self._ring.span_bytes(first, last) <= MAX_CONFLATED_BYTES

    def conflated(self, first: int, last: int) -> bytes:
        """The held deltas `first` to `last` as one encoded response, made once for all subscribers there."""
        if first == last:
            return self._ring.get(first)
        key = (first, last)
        message = self._conflated.get(key)
        if message is None:
            deltas = [bytes(LIST.read(self._ring.get(sequence))[1]) for sequence in range(first, last + 1)]
            message = LIST.wrap("delta", conflate(deltas))
            self._conflated[key] = message
            if len(self._conflated) > MAX_CONFLATED:
                self._conflated.popitem(last=False)
        return message

    def heartbeat_due(self, now: float) -> float:
        """When a subscriber that was sent something `now` gets a heartbeat, rather early: on a grid that all share."""
        grid = self.heartbeat_seconds / HEARTBEAT_STEPS
        return math.floor((now + self.heartbeat_seconds) / grid) * grid

    def mark_slow(self, is_slow: bool) -> None:
        """Counts a subscriber that fell behind, until it has caught up."""
        self.slow += 1 if is_slow else -1
        self._on_slow(is_slow)

    def _wake(self) -> None:
        waiting, self.waiting = self.waiting, set()
        for subscription in waiting:
            subscription.wake()

    def _interrupt(self) -> None:
        pausing, self.pausing = self.pausing, set()
        for subscription in pausing:
            subscription.wake()
        self._wake()
