"""Events of a market and the bodies of the frames that carry them, built with the generated classes."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from tradeul.v1 import market_data_pb2


class Event(NamedTuple):
    """A row of a batch, columns in order; kind trade, bar1 (seconds), bar2 (minutes), quote, limit, halt, snapshot."""

    kind: str
    row: tuple[Any, ...]


def Control(body: dict[str, Any]) -> Event:
    """A frame that is no batch: its one body field."""
    return Event("control", (body,))


_COLUMNS: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "trade": ("trades", market_data_pb2.TradeBatch, ("symbol_id", "time_ns", "price", "size", "conditions")),
    "bar": (
        "bars",
        market_data_pb2.BarBatch,
        tuple(field.name for field in market_data_pb2.BarBatch.DESCRIPTOR.fields if field.name != "span"),
    ),
    "quote": ("quotes", market_data_pb2.QuoteBatch, ("symbol_id", "time_ns", "bid", "ask", "bid_size", "ask_size")),
    "limit": ("limits", market_data_pb2.LimitBatch, ("symbol_id", "time_ns", "upper", "lower", "indicators")),
    "halt": ("halts", market_data_pb2.HaltBatch, ("symbol_id", "halted_at_ns", "resumes_at_ns", "reason")),
    "snapshot": (
        "vendor_snapshot",
        market_data_pb2.VendorSnapshot,
        tuple(field.name for field in market_data_pb2.VendorSnapshot.DESCRIPTOR.fields),
    ),
}


def body_of(events: Sequence[Event]) -> dict[str, Any]:
    """The body of a frame for events of one kind, as keyword of Frame."""
    kind = events[0].kind
    if kind == "control":
        body: dict[str, Any] = events[0].row[0]
        return body
    name, message, columns = _COLUMNS[kind.rstrip("12")]
    values = {column: [event.row[i] for event in events] for i, column in enumerate(columns)}
    if kind.startswith("bar"):
        values["span"] = int(kind[3])  # type: ignore[assignment]
    return {name: message(**values)}


def same_number(a: float, b: float, relative: float = 0.0) -> bool:
    """Equal, both NaN, or as near as `relative` says."""
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return a == b or abs(a - b) <= relative * max(abs(a), abs(b))
