from collections.abc import Iterable

_Buffer = bytes | bytearray | memoryview

def read_varint(data: _Buffer, index: int) -> tuple[int, int]:
    """The varint at `index` of a buffer, and the index after it; ValueError when it is cut off or over 64 bits."""

def field_head(number: int, length: int) -> bytes:
    """The tag and length before the content of the length-delimited field `number`, which has `length` bytes."""

def wrap(number: int, *pieces: _Buffer) -> bytes:
    """The length-delimited field `number` of an enclosing message, whose content are these buffers in their order."""

def fields(data: _Buffer, most: int = ...) -> list[tuple[int, int, int, int]]:
    """The top-level fields of an encoded message, a buffer, or the first `most` of them: list of (number, first byte,
    first byte of its payload, the byte after it).

    Of varints and fixed-width fields the payload is the encoded value. ValueError when the bytes are no protobuf
    message.
    """

def only_field(data: _Buffer) -> tuple[int, memoryview]:
    """The number and the payload of the only field of a wrapper, whose content is one of several messages.

    ValueError when it holds anything else.
    """

def read_fields(message: bytes | bytearray | memoryview) -> list[tuple[int, int, int | bytes]]:
    """The top-level fields of an encoded message, in order: (number, wire type, value).

    The value is the raw bits of a varint, fixed32 or fixed64 as int, and the bytes of a
    length-delimited field. ValueError when the bytes are no protobuf message.
    """

def write_fields(fields: Iterable[tuple[int, int, int | bytes]]) -> bytes:
    """The inverse of `read_fields`; ValueError for a wire type that is not 0, 1, 2 or 5."""
