"""A list kept as JSON, made of the scanner's encoded messages, as WebSocket and Redis show it: a snapshot, then deltas.

No row becomes a Python object, and none is made into JSON twice: see `list_json`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

from tradeul.v1 import scanner_pb2

from fastcore.fields import FIELDS
from fastcore.row_json import read_list_delta, read_ranked_list
from services.kit.lists.list_json import ending, row_json, text_json
from services.kit.rpc.ring import Position

Parts = tuple[bytes, ...]
Members = TypeVar("Members")

_ADD: Final = int(scanner_pb2.ListChange.ADD)
_REMOVE: Final = int(scanner_pb2.ListChange.REMOVE)
_RERANK: Final = int(scanner_pb2.ListChange.RERANK)
_UPDATE: Final = int(scanner_pb2.ListChange.UPDATE)
# By field number: the member of a field that has become absent.
_NULLS: Final = {field.number: b'"%b":null' % field.name.encode() for field in FIELDS}


class ListHole(Exception):
    """A delta does not follow the list's position, or does not fit its rows: a snapshot is needed."""


class TouchedRows:
    """By symbol as JSON, the sequences of the changes that made the rows what they are."""

    def __init__(self) -> None:
        # When a row came, and last changed; of rows whose updates have the changed fields only, each field by number.
        self.came: dict[bytes, int] = {}
        self.changed: dict[bytes, int] = {}
        self.fields: dict[bytes, dict[int, int]] = {}

    def removed(self, symbol: bytes) -> None:
        for each in (self.came, self.changed, self.fields):
            each.pop(symbol, None)


