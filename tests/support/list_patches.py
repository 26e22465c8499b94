"""Updates with changed fields only, by protobuf's own means: which fields differ, as a message and as records."""

import random
import struct
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

FIELDS = [field for field in TickerRow.DESCRIPTOR.fields if field.name not in ("rank", "symbol", "last_day")]

Rows = Mapping[str, TickerRow]


def value_of(row: TickerRow, name: str) -> Any:
    """The value of a field, to be compared with others; None where it is absent."""
    return values_of(row).get(name)


def values_of(row: TickerRow) -> dict[str, Any]:
    """The values of the fields that are there, to be compared as they are encoded."""
    return {field.name: _comparable(value) for field, value in row.ListFields()}


def _comparable(value: Any) -> Any:
    # -0 is another value than 0, and NaN is its own.
    if isinstance(value, float):
        return struct.pack("<d", value)
    return value.SerializeToString() if isinstance(value, Message) else value


def differing(before: TickerRow, after: TickerRow) -> list[str]:
    """Names of the fields that differ, by number."""
    old, new = values_of(before), values_of(after)
    return [field.name for field in FIELDS if old.get(field.name) != new.get(field.name)]


def patched_delta(delta: scanner_pb2.ListDelta, before: Rows) -> scanner_pb2.ListDelta:
    """The delta with the changed fields only, as scanner.proto defines it; `before`: the rows that it changes."""
    patched = scanner_pb2.ListDelta()
    patched.CopyFrom(delta)
    for change in patched.deltas:
        if change.action != change.UPDATE:
            continue
        old, new = before[change.symbol], TickerRow()
        new.CopyFrom(change.data)
        change.ClearField("data")
        change.old_rank = old.rank
        names = differing(old, new)
        values = values_of(new)
        if absent := [name for name in names if name not in values]:
            change.absent.paths.extend(absent)
        for name in ("rank", "symbol", *values.keys() - set(names)):
            new.ClearField(name)  # type: ignore[arg-type]
        if new.ByteSize():
            change.data.CopyFrom(new)
    return patched


def records(delta: scanner_pb2.ListDelta, before: Rows) -> bytes:
    """The records of the delta's updates; see fastcore/changed_fields.pyx."""
    parts, rows = [], dict(before)
    for change in delta.deltas:
        if change.action == change.UPDATE:
            old = rows[change.symbol]
            names = differing(old, change.data)
            bits = sum(1 << TickerRow.DESCRIPTOR.fields_by_name[name].number for name in names)
            parts.append(struct.pack("<I", old.rank) + bits.to_bytes(16, "little"))
        if change.action in (change.ADD, change.UPDATE):
            rows[change.symbol] = change.data
    return b"".join(parts)


def nudged(rng: random.Random, row: TickerRow, new: TickerRow) -> TickerRow:
    """The row with a few fields as in `new`, and a few without a value."""
    nudged = TickerRow()
    nudged.CopyFrom(row)
    for field in rng.sample(FIELDS, rng.randint(1, 6)):
        nudged.ClearField(field.name)  # type: ignore[arg-type]
        if value_of(new, field.name) is not None and rng.random() < 0.7:
            one = TickerRow()
            one.CopyFrom(new)
            for other in TickerRow.DESCRIPTOR.fields:
                if other.name != field.name:
                    one.ClearField(other.name)  # type: ignore[arg-type]
            nudged.MergeFrom(one)
    return nudged
