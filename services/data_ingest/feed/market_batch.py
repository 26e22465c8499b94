"""polygon_ws's batches: read from their bytes, and kept while they wait for the trading day that they are about."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from tradeul.v1 import polygon_ws_pb2, stream_pb2

from fastcore.wire import fields, read_varint
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import message_of

# Waiting batches: up to so many bytes, of which the oldest make room.
MAX_WAITING_BYTES: Final = 1 << 20
# After so many events of the day in force those of later days had wrong timestamps.
MAX_EVENTS_BETWEEN: Final = 1000

NUMBERS: Final = {field.name: field.number for field in polygon_ws_pb2.MarketBatch.DESCRIPTOR.fields}
_POSITION: Final = NUMBERS["position"]
_FIRST_ID: Final = NUMBERS["first_symbol_id"]
_NEW_SYMBOLS: Final = NUMBERS["new_symbols"]
_WATERMARK: Final = NUMBERS["watermark_ns"]

# A batch's encoded columns by field of MarketBatch.
Columns = list[tuple[int, memoryview]]


class MarketBatch(NamedTuple):
    """A batch, its columns where they are in its bytes and in the order of their fields; `watermark_ns` 0 for none."""

    position: Position
    first_symbol_id: int
    new_symbols: list[str]
    columns: Columns
    watermark_ns: int

    @classmethod
    def read(cls, batch: memoryview) -> "MarketBatch":
        """Raises ValueError when it is malformed."""
        first_id = watermark_ns = 0
        position = Position(0, 0)
        symbols: list[str] = []
        columns: Columns = []
        for number, _, start, end in fields(batch):
            if number == _POSITION:
                position = Position.of(message_of(stream_pb2.StreamPosition, batch[start:end]))
            elif number == _FIRST_ID:
                first_id, _ = read_varint(batch, start)
            elif number == _NEW_SYMBOLS:
                symbols.append(str(batch[start:end], "utf-8"))
            elif number == _WATERMARK:
                watermark_ns = int.from_bytes(batch[start:end], "little")
            elif number > _NEW_SYMBOLS:
                columns.append((number, batch[start:end]))
        columns.sort(key=lambda column: column[0])
        return cls(position, first_id, symbols, columns, watermark_ns)


def position_of(batch: memoryview) -> Position | None:
    """The position of a batch that cannot be read, which comes first in it; None when that cannot be read, either."""
    try:
        for number, _, start, end in fields(batch, 1):
            if number == _POSITION:
                return Position.of(message_of(stream_pb2.StreamPosition, batch[start:end]))
    except ValueError:
        pass
    return None


class WaitingBatches:
    """Batches with events of a trading day that has not begun, the oldest first."""

    def __init__(self) -> None:
        self._batches: list[Columns] = []
        # Events of the day in force that were admitted since the newest of them.
        self._events_between = 0

    def __iter__(self) -> Iterator[Columns]:
        return iter(tuple(self._batches))

    def add(self, columns: Columns) -> None:
        """Keeps a batch, in place of the oldest ones where there is no room."""
        self._batches.append(columns)
        self._events_between = 0
        while len(self._batches) > 1 and self._bytes() > MAX_WAITING_BYTES:
            del self._batches[0]

    def are_outdated_after(self, events: int) -> bool:
        """Counts events of the day in force; True if there were too many for what waits to be right."""
        if self._batches:
            self._events_between += events
        return self._events_between > MAX_EVENTS_BETWEEN

    def clear(self) -> None:
        self._batches.clear()
        self._events_between = 0

    def _bytes(self) -> int:
        return sum(len(part) for columns in self._batches for _, part in columns)
