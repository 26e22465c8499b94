from collections.abc import Iterable

def read_fields(message: bytes | bytearray | memoryview) -> list[tuple[int, int, int | bytes]]:
    """The top-level fields of an encoded message, in order: (number, wire type, value).

    The value is the raw bits of a varint, fixed32 or fixed64 as int, and the bytes of a
    length-delimited field. ValueError when the bytes are no protobuf message.
    """

def write_fields(fields: Iterable[tuple[int, int, int | bytes]]) -> bytes:
    """The inverse of `read_fields`; ValueError for a wire type that is not 0, 1, 2 or 5."""
