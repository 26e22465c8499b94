"""Lists as the JSON of REST, from their encoded messages; as what Envoy's transcoder passes on untouched.

It says what protobuf's own JSON mapping says (with the proto's names, and plain
fields shown when they are 0), and no row becomes a Python object on the way.
"""

from typing import Final

import msgspec
from google.api import httpbody_pb2
from tradeul.v1 import scanner_pb2, stream_pb2

from fastcore.row_json import read_ranked_list
from services.kit.rpc.wire import fields, wrap

_RANKED: Final = {name: field.number for name, field in scanner_pb2.RankedList.DESCRIPTOR.fields_by_name.items()}
_CONTENT_TYPE: Final = httpbody_pb2.HttpBody(content_type="application/json").SerializeToString()
_DATA: Final = httpbody_pb2.HttpBody.DESCRIPTOR.fields_by_name["data"].number


def http_body(json: bytes) -> bytes:
    """An encoded google.api.HttpBody with this JSON."""
    return b"".join((_CONTENT_TYPE, wrap(_DATA, json)))


def ranked_list_json(name: str, message: bytes) -> bytes:
    """An encoded RankedList called `name`."""
    epoch, sequence, timestamp, rows = read_ranked_list(message)
    head = b'{"list":%b,"epoch":%d,"sequence":%d,"rows":[' % (msgspec.json.encode(name), epoch, sequence)
    tail = b'],"count":%d%b%b}' % (len(rows), _timestamp(timestamp), _position(message))
    return b"".join((head, _rows(rows), tail))


def filtered_json(message: bytes) -> bytes:
    """FilteredTickers, from the encoded RankedList."""
    _, _, timestamp, rows = read_ranked_list(message)
    return b'{"tickers":[%b],"count":%d%b}' % (_rows(rows), len(rows), _timestamp(timestamp))


def gappers_json(up: bytes, down: bytes) -> bytes:
    """Gappers, from the encoded RankedLists of the two sides."""
    _, _, timestamp, rows_up = read_ranked_list(up)
    _, _, _, rows_down = read_ranked_list(down)
    count = len(rows_up) + len(rows_down)
    tail = b'],"count":%d%b%b}' % (count, _timestamp(timestamp), _position(up))
    return b"".join((b'{"gappers_up":[', _rows(rows_up), b'],"gappers_down":[', _rows(rows_down), tail))


def _rows(rows: list[tuple[bytes, int, bytes]]) -> bytes:
    return b",".join([b'{"rank":%d,%b}' % (rank, members) for _, rank, members in rows])


def _timestamp(timestamp: bytes) -> bytes:
    return b',"timestamp":' + timestamp if timestamp else b""


def _position(message: bytes) -> bytes:
    for number, _, start, end in fields(message):
        if number == _RANKED["position"]:
            position = stream_pb2.StreamPosition.FromString(message[start:end])
            return b',"position":{"epoch":%d,"sequence":%d}' % (position.epoch, position.sequence)
    return b""
