"""Rows and list messages as JSON, against protobuf's own JSON mapping."""

import json
import math
import random
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import scanner_pb2, session_pb2, ticker_row_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.row_json import instant_json, read_list_delta, read_ranked_list
from fastcore.wire import write_fields

ROWS = 4_000
TEXTS = ("AAPL", "BRK.A", "BACpL", 'A "quoted" \\ name', "tab\tline\nnull\x00bell\x07", "Société", "日本 🚀", "")


def double(rng: random.Random) -> float:
    """Prices, rounded percentages, counts, and whatever else 64 bits can be."""
    kind = rng.randrange(9)
    if kind == 0:
        return round(rng.uniform(0.0001, 100_000), 4)
    if kind == 1:
        return round(rng.uniform(-500, 500), 6)
    if kind == 2:
        return float(rng.randrange(10**12))
    if kind == 3:
        return rng.choice((0.0, 1.0, -1.0, 1e15, 1e15 - 1, 1e16, 2.0**53, 1e22, 1e300, 5e-324, 0.1 + 0.2, 1e-6, 1e-7))
    if kind == 4:
        return rng.uniform(-1, 1) * 10.0 ** rng.randrange(-300, 300)
    if kind == 5:
        return rng.uniform(8_000_000_000, 10_000_000_000)
    if kind == 6:
        return rng.randrange(-(10**15), 10**15) / 1e6
    if kind == 7:
        return rng.uniform(0, 1000)
    return rng.choice((math.nan, math.inf, -math.inf))


def timestamp(rng: random.Random) -> Timestamp:
    nanos = rng.choice((0, 500_000_000, 123_000_000, 123_456_000, 123_456_789, 1, 999_999_999))
    seconds = rng.choice((rng.randrange(1_600_000_000, 2_000_000_000), rng.randrange(-62_135_596_800, 253_402_300_800)))
    return Timestamp(seconds=seconds, nanos=nanos)


def ticker_row(rng: random.Random, rank: int) -> TickerRow:
    row = TickerRow(rank=rank, symbol=rng.choice(TEXTS[:-1]) + str(rank))
    for field in TickerRow.DESCRIPTOR.fields:
        if field.name in ("rank", "symbol") or rng.random() < 0.2:
            continue
        if field.type == field.TYPE_DOUBLE:
            setattr(row, field.name, double(rng))
        elif field.type == field.TYPE_STRING:
            setattr(row, field.name, rng.choice(TEXTS))
        elif field.type == field.TYPE_BOOL:
            setattr(row, field.name, rng.random() < 0.5)
        elif field.name == "gap_size":
            row.gap_size = rng.choice(ticker_row_pb2.GapSize.values())
        elif field.name == "session":
            row.session = rng.choice(session_pb2.Session.values())
        else:
            row.updated_at.CopyFrom(timestamp(rng))
    return row


