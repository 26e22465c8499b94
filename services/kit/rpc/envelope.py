"""The messages that all streams have in common, encoded and read for one response type; stream.proto defines them.

A response is a oneof of `opened`, the stream's own payloads, and some of `current`, `heartbeat`, `reset`, `going_away`.
Payloads pass as encoded bytes: what many subscribers get is encoded once, and readers take apart what they need.
"""

from typing import Any, Final

from google.protobuf.message import Message
from tradeul.v1 import data_ingest_pb2, polygon_ws_pb2, scanner_pb2, stream_pb2

from fastcore.wire import only_field, wrap
from services.kit.rpc.ring import Position

# The position is the first field of every message that has one.
_POSITION: Final = 1


class Envelope:
    """Encodes and reads the responses of one stream; `response` is their type."""

    def __init__(self, response: type[Message]) -> None:
        fields = response.DESCRIPTOR.fields
        self._response: Any = response
        self._names: dict[int, str] = {field.number: field.name for field in fields}
        self._numbers = {field.name: field.number for field in fields}

    def wrap(self, field: str, *payload: bytes | memoryview) -> bytes:
        """The response whose `field` is this encoded message, given in one or more pieces."""
        return wrap(self._numbers[field], *payload)

    def positioned(self, field: str, position: Position, *rest: bytes) -> tuple[bytes, memoryview]:
        """The response whose `field` is a message of `position` and `rest`, its other fields; and that message."""
        own = wrap(_POSITION, position.message().SerializeToString())
        message = wrap(self._numbers[field], own, *rest)
        return message, only_field(message)[1]

    def message(self, field: str, **content: Any) -> bytes:
        """The response whose `field` is a message of this content."""
        encoded: bytes = self._response(**{field: content}).SerializeToString()
        return encoded

    def opened(self, position: Position | None, **content: Any) -> bytes:
        """The first message. `content`: what else this stream's `opened` has."""
        return self.message("opened", position=_message(position), **content)

    def current(self, position: Position | None) -> bytes:
        """The catch-up is over: the following messages are live."""
        return self.message("current", position=_message(position))

    def heartbeat(self, position: Position | None) -> bytes:
        """Nothing new since `position`."""
        return self.message("heartbeat", position=_message(position))

    def reset(self, position: Position, reason: str) -> bytes:
        """The client's position cannot be served."""
        return self.message("reset", position=_message(position), reason=reason)

    def going_away(self, position: Position | None, reason: str) -> bytes:
        """The last message before a planned stop."""
        return self.message("going_away", position=_message(position), reason=reason)

    def read(self, message: bytes) -> tuple[str, memoryview]:
        """The name of a response's field, and the encoded message in it; raises ValueError for anything else."""
        number, payload = only_field(message)
        if (name := self._names.get(number)) is None:
            raise ValueError(f"expected a field of {self._response.DESCRIPTOR.name}, was field {number}")
        return name, payload


def _message(position: Position | None) -> stream_pb2.StreamPosition | None:
    return None if position is None else position.message()


# Streams that one service serves and another one reads.
FRAMES: Final = Envelope(data_ingest_pb2.SubscribeFramesResponse)
MARKET: Final = Envelope(polygon_ws_pb2.SubscribeMarketResponse)
LIST: Final = Envelope(scanner_pb2.WatchListResponse)
