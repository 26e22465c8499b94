"""The little of protobuf's wire format that lets encoded messages be passed on without decoding them.

Only what the hot paths need: which field a wrapper holds, where its bytes are,
and how to put encoded bytes into a wrapper of their own.
"""

from collections.abc import Iterator
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

_Message = TypeVar("_Message", bound=Message)

LENGTH_DELIMITED = 2
_FIXED = {1: 8, 5: 4}


def read_varint(data: bytes | memoryview, index: int) -> tuple[int, int]:
    """The varint at `index` and the index after it; raises ValueError when it is cut off or over 64 bits."""
    value = shift = 0
    while True:
        if index >= len(data):
            raise ValueError(f"expected a whole varint, the message ends at byte {index}")
        byte = data[index]
        index += 1
        if shift == 63 and byte > 1:
            raise ValueError(f"expected a varint of at most 64 bits before byte {index}")
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index
        shift += 7


_ONE_BYTE: Final = tuple(bytes((value,)) for value in range(0x80))


def varint(value: int) -> bytes:
    """`value` (0 or greater) as a varint."""
    if value <= 0x7F:
        return _ONE_BYTE[value]
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def wrap(field: int, payload: bytes) -> bytes:
    """`payload` as the length-delimited field number `field` of an enclosing message."""
    return b"".join((varint(field << 3 | LENGTH_DELIMITED), varint(len(payload)), payload))


def timestamp(ns: int) -> Timestamp:
    """Nanoseconds since 1970 UTC as protobuf's Timestamp."""
    time = Timestamp()
    time.FromNanoseconds(ns)
    return time


def message_of(kind: type[_Message], data: bytes | memoryview) -> _Message:
    """The message that `data` encodes; raises ValueError where protobuf raises its DecodeError, which is none."""
    try:
        return kind.FromString(bytes(data))
    except DecodeError as error:
        raise ValueError(f"expected a {kind.DESCRIPTOR.name}: {error}") from error


def fields(data: bytes | memoryview) -> Iterator[tuple[int, int, int, int]]:
    """The top-level fields of a message: (field number, first byte of the field, of its payload, after it).

    For varints and fixed-width fields the payload is the encoded value. Raises
    ValueError where the message is not well formed.
    """
    index, end = 0, len(data)
    while index < end:
        first = index
        tag, index = read_varint(data, index)
        kind = tag & 7
        if kind == LENGTH_DELIMITED:
            size, index = read_varint(data, index)
            after = index + size
        elif kind == 0:
            _, after = read_varint(data, index)
        elif kind in _FIXED:
            after = index + _FIXED[kind]
        else:
            raise ValueError(f"expected wire type 0, 1, 2 or 5 at byte {first}, was {kind}")
        if after > end:
            raise ValueError(f"expected field {tag >> 3} to end within {end} bytes, it ends at {after}")
        yield tag >> 3, first, index, after
        index = after


def only_field(data: bytes | memoryview) -> tuple[int, memoryview]:
    """The number and payload of the one field of a wrapper whose whole content is a oneof of messages."""
    view = memoryview(data)
    tag, index = read_varint(view, 0)
    if tag & 7 != LENGTH_DELIMITED:
        raise ValueError(f"expected a wrapped message (wire type 2), was wire type {tag & 7}")
    size, index = read_varint(view, index)
    if index + size != len(view):
        raise ValueError(f"expected one field of {len(view) - index} bytes, field {tag >> 3} has {size}")
    return tag >> 3, view[index:]
