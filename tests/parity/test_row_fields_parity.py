"""Some fields of the rows of list messages, against protobuf's own ClearField."""

import random
from typing import Any

import pytest
from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.changed_fields import RECORD_BYTES, changed_list_delta
from fastcore.row_fields import select_list_delta, select_ranked_list, select_row
from services.kit.lists.field_selection import NAMES, FieldSelection
from tests.parity.test_row_json_parity import list_delta, ticker_row, timestamp
from tests.support.mutations import mutated

ALL = bytes((1,)) * 128


def selections(rng: random.Random) -> list[frozenset[str]]:
    names = sorted(NAMES)
    return [
        frozenset(),
        frozenset(names),
        frozenset({"updated_at"}),
        *(frozenset(rng.sample(names, 5)) for _ in range(4)),
    ]


def keep(row: TickerRow, names: frozenset[str]) -> None:
    for field in TickerRow.DESCRIPTOR.fields:
        if field.name not in names | {"rank", "symbol"}:
            row.ClearField(field.name)  # type: ignore[arg-type]  # any name, not a literal


def ranked_list(rng: random.Random) -> scanner_pb2.RankedList:
    ranked = scanner_pb2.RankedList(list="winners", epoch=7, sequence=41, count=50)
    ranked.rows.extend(ticker_row(rng, rank) for rank in range(1, 51))
    ranked.timestamp.CopyFrom(timestamp(rng))
    ranked.position.epoch = 9
    return ranked


def rows_of(message: Any) -> list[TickerRow]:
    if isinstance(message, scanner_pb2.RankedList):
        return list(message.rows)
    return [change.data for change in message.deltas if change.HasField("data")]


@pytest.mark.parametrize("make", [ranked_list, list_delta])
def test_what_is_kept_is_as_if_the_rest_had_never_been_set(make: Any) -> None:
    rng = random.Random(11)
    for names in selections(rng):
        message = make(rng)
        encoded = message.SerializeToString()
        assert rows_of(message)
        for row in rows_of(message):
            keep(row, names)
        selection = FieldSelection(names)
        select = selection.ranked_list if make is ranked_list else selection.list_delta
        assert select(encoded) == message.SerializeToString()
        assert select(memoryview(encoded)) == message.SerializeToString()


def test_one_row() -> None:
    rng = random.Random(12)
    row = ticker_row(rng, 3)
    row.last_day.close = 5
    encoded = row.SerializeToString()
    keep(row, frozenset({"price", "last_day"}))
    assert FieldSelection(frozenset({"last_day", "price"})).row(encoded) == row.SerializeToString()
    assert select_row(encoded, ALL) == encoded
    assert select_row(b"", ALL) == b""


def test_damaged_messages_are_refused_or_copied() -> None:
    rng = random.Random(13)
    encoded, delta = ranked_list(rng).SerializeToString(), list_delta(rng).SerializeToString()
    refused = 0
    for _ in range(2_000):
        for select, message in ((select_ranked_list, encoded), (select_list_delta, delta), (select_row, encoded)):
            try:
                assert len(select(mutated(message, rng), ALL)) <= 2 * len(message)
            except ValueError:
                refused += 1
    assert refused


@pytest.mark.parametrize("size", [0, 127, 129])
def test_the_kept_numbers_are_128(size: int) -> None:
    for select in (select_ranked_list, select_list_delta, select_row):
        with pytest.raises(ValueError, match="expected 128 bytes, was"):
            select(b"\x08\x01", bytes(size))


def test_damaged_changes_are_refused_or_have_their_changed_fields() -> None:
    rng = random.Random(14)
    delta = list_delta(rng)
    updates = sum(change.action == change.UPDATE for change in delta.deltas)
    assert updates
    encoded, refused = delta.SerializeToString(), 0
    for _ in range(4_000):
        records = rng.randbytes(RECORD_BYTES * rng.choice((0, updates)))
        try:
            changed_list_delta(mutated(encoded, rng), records)
        except ValueError:
            refused += 1
    assert 0 < refused < 4_000


def test_records_of_other_changes_are_refused() -> None:
    delta = list_delta(random.Random(15))
    updates = sum(change.action == change.UPDATE for change in delta.deltas)
    for size in (RECORD_BYTES * updates - 1, RECORD_BYTES * (updates + 1), 1):
        with pytest.raises(ValueError, match=r"expected .* records?"):
            changed_list_delta(delta.SerializeToString(), bytes(size))
