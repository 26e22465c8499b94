"""Numbers of rows read from encoded list messages, against the generated classes."""

import random

import pytest
from tradeul.v1 import scanner_pb2, session_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.fields import FIELDS
from fastcore.row_numbers import RowNumbers

NAMES = ("price", "volume_today", "change_percent", "gap_percent", "rvol", "score")
ACTIONS = (
    scanner_pb2.ListChange.ADD,
    scanner_pb2.ListChange.UPDATE,
    scanner_pb2.ListChange.RERANK,
    scanner_pb2.ListChange.REMOVE,
)
NUMBERS = [field.name for field in FIELDS if field.kind == "number" and field.name != "rank"]


def random_row(rng: random.Random) -> TickerRow:
    """With some of its numbers, its name and a session."""
    row = TickerRow(symbol=f"S{rng.randrange(1000)}")
    for name in rng.sample(NUMBERS, rng.randrange(len(NUMBERS))):
        setattr(row, name, rng.choice([0.0, -1.5, 1e300, rng.random()]))
    if rng.random() < 0.8:
        row.rank = rng.randrange(1, 300)
    if rng.random() < 0.5:
        row.company_name, row.session = "Ä corporation", session_pb2.MARKET_OPEN
    return row


def plain(row: TickerRow) -> tuple[object, ...]:
    values = {field.name: value for field, value in row.ListFields()}
    return (row.symbol, row.rank, *map(values.get, NAMES))


@pytest.mark.parametrize("seed", range(30))
def test_rows_of_a_list_have_the_numbers_of_protobuf(seed: int) -> None:
    rng = random.Random(seed)
    ranked = scanner_pb2.RankedList(list="gappers_up", rows=[random_row(rng) for _ in range(rng.randrange(40))])
    ranked.timestamp.FromNanoseconds(1_770_000_000_123_456_789 + seed)
    data = ranked.SerializeToString()
    expected = ("gappers_up", ranked.timestamp.ToNanoseconds(), [plain(row) for row in ranked.rows])
    assert RowNumbers(NAMES).rows(data) == expected
    assert RowNumbers(NAMES).rows(memoryview(data)) == expected


@pytest.mark.parametrize("seed", range(30))
def test_entries_are_the_rows_that_are_added(seed: int) -> None:
    rng = random.Random(seed)
    delta = scanner_pb2.ListDelta(list="losers", sequence=4)
    delta.timestamp.FromNanoseconds(1_770_000_000_000_000_000)
    for _ in range(rng.randrange(40)):
        row = random_row(rng)
        change = delta.deltas.add(action=rng.choice(ACTIONS), symbol=row.symbol)
        if change.action in ACTIONS[:2]:
            change.data.CopyFrom(row)
    name, time_ns, rows = RowNumbers(NAMES).entries(delta.SerializeToString())
    assert (name, time_ns) == ("losers", delta.timestamp.ToNanoseconds())
    assert rows == [plain(each.data) for each in delta.deltas if each.action == scanner_pb2.ListChange.ADD]


def test_an_empty_message_has_no_rows() -> None:
    reader = RowNumbers(["price"])
    assert reader.rows(b"") == reader.entries(b"") == ("", 0, [])
    ranked = scanner_pb2.RankedList(rows=[TickerRow(symbol="A", price=1.0)])
    assert RowNumbers([]).rows(ranked.SerializeToString())[2] == [("A", 0)]


def test_times_before_1970_and_none() -> None:
    ranked = scanner_pb2.RankedList()
    ranked.timestamp.FromNanoseconds(-1)
    assert RowNumbers(NAMES).rows(ranked.SerializeToString())[1] == -1
    ranked.timestamp.nanos = -1
    with pytest.raises(ValueError, match="-1 ns"):
        RowNumbers(NAMES).rows(ranked.SerializeToString())
    ranked.timestamp.seconds = 2**62
    with pytest.raises(ValueError, match="expected a time"):
        RowNumbers(NAMES).rows(ranked.SerializeToString())


@pytest.mark.parametrize("seed", range(20))
def test_bytes_that_are_no_message_are_refused_or_read_as_protobuf_reads_them(seed: int) -> None:
    rng = random.Random(seed)
    ranked = scanner_pb2.RankedList(list="x", rows=[random_row(rng) for _ in range(5)]).SerializeToString()
    refused = 0
    for _ in range(200):
        damaged = bytearray(ranked)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            _, _, rows = RowNumbers(NAMES).rows(damaged[: rng.randrange(len(damaged) + 1)])
        except ValueError:
            refused += 1
        else:
            assert len(rows) <= 5 + len(damaged)
    assert refused > 20


@pytest.mark.parametrize("name", ["rank", "symbol", "session", "halted", "no_such_field"])
def test_a_field_that_is_no_number_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"expected the name of a number in a row, was '{name}'"):
        RowNumbers([name])


def test_a_field_that_is_named_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="expected each name once, was 'price' twice"):
        RowNumbers(["price", "score", "price"])


def test_there_are_at_most_16_numbers() -> None:
    RowNumbers(NUMBERS[:16])
    with pytest.raises(ValueError, match="limit reached: 16 numbers"):
        RowNumbers(NUMBERS[:17])
