"""What the server sends: JSON texts as WebSocket frames, ready to be written to any number of clients.

Texts are put together from JSON parts that were encoded before, so that nothing is encoded twice.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from fastcore.row_json import instant_json
from services.kit.lists.list_json import ending, text_json

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
