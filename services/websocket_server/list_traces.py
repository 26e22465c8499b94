"""The WebSocket server's part of traces: from a list's change to the moment when it was written to all its clients."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import scanner_pb2

from fastcore.wire import fields, read_varint
from services.kit.rpc.wire import message_of
from services.kit.runtime.clock import wall_ns
from services.kit.runtime.tracing import Refresh

if TYPE_CHECKING:
    from services.kit.runtime.spans import Traces

_FIELDS: Final = {field.name: field.number for field in scanner_pb2.ListDelta.DESCRIPTOR.fields}
_EPOCH, _TIMESTAMP = _FIELDS["epoch"], _FIELDS["timestamp"]


class ListTraces:
    """Adds the spans of one list. `subscribers`: how many have it now."""

    def __init__(self, traces: "Traces", name: str, subscribers: Callable[[], int]) -> None:
        self._traces = traces
        self._name = name
        self._subscribers = subscribers
        # Traced changes that are not written yet, and when they came.
        self._waiting: list[tuple[Refresh, int]] = []

    def received(self, list_delta: memoryview) -> None:
        """An encoded ListDelta has come; raises ValueError when it cannot be read."""
        epoch = time_ns = 0
        for number, _, start, end in fields(list_delta):
            if number == _EPOCH:
                epoch, _ = read_varint(list_delta, start)
            elif number == _TIMESTAMP:
                time_ns = message_of(Timestamp, list_delta[start:end]).ToNanoseconds()
        if (refresh := self._traces.sampled(epoch, time_ns)) is not None:
            self._waiting.append((refresh, wall_ns()))

    def flushed(self) -> None:
        """All that has come was written to the clients that keep up."""
        if not self._waiting:
            return
        now_ns = wall_ns()
        attributes: dict[str, str | int] = {"tradeul.list": self._name, "tradeul.subscribers": self._subscribers()}
        for refresh, received_ns in self._waiting:
            self._traces.add("websocket_server", refresh, received_ns, now_ns, attributes, parent="frame")
        self._waiting.clear()