def expected(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def test_rows_say_what_protobuf_says() -> None:
    rng = random.Random(7)
    ranked = scanner_pb2.RankedList(
        list="winners", epoch=1_763_900_000, sequence=41, rows=[ticker_row(rng, rank) for rank in range(1, ROWS)]
    )
    ranked.timestamp.CopyFrom(timestamp(rng))
    epoch, sequence, time, rows = read_ranked_list(ranked.SerializeToString())
    assert (epoch, sequence) == (1_763_900_000, 41)
    assert json.loads(time) == expected(ranked)["timestamp"]
    assert len(rows) == len(ranked.rows)
    for (symbol, rank, members), row in zip(rows, ranked.rows, strict=True):
        assert json.loads(b'{"rank":%d,%b}' % (rank, members)) == expected(row)
        assert json.loads(symbol) == row.symbol


def test_numbers_are_the_same_doubles() -> None:
    rng = random.Random(8)
    for _ in range(20_000):
        value = double(rng)
        if math.isfinite(value):
            ranked = scanner_pb2.RankedList(rows=[TickerRow(symbol="A", price=value)])
            _, _, _, [(_, _, members)] = read_ranked_list(ranked.SerializeToString())
            written = json.loads(b"{%b}" % members)["price"]
            assert float(written).hex() == value.hex(), members


def test_negative_zero_keeps_its_sign() -> None:
    ranked = scanner_pb2.RankedList(rows=[TickerRow(symbol="A", change=-0.0)])
    _, _, _, [(_, _, members)] = read_ranked_list(ranked.SerializeToString())
    assert math.copysign(1, json.loads(b"{%b}" % members)["change"]) == -1


def list_delta(rng: random.Random) -> scanner_pb2.ListDelta:
    """A delta with a change of every kind."""
    delta = scanner_pb2.ListDelta(list="winners", epoch=7, previous_sequence=3, sequence=4)
    change = scanner_pb2.ListChange
    delta.deltas.add(action=change.ADD, symbol="A", rank=1, data=ticker_row(rng, 1))
    delta.deltas.add(action=change.UPDATE, symbol="B", rank=2, data=ticker_row(rng, 2))
    delta.deltas.add(action=change.REMOVE, symbol='C"')
    delta.deltas.add(action=change.RERANK, symbol="D", old_rank=9, new_rank=3)
    delta.timestamp.CopyFrom(timestamp(rng))
    return delta


def test_changes_say_what_protobuf_says() -> None:
    delta = list_delta(random.Random(9))
    change = scanner_pb2.ListChange
    epoch, previous, sequence, time, changes = read_list_delta(delta.SerializeToString())
    assert (epoch, previous, sequence) == (7, 3, 4)
    assert json.loads(time) == expected(delta)["timestamp"]
    assert [(action, json.loads(symbol), old, rank) for action, symbol, old, rank, _ in changes] == [
        (change.ADD, "A", 0, 1),
        (change.UPDATE, "B", 0, 2),
        (change.REMOVE, 'C"', 0, 0),
        (change.RERANK, "D", 9, 3),
    ]
    for (_, _, _, rank, members), told in zip(changes[:2], delta.deltas[:2], strict=True):
        assert json.loads(b'{"rank":%d,%b}' % (rank, members)) == expected(told.data)
    assert changes[2][4] == changes[3][4] == b""


def test_an_empty_message_is_an_empty_list() -> None:
    assert read_ranked_list(b"") == (0, 0, b"", [])
    assert read_list_delta(b"") == (0, 0, 0, b"", [])


def test_unknown_enum_codes_are_numbers_as_in_protobuf() -> None:
    row = TickerRow(symbol="A")
    row.MergeFromString(write_fields([(26, 0, 77), (68, 0, 2**64 - 3)]))
    ranked = scanner_pb2.RankedList(rows=[row])
    _, _, _, [(_, _, members)] = read_ranked_list(ranked.SerializeToString())
    assert json.loads(b"{%b}" % members) == expected(row)


def test_fields_nobody_knows_and_of_other_types_are_left_out() -> None:
    row = write_fields([(2, 2, b"A"), (8, 0, 5), (12, 1, 0), (200, 2, b"x"), (3, 0, 1)])
    _, _, _, [(_, _, members)] = read_ranked_list(write_fields([(4, 2, row)]))
    assert members == b'"symbol":"A","volume_today":0'


def test_texts_that_are_no_utf8_are_repaired() -> None:
    row = write_fields([(2, 2, b"A\xff")])
    _, _, _, [(symbol, _, _)] = read_ranked_list(write_fields([(4, 2, row)]))
    assert json.loads(symbol) == "A\ufffd"


@pytest.mark.parametrize("read", [read_ranked_list, read_list_delta])
def test_cut_messages_are_errors_not_crashes(read: Any) -> None:
    rng = random.Random(10)
    row = ticker_row(rng, 1)
    ranked = scanner_pb2.RankedList(list="x", rows=[row]).SerializeToString()
    change = scanner_pb2.ListDelta(list="x", deltas=[scanner_pb2.ListChange(symbol="A", data=row)]).SerializeToString()
    for message in (ranked, change):
        for cut in range(5, len(message)):
            with pytest.raises(ValueError, match="expected"):
                read(message[:cut])
        for _ in range(2_000):
            broken = bytearray(message)
            for _ in range(rng.randrange(1, 4)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            try:
                read(bytes(broken))
            except ValueError:
                pass


def test_times_beyond_what_can_be_written_are_an_error() -> None:
    row = TickerRow(symbol="A")
    row.updated_at.seconds = 2**60
    with pytest.raises(ValueError, match="years 1 to 9999"):
        read_ranked_list(scanner_pb2.RankedList(rows=[row]).SerializeToString())


def test_instants() -> None:
    assert instant_json(0) == b'"1970-01-01T00:00:00Z"'
    assert instant_json(-1) == b'"1969-12-31T23:59:59.999999999Z"'
    assert instant_json(1_763_994_600_250_000_000) == b'"2025-11-24T14:30:00.250Z"'
