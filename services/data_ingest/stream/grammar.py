"""The messages of SubscribeFrames, encoded; see stream.proto for what each says."""

from typing import Final

from tradeul.v1 import data_ingest_pb2, frame_pb2, stream_pb2

from services.kit.rpc.ring import Position
from services.kit.rpc.wire import LENGTH_DELIMITED, varint, wrap

_RESPONSE: Final = {field.name: field.number for field in data_ingest_pb2.SubscribeFramesResponse.DESCRIPTOR.fields}
_CHUNK_DATA: Final = data_ingest_pb2.SnapshotChunk.DESCRIPTOR.fields_by_name["data"].number

# What a frame may hold, by name.
BODIES: Final = tuple(field.name for field in frame_pb2.Frame.DESCRIPTOR.oneofs_by_name["body"].fields)


def _tag(number: int) -> bytes:
    return varint(number << 3 | LENGTH_DELIMITED)


_FRAME_TAG: Final = _tag(_RESPONSE["frame"])
_POSITION_TAG: Final = _tag(frame_pb2.Frame.DESCRIPTOR.fields_by_name["position"].number)
_BODY_TAGS: Final = {name: _tag(frame_pb2.Frame.DESCRIPTOR.fields_by_name[name].number) for name in BODIES}


def frame(position: Position, body: str, content: bytes) -> tuple[bytes, memoryview]:
    """The response with a Frame, and the encoded Frame inside it. `content` is copied once; KeyError for no body."""
    place = position.message().SerializeToString()
    head = b"".join((_POSITION_TAG, varint(len(place)), place, _BODY_TAGS[body], varint(len(content))))
    size = varint(len(head) + len(content))
    message = b"".join((_FRAME_TAG, size, head, content))
    return message, memoryview(message)[len(_FRAME_TAG) + len(size) :]


def opened(position: Position) -> bytes:
    message = data_ingest_pb2.FramesOpened(position=position.message())
    return data_ingest_pb2.SubscribeFramesResponse(opened=message).SerializeToString()


def snapshot_chunk(position: Position, index: int, count: int, data: memoryview) -> bytes:
    """A piece of the whole state."""
    head = data_ingest_pb2.SnapshotChunk(position=position.message(), index=index, count=count).SerializeToString()
    size = varint(len(data))
    content = b"".join((head, _tag(_CHUNK_DATA), size, data))
    return wrap(_RESPONSE["snapshot"], content)


def current(position: Position) -> bytes:
    message = stream_pb2.StreamCurrent(position=position.message())
    return data_ingest_pb2.SubscribeFramesResponse(current=message).SerializeToString()


def heartbeat(position: Position) -> bytes:
    message = stream_pb2.StreamHeartbeat(position=position.message())
    return data_ingest_pb2.SubscribeFramesResponse(heartbeat=message).SerializeToString()


def reset(position: Position, reason: str) -> bytes:
    message = stream_pb2.StreamReset(position=position.message(), reason=reason)
    return data_ingest_pb2.SubscribeFramesResponse(reset=message).SerializeToString()


def going_away(position: Position, reason: str) -> bytes:
    message = stream_pb2.StreamGoingAway(position=position.message(), reason=reason)
    return data_ingest_pb2.SubscribeFramesResponse(going_away=message).SerializeToString()
