"""The messages of SubscribeMarket, encoded; see stream.proto for what each says."""

from collections.abc import Sequence
from typing import Final

from tradeul.v1 import polygon_ws_pb2, stream_pb2

from services.kit.rpc.ring import Position
from services.kit.rpc.wire import varint

# SubscribeMarketResponse.batch and MarketBatch.position, both length-delimited.
BATCH_TAG: Final = bytes((2 << 3 | 2,))
POSITION_TAG: Final = bytes((1 << 3 | 2,))


def batch(epoch: int, sequence: int, body: bytes) -> bytes:
    """The response with a MarketBatch whose other fields are `body`, which is copied once."""
    position = stream_pb2.StreamPosition(epoch=epoch, sequence=sequence).SerializeToString()
    head = POSITION_TAG + varint(len(position)) + position
    return b"".join((BATCH_TAG, varint(len(head) + len(body)), head, body))


def opened(epoch: int, sequence: int, symbols: Sequence[str]) -> bytes:
    message = polygon_ws_pb2.MarketOpened(position=_position(epoch, sequence), symbols=symbols)
    return polygon_ws_pb2.SubscribeMarketResponse(opened=message).SerializeToString()


def current(epoch: int, sequence: int) -> bytes:
    message = stream_pb2.StreamCurrent(position=_position(epoch, sequence))
    return polygon_ws_pb2.SubscribeMarketResponse(current=message).SerializeToString()


def heartbeat(epoch: int, sequence: int) -> bytes:
    message = stream_pb2.StreamHeartbeat(position=_position(epoch, sequence))
    return polygon_ws_pb2.SubscribeMarketResponse(heartbeat=message).SerializeToString()


def reset(epoch: int, sequence: int, reason: str) -> bytes:
    message = stream_pb2.StreamReset(position=_position(epoch, sequence), reason=reason)
    return polygon_ws_pb2.SubscribeMarketResponse(reset=message).SerializeToString()


def going_away(epoch: int, sequence: int, reason: str) -> bytes:
    message = stream_pb2.StreamGoingAway(position=_position(epoch, sequence), reason=reason)
    return polygon_ws_pb2.SubscribeMarketResponse(going_away=message).SerializeToString()


def feed_gap(position: Position, from_ns: int, to_ns: int | None, reason: str) -> bytes:
    message = polygon_ws_pb2.FeedGap(position=position.message(), from_ns=from_ns, to_ns=to_ns, reason=reason)
    return polygon_ws_pb2.SubscribeMarketResponse(feed_gap=message).SerializeToString()


def _position(epoch: int, sequence: int) -> stream_pb2.StreamPosition:
    return stream_pb2.StreamPosition(epoch=epoch, sequence=sequence)
