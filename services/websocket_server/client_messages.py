"""The messages from and to clients, as docs/websocket.md defines them.

Requests are checked here. What is sent is JSON as WebSocket frames, ready to be written to any number of clients, and
made of JSON parts that were encoded before, so that nothing is encoded twice.
"""

import difflib
from collections.abc import Collection, Sequence
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from fastcore.row_json import instant_json
from services.kit.lists.list_json import ending, text_json
from services.kit.rpc.ring import Position

# --- requests

Action = Literal["subscribe_list", "unsubscribe_list", "resync", "ping"]
ACTIONS: Final = ("subscribe_list", "unsubscribe_list", "resync", "ping")
# Characters of a wrong text that its error shows.
SHOWN: Final = 100

_Number = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class RequestError(Exception):
    """A request that cannot be read; `reason` is the counter's label, `list_name` the list in it."""

    def __init__(self, reason: str, message: str, list_name: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.list_name = list_name


class _Raw(msgspec.Struct):
    action: str
    list: str | None = None
    epoch: _Number | None = None
    sequence: _Number | None = None


class Request(NamedTuple):
    """`list_name` is "" for a ping; `position` is the one that the client has."""

    action: str
    list_name: str = ""
    position: Position | None = None


_decoder: Final = msgspec.json.Decoder(_Raw)


def parse(message: bytes, lists: Collection[str]) -> Request:
    """Reads a request about one of `lists`; raises RequestError."""
    try:
        raw = _decoder.decode(message)
    except msgspec.ValidationError as error:
        raise RequestError(
            "invalid_request", f'expected {{"action":...,"list":...,"epoch":...,"sequence":...}}: {error}'
        ) from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError("invalid_json", f"expected a JSON object: {error}") from error
    if raw.action not in ACTIONS:
        raise RequestError(
            "unknown_action", f"expected action to be one of {', '.join(ACTIONS)}, was {raw.action[:SHOWN]!r}"
        )
    if raw.action == "ping":
        return Request(raw.action)
    name = raw.list
    if name is None:
        raise RequestError("list_missing", f"expected a list to {raw.action}, was none")
    if name not in lists:
        nearest = difflib.get_close_matches(name[:SHOWN], lists, n=1, cutoff=0.0)
        hint = f"; the nearest is {nearest[0]!r}" if nearest else ""
        raise RequestError("unknown_list", f"there is no list {name[:SHOWN]!r}{hint}", name[:SHOWN])
    if (raw.epoch is None) != (raw.sequence is None):
        raise RequestError("invalid_position", "expected epoch and sequence or neither, was one of them", name)
    position = Position(raw.epoch, raw.sequence) if raw.epoch and raw.sequence is not None else None
    return Request(raw.action, name, position)


# --- messages of the server

TEXT_FRAME: Final = 0x81
_SMALL: Final = 126
_MEDIUM: Final = 1 << 16

PONG: Final = b'{"type":"pong"}'


def frame(*parts: bytes) -> bytes:
    """One whole text frame of RFC 6455 with this payload, unmasked, as servers send it."""
    size = sum(map(len, parts))
    if size < _SMALL:
        head = bytes((TEXT_FRAME, size))
    elif size < _MEDIUM:
        head = bytes((TEXT_FRAME, 126)) + size.to_bytes(2)
    else:
        head = bytes((TEXT_FRAME, 127)) + size.to_bytes(8)
    return b"".join((head, *parts))


def connected(connection_id: str, lists: Sequence[str], now_ns: int) -> bytes:
    """The first message; `lists` are those that can be subscribed to."""
    return frame(
        b'{"type":"connected","connection_id":',
        text_json(connection_id),
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
        return frame(b'{"type":"error","message":', text_json(message), b"}")
    return frame(b'{"type":"error","message":', text_json(message), b',"list":', text_json(list_name), b"}")


def pong() -> bytes:
    return frame(PONG)


def aggregate(symbol: bytes, data: bytes, timestamp: bytes) -> bytes:
    """`data`: the bar as a JSON object."""
    return frame(b'{"type":"aggregate","symbol":%b,"data":%b' % (symbol, data), ending(timestamp))
