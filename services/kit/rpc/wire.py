"""Messages and their bytes."""

from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.protobuf.timestamp_pb2 import Timestamp

_Message = TypeVar("_Message", bound=Message)


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
