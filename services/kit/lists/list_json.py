"""A list as JSON, made of the scanner's encoded messages: every shape that REST, WebSocket and Redis show.

No row becomes a Python object, and none is made into JSON twice. A row is its *members* (the JSON
members of its object but for the rank) and its rank, as fastcore.row_json reads them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar, cast

import msgspec
from google.api import httpbody_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tradeul.v1 import scanner_pb2, stream_pb2

from fastcore.fields import FIELDS
from fastcore.row_json import read_list_delta, read_ranked_list
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import fields, message_of, wrap

Parts = tuple[bytes, ...]

_ADD: Final = int(scanner_pb2.ListChange.ADD)
_REMOVE: Final = int(scanner_pb2.ListChange.REMOVE)
_RERANK: Final = int(scanner_pb2.ListChange.RERANK)
_UPDATE: Final = int(scanner_pb2.ListChange.UPDATE)
_RANKED_POSITION: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["position"].number
_RANKED_ROWS: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["rows"].number
_DELTA_POSITION: Final = scanner_pb2.ListDelta.DESCRIPTOR.fields_by_name["position"].number
_JSON: Final = httpbody_pb2.HttpBody(content_type="application/json").SerializeToString()
_EVENTS: Final = httpbody_pb2.HttpBody(content_type="text/event-stream").SerializeToString()
_DATA: Final = httpbody_pb2.HttpBody.DESCRIPTOR.fields_by_name["data"].number
# By field number: the member of a field that has become absent.
_NULLS: Final = {field.number: b'"%b":null' % field.name.encode() for field in FIELDS}


def text_json(text: str) -> bytes:
    """A text as JSON."""
    return msgspec.json.encode(text)


def ending(timestamp: bytes) -> bytes:
    """The end of a message with a timestamp (JSON); b"" for none."""
    return b',"timestamp":%b}' % timestamp if timestamp else b"}"


def _row(rank: int, members: bytes) -> bytes:
    return b'{"rank":%d,%b}' % (rank, members) if members else b'{"rank":%d}' % rank


# --- REST: as protobuf's own JSON mapping has it, with the protos' names, and plain fields shown when they are 0


def http_body(json: bytes) -> bytes:
    """An encoded google.api.HttpBody with this JSON, which Envoy's transcoder passes on untouched."""
    return b"".join((_JSON, wrap(_DATA, json)))


def events_body(text: bytes) -> bytes:
    """An encoded google.api.HttpBody with this part of a stream of server-sent events."""
    return b"".join((_EVENTS, wrap(_DATA, text)))


def message_json(message: Message) -> bytes:
    """A small message, in the form that Envoy's transcoder gives it."""
    return msgspec.json.encode(
        MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )


def ranked_list_json(name: str, message: bytes | memoryview, stale_seconds: float | None = None) -> bytes:
    """An encoded RankedList called `name`; `stale_seconds` is None in streams."""
    epoch, sequence, timestamp, rows = read_ranked_list(message)
    head = b'{"list":%b,"epoch":%d,"sequence":%d,"rows":[' % (text_json(name), epoch, sequence)
    tail = b'],"count":%d%b%b%b}' % (
        len(rows),
        _timestamp(timestamp),
        _position(message, _RANKED_POSITION),
        _stale(stale_seconds),
    )
    return b"".join((head, _rows(rows), tail))


def list_delta_json(name: str, message: bytes | memoryview, *, changed_fields_only: bool = False) -> bytes:
    """An encoded ListDelta of the list called `name`; `changed_fields_only`: its updates have no more than these."""
    epoch, previous, sequence, timestamp, changes = read_list_delta(message)
    head = b'{"list":%b,"epoch":%d,"previous_sequence":%d,"sequence":%d,"deltas":['
    tail = b'],"change_count":%d%b%b}' % (len(changes), _timestamp(timestamp), _position(message, _DELTA_POSITION))
    body = b",".join([_list_change(*change, is_patch=changed_fields_only) for change in changes])
    return b"".join((head % (text_json(name), epoch, previous, sequence), body, tail))


