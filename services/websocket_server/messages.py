"""What the server sends: JSON texts as WebSocket frames, ready to be written to any number of clients.

Texts are put together from JSON parts that were encoded before, so that nothing is encoded twice.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fastcore.row_json import instant_json

TEXT_FRAME: Final = 0x81
_SMALL: Final = 126
_MEDIUM: Final = 1 << 16

PONG: Final = b'{"type":"pong"}'


def frame(*parts: bytes) -> bytes:
    """One whole text frame of RFC 6455, from the server's side: no mask."""
    size = sum(map(len, parts))
    if size < _SMALL:
        head = bytes((TEXT_FRAME, size))
    elif size < _MEDIUM:
        head = bytes((TEXT_FRAME, 126)) + size.to_bytes(2)
    else:
        head = bytes((TEXT_FRAME, 127)) + size.to_bytes(8)
    return b"".join((head, *parts))


def text(value: str) -> bytes:
    """A text as JSON."""
    return msgspec.json.encode(value)


def connected(connection_id: str, lists: Sequence[str], now_ns: int) -> bytes:
    """The first message; `lists` are those that can be subscribed to."""
    return frame(
        b'{"type":"connected","connection_id":',
        text(connection_id),
        b',"lists":',
        msgspec.json.encode(lists),
        b',"timestamp":',
        instant_json(now_ns),
        b"}",
    )


def subscribed(list_json: bytes) -> bytes:
    return frame(b'{"type":"subscribed_list","list":', list_json, b"}")


def error(message: str, list_name: str | None = None) -> bytes:
    if list_name is None:
        return frame(b'{"type":"error","message":', text(message), b"}")
    return frame(b'{"type":"error","message":', text(message), b',"list":', text(list_name), b"}")


def pong() -> bytes:
    return frame(PONG)


def snapshot(list_json: bytes, epoch: int, sequence: int, rows: Sequence[bytes], timestamp: bytes) -> bytes:
    """`rows`: whole JSON objects, by rank; `timestamp`: JSON, b"" when there is none."""
    return frame(
        b'{"type":"snapshot","list":%b,"epoch":%d,"sequence":%d,"rows":[' % (list_json, epoch, sequence),
        b",".join(rows),
        b'],"count":%d' % len(rows),
        _timestamp(timestamp),
    )


def delta(list_json: bytes, sequence: int, changes: Sequence[bytes], timestamp: bytes) -> bytes:
    """`changes`: what the four functions below make."""
    return frame(
        b'{"type":"delta","list":%b,"sequence":%d,"deltas":[' % (list_json, sequence),
        b",".join(changes),
        b'],"change_count":%d' % len(changes),
        _timestamp(timestamp),
    )


def added(symbol: bytes, rank: int, row: bytes) -> bytes:
    return b'{"action":"add","rank":%d,"symbol":%b,"data":{"rank":%d,%b}}' % (rank, symbol, rank, row)


def updated(symbol: bytes, rank: int, row: bytes) -> bytes:
    return b'{"action":"update","rank":%d,"symbol":%b,"data":{"rank":%d,%b}}' % (rank, symbol, rank, row)


def removed(symbol: bytes) -> bytes:
    return b'{"action":"remove","symbol":%b}' % symbol


def reranked(symbol: bytes, old_rank: int, new_rank: int) -> bytes:
    return b'{"action":"rerank","symbol":%b,"old_rank":%d,"new_rank":%d}' % (symbol, old_rank, new_rank)


def ranked_row(rank: int, row: bytes) -> bytes:
    """A row's whole object."""
    return b'{"rank":%d,%b}' % (rank, row)


def aggregate(symbol: bytes, data: bytes, timestamp: bytes) -> bytes:
    """`data`: the bar as a JSON object."""
    return frame(b'{"type":"aggregate","symbol":%b,"data":%b' % (symbol, data), _timestamp(timestamp))


def _timestamp(timestamp: bytes) -> bytes:
    return b',"timestamp":%b}' % timestamp if timestamp else b"}"
