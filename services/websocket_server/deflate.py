"""permessage-deflate (RFC 7692) without context takeover: a message is compressed by itself, once for all clients."""

import zlib
from collections.abc import Iterator
from typing import Final

EXTENSION: Final = "permessage-deflate"
# Both sides begin each message anew: the same is sent to all clients, and no connection has a window of its own.
ACCEPTED: Final = f"{EXTENSION}; server_no_context_takeover; client_no_context_takeover"
# Below this, a frame is about as short as it is.
LEAST_BYTES: Final = 128
LEVEL: Final = 3
# The end of each compressed message, which is left out (RFC 7692, 7.2.1).
TAIL: Final = b"\x00\x00\xff\xff"
_WINDOW_BITS: Final = 15


def accepted_extensions(offers: str) -> str | None:
    """The value of Sec-WebSocket-Extensions in the response to a request's; None when none of the offers will do."""
    for offer in offers.split(","):
        name, *parameters = [part.strip() for part in offer.split(";")]
        if name == EXTENSION and (answer := _answer(parameters)) is not None:
            return answer
    return None


def _answer(parameters: list[str]) -> str | None:
    given: dict[str, str] = {}
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        name, value = name.strip(), value.strip().strip('"')
        if name in given:
            return None
        given[name] = value
    answer = ACCEPTED
    for name, value in given.items():
        if name in ("server_no_context_takeover", "client_no_context_takeover"):
            if value:
                return None
        elif name == "client_max_window_bits":
            if value not in ("", *_bits()):
                return None
        elif name == "server_max_window_bits" and value == str(_WINDOW_BITS):
            answer += f"; {name}={value}"
        else:
            # A smaller window would have to be the window of all clients.
            return None
    return answer


def _bits() -> Iterator[str]:
    return map(str, range(8, _WINDOW_BITS + 1))


def deflated(payload: bytes) -> bytes:
    """The compressed payload of a message."""
    compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -_WINDOW_BITS)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


def inflated(payload: bytes, most: int) -> bytes:
    """The payload of a compressed message, of which no more than `most` + 1 bytes are made; raises ValueError."""
    try:
        return zlib.decompressobj(-_WINDOW_BITS).decompress(payload + TAIL, most + 1)
    except zlib.error as error:
        raise ValueError(f"expected deflated data: {error}") from error
