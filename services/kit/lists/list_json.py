"""A list as JSON, made of the scanner's encoded messages, as REST and server-sent events show it.

No row becomes a Python object, and none is made into JSON twice. A row is its *members* (the JSON
members of its object but for the rank) and its rank, as fastcore.row_json reads them. `kept_rows` has the form of
WebSocket and Redis.
"""

from typing import Final, cast

import msgspec
from google.api import httpbody_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from tradeul.v1 import scanner_pb2, stream_pb2

from fastcore.row_json import read_list_delta, read_ranked_list
from fastcore.wire import fields, wrap
from services.kit.rpc.wire import message_of

_REMOVE: Final = int(scanner_pb2.ListChange.REMOVE)
_RERANK: Final = int(scanner_pb2.ListChange.RERANK)
_UPDATE: Final = int(scanner_pb2.ListChange.UPDATE)
_RANKED_POSITION: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["position"].number
_RANKED_ROWS: Final = scanner_pb2.RankedList.DESCRIPTOR.fields_by_name["rows"].number
_DELTA_POSITION: Final = scanner_pb2.ListDelta.DESCRIPTOR.fields_by_name["position"].number
_JSON: Final = httpbody_pb2.HttpBody(content_type="application/json").SerializeToString()
_EVENTS: Final = httpbody_pb2.HttpBody(content_type="text/event-stream").SerializeToString()
_DATA: Final = httpbody_pb2.HttpBody.DESCRIPTOR.fields_by_name["data"].number


def text_json(text: str) -> bytes:
    """A text as JSON."""
    return msgspec.json.encode(text)


def ending(timestamp: bytes) -> bytes:
    """The end of a message with a timestamp (JSON); b"" for none."""
    return b',"timestamp":%b}' % timestamp if timestamp else b"}"


def row_json(rank: int, members: bytes) -> bytes:
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
    data = b"{%b}" % members if is_patch and action == _UPDATE else row_json(rank, members)
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
    return b",".join([row_json(rank, members) for _, rank, members in rows])


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
