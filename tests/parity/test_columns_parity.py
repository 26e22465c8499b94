"""Columnar builders against the generated classes, and the readers' refusals by column."""

import math
import random
import struct
from array import array
from typing import Any

import pytest
from tradeul.v1 import market_data_pb2

from fastcore.admission import Admission
from fastcore.columns import (
    BarColumns,
    LimitColumns,
    QuoteColumns,
    SnapshotColumns,
    TradeColumns,
    condition_mask,
)
from fastcore.wire import read_fields, write_fields

KINDS: dict[str, tuple[Any, Any]] = {
    "trade": (TradeColumns, market_data_pb2.TradeBatch),
    "bar": (lambda: BarColumns(2), market_data_pb2.BarBatch),
    "quote": (QuoteColumns, market_data_pb2.QuoteBatch),
    "limit": (LimitColumns, market_data_pb2.LimitBatch),
    "snapshot": (SnapshotColumns, market_data_pb2.VendorSnapshot),
}
DOUBLES = (0.0, -0.0, 1.5, -1.0, math.inf, -math.inf, math.nan, 5e-324, 1.7e308)


def columns_of(message: Any) -> list[Any]:
    return [field for field in message.DESCRIPTOR.fields if field.name != "span"]


def value_for(field: Any, rng: random.Random) -> Any:
    if field.type == field.TYPE_DOUBLE:
        return rng.choice(DOUBLES)
    if field.type == field.TYPE_FIXED32:
        return rng.choice((0, 1, 2**32 - 1, rng.randrange(2**32)))
    if field.type == field.TYPE_SFIXED64:
        return rng.choice((0, -1, 2**63 - 1, -(2**63), rng.randrange(2**62)))
    return rng.choice((0, 2**64 - 1, rng.randrange(2**64)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [0, 1, 2, 15, 16, 17, 1000])
def test_builders_write_what_the_generated_class_writes(kind: str, rows: int) -> None:
    rng = random.Random(rows)
    builder, message_class = KINDS[kind][0](), KINDS[kind][1]
    fields = columns_of(message_class)
    for _ in range(2):  # the second time in the memory of the first
        values = [tuple(value_for(field, rng) for field in fields) for _ in range(rows)]
        for row in values:
            builder.append(*row)
        assert len(builder) == rows
        message = message_class(**{f.name: [row[i] for row in values] for i, f in enumerate(fields)})
        if kind == "bar" and rows:
            message.span = market_data_pb2.MINUTE
        assert builder.encode() == message.SerializeToString()
        builder.clear()
        assert len(builder) == 0
        assert builder.encode() == b""


@pytest.mark.parametrize("row", [(-1, 0), (2**32, 0), (0, 2**63), (0, -(2**63) - 1)])
def test_numbers_that_do_not_fit_add_no_row(row: tuple[int, int]) -> None:
    builder = TradeColumns()
    with pytest.raises(OverflowError):
        builder.append(*row, 1.0, 1.0, 0, 0)
    assert len(builder) == 0
    builder.append(1, 2, 3.0, 4.0, 5, 6)
    assert market_data_pb2.TradeBatch.FromString(builder.encode()).price == [3.0]


@pytest.mark.parametrize("span", [0, 3, -1])
def test_a_bar_builder_has_one_of_two_spans(span: int) -> None:
    with pytest.raises(ValueError, match="span"):
        BarColumns(span)


@pytest.mark.parametrize("conditions", [[], None, [0], [62], [63], [-1], [200], [1, 12, 1], list(range(100))])
def test_condition_mask(conditions: list[int] | None) -> None:
    expected = 0
    for condition in conditions or []:
        expected |= 1 << (condition if 0 <= condition <= 62 else 63)
    assert condition_mask(conditions) == expected


def admit(kind: str, message: bytes) -> tuple[bytes, int]:
    gate = Admission()
    gate.set_bounds(0, 10**18)
    result: tuple[bytes, int] = getattr(gate, f"admit_{kind}s")(message, array("i", range(10)))
    return result


def sample(kind: str, rows: int = 3) -> Any:
    message_class = KINDS[kind][1]
    message = message_class(**{f.name: range(1, rows + 1) for f in columns_of(message_class)})
    if kind == "bar":
        message.span = market_data_pb2.SECOND
        message.end_ns[:] = range(2, rows + 2)
    return message


READ = ("trade", "bar", "quote", "limit")


@pytest.mark.parametrize("kind", READ)
def test_each_column_must_be_as_long_as_the_others(kind: str) -> None:
    assert admit(kind, sample(kind).SerializeToString())[1] == 3
    for field in columns_of(sample(kind)):
        message = sample(kind)
        getattr(message, field.name).append(1)
        with pytest.raises(ValueError, match=field.name):
            admit(kind, message.SerializeToString())
        message = sample(kind)
        message.ClearField(field.name)
        if field.name == "trade_key":
            assert admit(kind, message.SerializeToString())[1] == 3
            continue
        with pytest.raises(ValueError, match=field.name):
            admit(kind, message.SerializeToString())


@pytest.mark.parametrize("kind", READ)
def test_a_column_of_broken_width_is_named(kind: str) -> None:
    encoded = sample(kind).SerializeToString()
    names = {field.number: field.name for field in columns_of(sample(kind))}
    fields = read_fields(encoded)
    for index, (number, wire, value) in enumerate(fields):
        if number in names and isinstance(value, bytes):
            broken = [*fields[:index], (number, wire, value[:-1]), *fields[index + 1 :]]
            with pytest.raises(ValueError, match=names[number]):
                admit(kind, write_fields(broken))


@pytest.mark.parametrize("kind", READ)
def test_unknown_fields_are_passed_over(kind: str) -> None:
    encoded = sample(kind).SerializeToString()
    extra = write_fields([(90, 0, 7), (91, 2, b"later"), (92, 5, 1), (93, 1, 2)])
    assert admit(kind, extra + encoded + extra) == admit(kind, encoded)


@pytest.mark.parametrize("kind", READ)
def test_every_truncation_is_refused_or_read(kind: str) -> None:
    """A cut between two fields leaves a message with columns missing; any other no message at all."""
    encoded = sample(kind).SerializeToString()
    for length in range(1, len(encoded)):
        try:
            _, count = admit(kind, encoded[:length])
        except ValueError:
            continue
        parsed = KINDS[kind][1].FromString(encoded[:length])
        assert count == len(parsed.symbol_id)


def test_fields_survive_reading_and_writing() -> None:
    fields: list[tuple[int, int, int | bytes]] = [
        (1, 0, 2**64 - 1),
        (2**29 - 1, 5, 2**32 - 1),
        (16, 1, struct.unpack("<Q", struct.pack("<d", 1.5))[0]),
        (3, 2, b""),
        (3, 2, b"x" * 300),
    ]
    assert read_fields(write_fields(fields)) == fields