class KeptRows(ABC, Generic[Members]):
    """A list kept as JSON, from its first snapshot on. Of a row, `Members` are its members but the rank."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.name_json = text_json(name)
        self.is_loaded = False
        # Of the newest change; meaningful once it is loaded.
        self.position = Position(0, 0)
        # The event time of that change as JSON; b"" when that is not known.
        self.timestamp = b""
        # By symbol as JSON: the rank, and the row's members.
        self.rows: dict[bytes, tuple[int, Members]] = {}
        # What changed when, while somebody is to ask for several deltas as one.
        self._touched: TouchedRows | None = None

    def load(self, ranked_list: bytes | memoryview) -> bool:
        """Takes the whole list, an encoded RankedList; False if it stands there already. Raises ValueError."""
        return self.load_rows(*self._read_list(ranked_list))

    def load_rows(
        self, epoch: int, sequence: int, timestamp: bytes, rows: Sequence[tuple[bytes, int, Members]]
    ) -> bool:
        """The same of a list that has been read."""
        if self.is_loaded and self.position == (epoch, sequence):
            return False
        self.rows = {symbol: (rank, members) for symbol, rank, members in rows}
        self.position = Position(epoch, sequence)
        self.timestamp = timestamp
        self.is_loaded = True
        self.touch(is_noted=self._touched is not None)
        return True

    def apply(self, list_delta: bytes | memoryview) -> list[bytes]:
        """Takes the next delta, an encoded ListDelta; returns its changes as JSON.

        Raises ListHole when it does not fit, ValueError when it cannot be read; a
        snapshot has to come then.
        """
        return self.make_changes(*self._read_delta(list_delta))

    def make_changes(
        self,
        epoch: int,
        previous: int,
        sequence: int,
        timestamp: bytes,
        changes: Sequence[tuple[int, bytes, int, int, Any]],
    ) -> list[bytes]:
        """The same of a delta that has been read."""
        position = self.position
        if not self.is_loaded or (epoch, previous) != position or sequence <= previous:
            self.forget()
            raise ListHole(f"list {self.name}: expected a delta from {position}, was {epoch}/{previous} to {sequence}")
        try:
            encoded = [made for change in changes if (made := self._change(sequence, *change))]
        except KeyError as error:
            self.forget()
            raise ListHole(f"list {self.name}: expected a change that fits its rows, was one of {error}") from error
        self.position = Position(epoch, sequence)
        self.timestamp = timestamp
        return encoded

    def touch(self, *, is_noted: bool) -> None:
        """Notes from now on which rows change when, for `changes_since`; or no longer."""
        self._touched = TouchedRows() if is_noted else None

    @property
    def ranks(self) -> dict[bytes, int]:
        """Each symbol's rank now, a copy."""
        return {symbol: rank for symbol, (rank, _) in self.rows.items()}

    def changes_since(self, sequence: int, ranks: Mapping[bytes, int]) -> list[bytes]:
        """The JSON of the changes that lead here from `sequence`, at which these were the `ranks`: one for a row, but
        for one that went and came again.

        `touch` must have noted all of them.
        """
        rows, touched = self.rows, self._touched
        assert touched is not None, "touch() first"
        came = touched.came
        changes = [
            self._change_json(_REMOVE, symbol, 0, 0, None)
            for symbol in ranks
            if symbol not in rows or came.get(symbol, 0) > sequence
        ]
        for symbol, (rank, members) in rows.items():
            before = ranks.get(symbol)
            if before is None or came.get(symbol, 0) > sequence:
                changes.append(self._change_json(_ADD, symbol, 0, rank, members))
            elif (updated := self._touched_since(touched, sequence, symbol, members)) is not None:
                changes.append(self._change_json(_UPDATE, symbol, 0, rank, updated))
            elif rank != before:
                changes.append(_rerank_json(symbol, before, rank))
        return changes

    def forget(self) -> None:
        """Drops the rows, which can no longer be trusted or are not wanted: the next response must be a snapshot."""
        self.is_loaded = False
        self.rows = {}

    def snapshot(self) -> Parts:
        """The JSON of a snapshot message, in parts."""
        return tuple(self.snapshot_parts(max(1, len(self.rows))))

    def snapshot_parts(self, rows_at_once: int) -> Iterator[bytes]:
        """Yields the same with so many rows in a part at most; the rows must not change meanwhile."""
        ranked = sorted(self.rows.values(), key=lambda row: row[0])
        yield b'{"type":"snapshot","list":%b,"epoch":%d,"sequence":%d,"rows":[' % (self.name_json, *self.position)
        for first in range(0, len(ranked), rows_at_once):
            rows = [self._row(rank, members) for rank, members in ranked[first : first + rows_at_once]]
            yield (b"," if first else b"") + b",".join(rows)
        yield b'],"count":%d' % len(ranked)
        yield ending(self.timestamp)

    def delta(self, changes: list[bytes], previous_sequence: int | None = None) -> Parts:
        """The JSON of the message with the `changes` that apply() made, in parts.

        `previous_sequence` is shown, beside the epoch, where several changes may have become one.
        """
        epoch, sequence = self.position
        step = b"" if previous_sequence is None else b'"epoch":%d,"previous_sequence":%d,' % (epoch, previous_sequence)
        return _delta_message(self.name_json, step, sequence, changes, self.timestamp)

    def past_delta(self, list_delta: bytes | memoryview) -> Parts:
        """The JSON of the message with an encoded ListDelta's changes, in parts, whatever the rows are now.

        Raises ValueError when it cannot be read, or is several steps in one.
        """
        _, previous, sequence, timestamp, changes = self._read_delta(list_delta)
        if sequence != previous + 1:
            raise ValueError(f"list {self.name}: expected one step, was {previous} to {sequence}")
        made = [self._change_json(*change) for change in changes]
        return _delta_message(self.name_json, b"", sequence, made, timestamp)

    def _change(self, sequence: int, action: int, symbol: bytes, old_rank: int, rank: int, members: Any) -> bytes:
        """Makes the change and returns its JSON, b"" for none; raises KeyError when it does not fit."""
        rows, touched = self.rows, self._touched
        if action == _REMOVE:
            del rows[symbol]
            if touched is not None:
                touched.removed(symbol)
        elif action == _RERANK:
            rows[symbol] = (rank, rows[symbol][1])
        elif action == _ADD:
            rows[symbol] = (rank, members)
            if touched is not None:
                touched.came[symbol] = sequence
        elif action == _UPDATE:
            old_rank, held = rows[symbol]
            updated = self._updated(held, members)
            rows[symbol] = (rank, held if updated is None else updated)
            if updated is None:
                return b"" if rank == old_rank else _rerank_json(symbol, old_rank, rank)
            if touched is not None:
                self._touch(touched, sequence, symbol, members)
        else:
            raise KeyError(symbol)
        return self._change_json(action, symbol, old_rank, rank, members)

    def _change_json(self, action: int, symbol: bytes, old_rank: int, rank: int, members: Any) -> bytes:
        if action == _REMOVE:
            return b'{"action":"remove","symbol":%b}' % symbol
        if action == _RERANK:
            return _rerank_json(symbol, old_rank, rank)
        name, data = (b"add", self._row) if action == _ADD else (b"update", self._update)
        return b'{"action":"%b","rank":%d,"symbol":%b,"data":%b}' % (name, rank, symbol, data(rank, members))

    @abstractmethod
    def _read_list(self, message: bytes | memoryview) -> tuple[int, int, bytes, Sequence[tuple[bytes, int, Members]]]:
        """An encoded RankedList; see read_ranked_list()."""

    @abstractmethod
    def _read_delta(
        self, message: bytes | memoryview
    ) -> tuple[int, int, int, bytes, Sequence[tuple[int, bytes, int, int, Any]]]:
        """An encoded ListDelta; see read_list_delta()."""

    @abstractmethod
    def _updated(self, held: Members, members: Any) -> Members | None:
        """The members of a row after an update; None if they are as before."""

    @abstractmethod
    def _touch(self, touched: "TouchedRows", sequence: int, symbol: bytes, members: Any) -> None:
        """Notes an update."""

    @abstractmethod
    def _touched_since(self, touched: "TouchedRows", sequence: int, symbol: bytes, members: Members) -> Any:
        """Returns what an update since `sequence` shows of a row that was in the list then; None if none is due."""

    @abstractmethod
    def _row(self, rank: int, members: Members) -> bytes:
        """A whole row."""

    @abstractmethod
    def _update(self, rank: int, members: Any) -> bytes:
        """The shown part of a row that is updated."""


