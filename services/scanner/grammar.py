"""The messages of a list stream, encoded; see stream.proto for what each says."""

from typing import Final

from tradeul.v1 import scanner_pb2, stream_pb2

from services.kit.rpc.ring import Position
from services.kit.rpc.wire import only_field, wrap

SNAPSHOT: Final = 2
DELTA: Final = 3


def opened(name: str, position: Position) -> bytes:
    message = scanner_pb2.ListOpened(list=name, position=position.message())
    return scanner_pb2.WatchListResponse(opened=message).SerializeToString()


def snapshot(ranked_list: bytes) -> bytes:
    """`ranked_list`: an encoded RankedList."""
    return wrap(SNAPSHOT, ranked_list)


def delta(list_delta: bytes) -> bytes:
    """`list_delta`: an encoded ListDelta."""
    return wrap(DELTA, list_delta)


def unwrap(message: bytes) -> bytes:
    """The encoded message inside an encoded WatchListResponse."""
    return bytes(only_field(message)[1])


def current(position: Position) -> bytes:
    message = stream_pb2.StreamCurrent(position=position.message())
    return scanner_pb2.WatchListResponse(current=message).SerializeToString()


def heartbeat(position: Position) -> bytes:
    message = stream_pb2.StreamHeartbeat(position=position.message())
    return scanner_pb2.WatchListResponse(heartbeat=message).SerializeToString()


def reset(position: Position, reason: str) -> bytes:
    message = stream_pb2.StreamReset(position=position.message(), reason=reason)
    return scanner_pb2.WatchListResponse(reset=message).SerializeToString()


def going_away(position: Position, reason: str) -> bytes:
    message = stream_pb2.StreamGoingAway(position=position.message(), reason=reason)
    return scanner_pb2.WatchListResponse(going_away=message).SerializeToString()