def _list_change(action: int, symbol: bytes, old_rank: int, rank: int, members: bytes, *, is_patch: bool) -> bytes:
    name = scanner_pb2.ListChange.Action.Name(cast("scanner_pb2.ListChange.Action.ValueType", action)).encode()
    if action == _REMOVE:
        return b'{"action":"%b","symbol":%b}' % (name, symbol)
    if action == _RERANK:
        return b'{"action":"%b","symbol":%b,"old_rank":%d,"new_rank":%d}' % (name, symbol, old_rank, rank)
    data = b"{%b}" % members if is_patch and action == _UPDATE else _row(rank, members)
    return b'{"action":"%b","symbol":%b,"rank":%d,"data":%b}' % (name, symbol, rank, data)


def filtered_json(message: bytes, stale_seconds: float) -> bytes:
    """FilteredTickers, from the encoded RankedList."""
    _, _, timestamp, rows = read_ranked_list(message)
    tail = _timestamp(timestamp) + _stale(stale_seconds)
    return b'{"tickers":[%b],"count":%d%b}' % (_rows(rows), len(rows), tail)


def gappers_json(up: bytes, down: bytes, stale_seconds: float) -> bytes:
    """Gappers, from the encoded RankedLists of the two sides."""
    _, _, timestamp, rows_up = read_ranked_list(up)
    _, _, _, rows_down = read_ranked_list(down)
    count = len(rows_up) + len(rows_down)
    tail = b'],"count":%d%b%b%b}' % (
        count,
        _timestamp(timestamp),
        _position(up, _RANKED_POSITION),
        _stale(stale_seconds),
    )
    return b"".join((b'{"gappers_up":[', _rows(rows_up), b'],"gappers_down":[', _rows(rows_down), tail))


def unranked_rows_json(rows: list[bytes]) -> bytes:
    """Encoded TickerRows as an array of objects without ranks."""
    _, _, _, read = read_ranked_list(b"".join([wrap(_RANKED_ROWS, row) for row in rows]))
    return b"[%b]" % b",".join([b"{%b}" % members for _, _, members in read])


def _rows(rows: list[tuple[bytes, int, bytes]]) -> bytes:
    return b",".join([_row(rank, members) for _, rank, members in rows])


def _timestamp(timestamp: bytes) -> bytes:
    return b',"timestamp":' + timestamp if timestamp else b""


def _stale(seconds: float | None) -> bytes:
    return b',"stale_seconds":%g' % seconds if seconds is not None else b""


def _position(message: bytes | memoryview, wanted: int) -> bytes:
    for number, _, start, end in fields(message):
        if number == wanted:
            position = message_of(stream_pb2.StreamPosition, message[start:end])
            return b',"position":{"epoch":%d,"sequence":%d}' % (position.epoch, position.sequence)
    return b""


# --- WebSocket and Redis: a snapshot, then deltas


class ListHole(Exception):
    """A delta does not follow the list's position, or does not fit its rows: a snapshot is needed."""


Members = TypeVar("Members")


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
            encoded = [made for change in changes if (made := self._change(*change))]
        except KeyError as error:
            self.forget()
            raise ListHole(f"list {self.name}: expected a change that fits its rows, was one of {error}") from error
        self.position = Position(epoch, sequence)
        self.timestamp = timestamp
        return encoded

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

    def _change(self, action: int, symbol: bytes, old_rank: int, rank: int, members: Any) -> bytes:
        """Makes the change and returns its JSON, b"" for none; raises KeyError when it does not fit."""
        rows = self.rows
        if action == _REMOVE:
            del rows[symbol]
        elif action == _RERANK:
            rows[symbol] = (rank, rows[symbol][1])
        elif action == _ADD:
            rows[symbol] = (rank, members)
        elif action == _UPDATE:
            old_rank, held = rows[symbol]
            updated = self._updated(held, members)
            rows[symbol] = (rank, held if updated is None else updated)
            if updated is None:
                return b"" if rank == old_rank else _rerank_json(symbol, old_rank, rank)
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

    def _row(self, rank: int, members: bytes) -> bytes:
        return _row(rank, members)

    def _update(self, rank: int, members: bytes) -> bytes:
        return _row(rank, members)


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

    def _row(self, rank: int, members: dict[int, bytes]) -> bytes:
        return _row(rank, b",".join([text for _, text in sorted(members.items())]))

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