class ListRows(KeptRows[bytes]):
    """A list whose updates have complete rows.

    `skips_equal`: an update that changes nothing that is shown is left out of the changes, as happens to rows with few
    fields; what remains of one that moves the row is its new rank.
    """

    def __init__(self, name: str, *, skips_equal: bool = False) -> None:
        super().__init__(name)
        self._skips_equal = skips_equal

    def _read_list(self, message: bytes | memoryview) -> tuple[int, int, bytes, Sequence[tuple[bytes, int, bytes]]]:
        return read_ranked_list(message)

    def _read_delta(
        self, message: bytes | memoryview
    ) -> tuple[int, int, int, bytes, Sequence[tuple[int, bytes, int, int, bytes]]]:
        return read_list_delta(message)

    def _updated(self, held: bytes, members: bytes) -> bytes | None:
        return None if self._skips_equal and held == members else members

    def _touch(self, touched: TouchedRows, sequence: int, symbol: bytes, members: bytes) -> None:
        touched.changed[symbol] = sequence

    def _touched_since(self, touched: TouchedRows, sequence: int, symbol: bytes, members: bytes) -> bytes | None:
        return members if touched.changed.get(symbol, 0) > sequence else None

    def _row(self, rank: int, members: bytes) -> bytes:
        return row_json(rank, members)

    def _update(self, rank: int, members: bytes) -> bytes:
        return row_json(rank, members)


class PatchedRows(KeptRows[dict[int, bytes]]):
    """A list whose updates have the changed fields only, in the scanner's messages as in what is made of them, where an
    update is a merge patch of its row (RFC 7396). Members are by field number.
    """

    def _read_list(
        self, message: bytes | memoryview
    ) -> tuple[int, int, bytes, Sequence[tuple[bytes, int, dict[int, bytes]]]]:
        return read_ranked_list(message, True)

    def _read_delta(
        self, message: bytes | memoryview
    ) -> tuple[int, int, int, bytes, Sequence[tuple[int, bytes, int, int, dict[int, bytes | None]]]]:
        return read_list_delta(message, True)

    def _updated(self, held: dict[int, bytes], members: Mapping[int, bytes | None]) -> dict[int, bytes] | None:
        if not members:
            return None
        for number, text in members.items():
            if text is not None:
                held[number] = text
            else:
                held.pop(number, None)
        return held

    def _touch(self, touched: TouchedRows, sequence: int, symbol: bytes, members: Mapping[int, bytes | None]) -> None:
        touched.fields.setdefault(symbol, {}).update(dict.fromkeys(members, sequence))

    def _touched_since(
        self, touched: TouchedRows, sequence: int, symbol: bytes, members: dict[int, bytes]
    ) -> Mapping[int, bytes | None] | None:
        fields = touched.fields.get(symbol, {})
        return {number: members.get(number) for number, at in fields.items() if at > sequence} or None

    def _row(self, rank: int, members: dict[int, bytes]) -> bytes:
        return row_json(rank, b",".join([text for _, text in sorted(members.items())]))

    def _update(self, rank: int, members: Mapping[int, bytes | None]) -> bytes:
        return b"{%b}" % b",".join([_NULLS[number] if text is None else text for number, text in members.items()])


def _rerank_json(symbol: bytes, old_rank: int, rank: int) -> bytes:
    return b'{"action":"rerank","symbol":%b,"old_rank":%d,"new_rank":%d}' % (symbol, old_rank, rank)


def _delta_message(name_json: bytes, step: bytes, sequence: int, changes: list[bytes], timestamp: bytes) -> Parts:
    return (
        b'{"type":"delta","list":%b,%b"sequence":%d,"deltas":[' % (name_json, step, sequence),
        b",".join(changes),
        b'],"change_count":%d' % len(changes),
        ending(timestamp),
    )
