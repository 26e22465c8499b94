"""One list's changes, encoded once, for any number of subscribers at their own pace.

The writer (`publish`) never waits. A subscriber that asked for a least
interval, or is behind by some deltas, gets them merged; one that is behind by
more than is held or worth merging gets a fresh snapshot.
"""

import math
import zlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from services.kit.rpc.envelope import LIST
from services.kit.rpc.ring import Position, Ring
from services.scanner.alarms import Alarms
from services.scanner.list_subscription import ListSubscription
from services.scanner.merge import merge_deltas

MAX_HELD: Final = 4096
MAX_HELD_BYTES: Final = 8 * 1024 * 1024
# Deltas of more bytes than this are not merged: a snapshot, made once for everybody, is cheaper.
MAX_MERGED_BYTES: Final = 2 * 1024 * 1024
# So many merged spans are kept for those who stand at the same place.
MAX_MERGED: Final = 16
HEARTBEAT_SECONDS: Final = 10.0
# Heartbeats come at multiples of this part of it.
HEARTBEAT_STEPS: Final = 4


class ListStream:
    """The changes of one list since an epoch began or since a whole state was loaded.

    `name` is what the list is called in messages; `take_snapshot` gives the
    encoded RankedList as last published; `on_slow` is told of each subscriber
    that fell behind (True) and has caught up again or gone (False);
    `least_interval` says how many seconds every subscriber has to leave between updates.
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
        # Those that fell behind and have not caught up.
        self.slow = 0
        self._take_snapshot = take_snapshot
        self._on_slow = on_slow
        self.least_interval = least_interval
        self._bounds = (max_held, max_held_bytes)
        self.heartbeat_seconds = heartbeat_seconds
        # Lists send their paced updates at different times.
        self.phase = zlib.crc32(name.encode()) % 1000 / 1000
        self._ring = Ring(position.epoch, *self._bounds, newest=position.sequence)
        self._merged: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._snapshot: tuple[Position, bytes] | None = None
        # Grows when the list is replaced as a whole.
        self.generation = 0
        self.restart_reason = ""
        self.closing: str | None = None
        # Subscriptions that wait for a change, those that wait for their time to come, and
        # those whose last message is on its way to the client.
        self.waiting: set[ListSubscription] = set()
        self.pausing: set[ListSubscription] = set()
        self.sending: set[ListSubscription] = set()
        self.alarms = Alarms()

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
        """Takes the list's next encoded ListDelta; raises ValueError when it does not follow the last one."""
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
        """The list was replaced as a whole: everybody gets a reset and a snapshot."""
        self._ring = Ring(position.epoch, *self._bounds, newest=position.sequence)
        self._merged.clear()
        self._snapshot = None
        self.generation += 1
        self.restart_reason = reason
        self._interrupt()

    def close(self, reason: str) -> None:
        """Ends every subscription with going_away; later ones get it at once."""
        self.closing = reason
        self._interrupt()

    def subscribe(self, asked: Position | None = None, min_interval_ms: int = 0) -> "ListSubscription":
        """A subscription from `asked` on, the last position the subscriber has applied; None begins with a snapshot."""
        return ListSubscription(self, asked, min_interval_ms / 1000)

    def snapshot_message(self) -> tuple[Position, bytes]:
        """The list now as an encoded response, with its position; made once per change."""
        if self._snapshot is None or self._snapshot[0] != self.position:
            self._snapshot = (self.position, LIST.wrap("snapshot", self._take_snapshot()))
        return self._snapshot

    def held(self, sequence: int) -> bytes:
        """The change to `sequence` as an encoded response; raises KeyError when it is not held."""
        return self._ring.get(sequence)

    def can_send(self, first: int, last: int) -> bool:
        """Whether the deltas `first` to `last` are held and few enough to be merged."""
        return first >= self._ring.oldest and self._ring.span_bytes(first, last) <= MAX_MERGED_BYTES

    def merged(self, first: int, last: int) -> bytes:
        """The held deltas `first` to `last` as one encoded response, made once for all who stand there."""
        if first == last:
            return self._ring.get(first)
        key = (first, last)
        message = self._merged.get(key)
        if message is None:
            deltas = [bytes(LIST.read(self._ring.get(sequence))[1]) for sequence in range(first, last + 1)]
            message = LIST.wrap("delta", merge_deltas(deltas))
            self._merged[key] = message
            if len(self._merged) > MAX_MERGED:
                self._merged.popitem(last=False)
        return message

    def heartbeat_due(self, now: float) -> float:
        """When one who was sent something `now` gets a heartbeat: on a grid that all share, early rather than late."""
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
