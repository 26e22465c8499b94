"""The newest messages of a numbered stream, encoded once, for any number of readers at their own pace."""

from collections.abc import Hashable
from typing import Final, NamedTuple

from tradeul.v1 import stream_pb2

# What is kept for readers who hold it may fill so many times the bounds.
HOLD_FACTOR: Final = 4


class Position(NamedTuple):
    """Which message of which numbering. Positions of later epochs are greater."""

    epoch: int
    # 0 is before the first.
    sequence: int

    @classmethod
    def of(cls, message: stream_pb2.StreamPosition) -> "Position":
        return cls(message.epoch, message.sequence)

    def message(self) -> stream_pb2.StreamPosition:
        return stream_pb2.StreamPosition(epoch=self.epoch, sequence=self.sequence)

    def __str__(self) -> str:
        return f"{self.epoch}/{self.sequence}"


def lost_reason(requested: Position, newest: Position, oldest: int) -> str | None:
    """Returns why a reader whose last message is `requested` cannot get the next one; None when it can, or will.

    `newest`: of the last message; `oldest`: the sequence of the oldest that is held.
    """
    if requested.epoch != newest.epoch:
        return f"position {requested} is of another epoch, this one is {newest.epoch}"
    if requested.sequence > newest.sequence:
        return f"position {requested} is ahead of the newest, {newest.sequence}"
    if requested.sequence + 1 < oldest:
        return f"position {requested} is older than the oldest held, {oldest}"
    return None


class ResumePlan(NamedTuple):
    """`next_sequence` is the reader's next message. With a reason its position is gone: a snapshot comes first."""

    next_sequence: int
    reset_reason: str | None


class Ring:
    """Bounded by messages and by bytes; the oldest make room, whoever still needs them.

    Only what a reader holds is kept beyond, up to HOLD_FACTOR times the bounds: one that loads a
    snapshot has to find what follows it.

    Args:
        epoch: names the numbering.
        max_count, max_bytes: bounds of what is held.
        newest: the sequence before that of the first message.
    """

    def __init__(self, epoch: int, max_count: int, max_bytes: int, newest: int = 0) -> None:
        self.epoch = epoch
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._newest = newest
        self._oldest = newest + 1
        # By sequence: the bytes of all messages up to its end, and the message.
        self._messages: dict[int, tuple[int, bytes]] = {}
        self._appended_bytes = 0
        self._held_bytes = 0
        # By reader, the oldest message that it still needs.
        self._holds: dict[Hashable, int] = {}
        self._has_dropped = False

    @property
    def newest(self) -> int:
        """Sequence of the last message appended."""
        return self._newest

    @property
    def oldest(self) -> int:
        """Sequence of the oldest message held; one more than the newest when none is."""
        return self._oldest

    @property
    def position(self) -> Position:
        """Of the last message appended."""
        return Position(self.epoch, self._newest)

    @property
    def start(self) -> Position:
        """The position before the oldest message held."""
        return Position(self.epoch, self._oldest - 1)

    @property
    def has_dropped(self) -> bool:
        """True once older messages had to make room."""
        return self._has_dropped

    @property
    def held_bytes(self) -> int:
        return self._held_bytes

    def append(self, message: bytes) -> int:
        """Takes the next message; returns its sequence. One that is alone above the bounds is not held."""
        self._newest += 1
        self._appended_bytes += len(message)
        self._held_bytes += len(message)
        self._messages[self._newest] = (self._appended_bytes, message)
        self._make_room()
        return self._newest

    def resume(self, requested: Position) -> ResumePlan:
        """The plan for a reader whose last message is `requested`.

        After a reset the next message is the one after the newest, that is after a snapshot of now.
        """
        reason = lost_reason(requested, self.position, self._oldest)
        return ResumePlan((requested.sequence if reason is None else self._newest) + 1, reason)

    def hold(self, reader: Hashable, sequence: int) -> None:
        """Keeps the messages from `sequence` on for a reader, in place of what it held before, while there is room."""
        self._holds[reader] = sequence

    def let_go(self, reader: Hashable) -> None:
        """Keeps nothing for a reader any more."""
        if self._holds.pop(reader, None) is not None:
            self._make_room()

    @property
    def holders(self) -> int:
        """Readers for whom messages are kept."""
        return len(self._holds)

    def is_safe(self, sequence: int) -> bool:
        """True if a reader that needs the messages from `sequence` on has half of the ring's time left, or more."""
        if sequence > self._newest:
            return True
        if sequence < self._oldest or 2 * (self._newest - sequence + 1) > self._max_count:
            return False
        return 2 * self.span_bytes(sequence, self._newest) <= self._max_bytes

    def get(self, sequence: int) -> bytes:
        """Raises KeyError when it is not held."""
        return self._messages[sequence][1]

    def span_bytes(self, first: int, last: int) -> int:
        """Bytes of the messages `first` to `last`; raises KeyError when one of these two is not held."""
        before, message = self._messages[first]
        return self._messages[last][0] - before + len(message)

    def release(self, sequence: int) -> None:
        """Drops what is held up to `sequence`."""
        while self._oldest <= min(sequence, self._newest):
            self._drop_oldest()

    def _is_over(self, factor: int) -> bool:
        return self._held_bytes > factor * self._max_bytes or len(self._messages) > factor * self._max_count

    def _make_room(self) -> None:
        while self._is_over(1):
            if self._holds and self._oldest >= min(self._holds.values()):
                if not self._is_over(HOLD_FACTOR):
                    return
                # Whoever needs this one has lost it, and nothing more is kept for it.
                self._holds = {reader: first for reader, first in self._holds.items() if first > self._oldest}
            self._has_dropped = True
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        self._held_bytes -= len(self._messages.pop(self._oldest)[1])
        self._oldest += 1
