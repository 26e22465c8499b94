"""One list as clients are to see it: its rows now, and its newest changes, each encoded and framed once.

Pure: the scanner's messages go in as bytes, frames come out.
"""

from typing import Final

from tradeul.v1 import scanner_pb2

from fastcore.row_json import read_list_delta, read_ranked_list
from services.kit.ring import Position, Ring
from services.websocket_server import messages

MAX_HELD: Final = 2048
MAX_HELD_BYTES: Final = 4 * 1024 * 1024

ADD: Final = int(scanner_pb2.ListChange.ADD)
REMOVE: Final = int(scanner_pb2.ListChange.REMOVE)
RERANK: Final = int(scanner_pb2.ListChange.RERANK)
UPDATE: Final = int(scanner_pb2.ListChange.UPDATE)


class FeedHole(Exception):
    """A delta does not begin where the list stands, or does not fit it: a snapshot is needed."""


class ListFeed:
    """A list from its first snapshot on.

    The ring holds framed delta messages by the list's own sequence. Whenever
    the list gets somewhere without single steps that can be sent, `generation`
    grows and the ring begins anew.
    """

    def __init__(self, name: str, max_held: int = MAX_HELD, max_held_bytes: int = MAX_HELD_BYTES) -> None:
        self.name = name
        self.name_json = messages.text(name)
        self.generation = 0
        self.is_loaded = False
        self._max_held = max_held
        self._max_held_bytes = max_held_bytes
        self._ring = Ring(0, max_held, max_held_bytes)
        self._timestamp = b""
        # By symbol as JSON: the rank, and the row's JSON members but the rank.
        self._rows: dict[bytes, tuple[int, bytes]] = {}
        self._snapshot: bytes | None = None

    @property
    def position(self) -> Position:
        """Of the newest change; meaningful once it is loaded."""
        return self._ring.position

    @property
    def oldest(self) -> int:
        """The sequence of the oldest change held; one more than the newest when none is."""
        return self._ring.oldest

    @property
    def held_bytes(self) -> int:
        return self._ring.held_bytes

    def holds(self, symbol: bytes) -> bool:
        """Whether a symbol (as JSON) is in the list."""
        return symbol in self._rows

    def load(self, ranked_list: bytes | memoryview) -> bool:
        """Takes the whole list, an encoded RankedList; whether it says anything new. Raises ValueError."""
        epoch, sequence, timestamp, rows = read_ranked_list(ranked_list)
        if self.is_loaded and self.position == (epoch, sequence):
            return False
        self._rows = {symbol: (rank, row) for symbol, rank, row in rows}
        self._jump(Position(epoch, sequence), timestamp)
        self.is_loaded = True
        return True

    def apply(self, list_delta: bytes | memoryview) -> bool:
        """Takes the next change, an encoded ListDelta; whether clients can make this step.

        They can't when it is several steps in one. Raises FeedHole when it does not
        fit, ValueError when it cannot be read; a snapshot has to come then.
        """
        epoch, previous, sequence, timestamp, changes = read_list_delta(list_delta)
        position = self.position
        if not self.is_loaded or (epoch, previous) != position or sequence <= previous:
            self.forget()
            raise FeedHole(f"list {self.name}: expected a delta from {position}, was {epoch}/{previous} to {sequence}")
        try:
            encoded = [self._change(*change) for change in changes]
        except KeyError as error:
            self.forget()
            raise FeedHole(f"list {self.name}: expected a change of a row that is there, was of {error}") from error
        if sequence != previous + 1:
            self._jump(Position(epoch, sequence), timestamp)
            return False
        self._timestamp = timestamp
        self._snapshot = None
        self._ring.append(messages.delta(self.name_json, sequence, encoded, timestamp))
        return True

    def forget(self) -> None:
        """The list can no longer be trusted, or is no longer wanted: only a snapshot can go on."""
        self.is_loaded = False
        self._rows = {}
        self._snapshot = None

    def snapshot(self) -> bytes:
        """The whole list as a framed message; made once per change, when somebody wants it."""
        if self._snapshot is None:
            position = self.position
            ranked = sorted(self._rows.values())
            rows = [messages.ranked_row(rank, row) for rank, row in ranked]
            self._snapshot = messages.snapshot(
                self.name_json, position.epoch, position.sequence, rows, self._timestamp
            )
        return self._snapshot

    def holds_after(self, sequence: int) -> bool:
        """Whether every change after `sequence` is held."""
        return self._ring.oldest <= sequence + 1 <= self._ring.newest + 1

    def bytes_after(self, sequence: int) -> int:
        """Bytes of all changes after `sequence`, which must be held."""
        newest = self._ring.newest
        return self._ring.span_bytes(sequence + 1, newest) if sequence < newest else 0

    def changes_after(self, sequence: int) -> bytes:
        """The frames of all changes after `sequence`, which must be held."""
        ring = self._ring
        return b"".join([ring.get(each) for each in range(sequence + 1, ring.newest + 1)])

    def _jump(self, position: Position, timestamp: bytes) -> None:
        self._ring = Ring(position.epoch, self._max_held, self._max_held_bytes, position.sequence)
        self._timestamp = timestamp
        self._snapshot = None
        self.generation += 1

    def _change(self, action: int, symbol: bytes, old_rank: int, rank: int, row: bytes) -> bytes:
        """Makes the change and returns its JSON; raises KeyError when it does not fit."""
        rows = self._rows
        if action == UPDATE:
            if symbol not in rows:
                raise KeyError(symbol)
            rows[symbol] = (rank, row)
            return messages.updated(symbol, rank, row)
        if action == RERANK:
            _, same = rows[symbol]
            rows[symbol] = (rank, same)
            return messages.reranked(symbol, old_rank, rank)
        if action == ADD:
            rows[symbol] = (rank, row)
            return messages.added(symbol, rank, row)
        if action == REMOVE:
            del rows[symbol]
            return messages.removed(symbol)
        raise KeyError(f"action {action}")
