"""The fields that a request selects: names, what equals what, and what is made once."""

import pytest
from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.fields import FIELDS
from services.kit.lists.field_selection import MAX_TEXT, FieldSelection, SelectedMessages, selected_fields
from services.kit.rpc.envelope import LIST
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import INVALID_FIELDS, ServiceError


def selection(text: str) -> FieldSelection:
    selected = selected_fields(text)
    assert selected is not None
    return selected


def snapshot(price: float) -> bytes:
    row = TickerRow(rank=1, symbol="AAPL", price=price, rvol=3)
    return LIST.wrap("snapshot", scanner_pb2.RankedList(list="winners", rows=[row]).SerializeToString())


def test_every_field_can_be_selected() -> None:
    assert selection(",".join(field.name for field in FIELDS)).names >= {field.name for field in FIELDS}
    assert selected_fields("") is None


def test_equal_sets_are_equal() -> None:
    first, second = selection("price,rvol"), selection(" rvol, price , symbol,rank,price")
    assert (first, hash(first)) == (second, hash(second))
    assert first != selection("price")
    assert first != "price,rvol"


@pytest.mark.parametrize(
    ("text", "shown", "nearest"),
    [
        ("price,rvoll", "rvoll", "rvol"),
        ("Price", "Price", "price"),
        ("price,", "", ""),
        (",", "", ""),
        ("pricé", "pricé", "price"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(text: str, shown: str, nearest: str) -> None:
    with pytest.raises(ServiceError, match="there is no field") as refused:
        selected_fields(text)
    assert refused.value.reason is INVALID_FIELDS
    assert refused.value.metadata == {"name": shown, "nearest": nearest}
    assert repr(shown) in refused.value.message


def test_long_texts_are_refused_before_they_are_read() -> None:
    with pytest.raises(ServiceError, match=f"at most {MAX_TEXT} characters, was {MAX_TEXT + 1}"):
        selected_fields("x" * (MAX_TEXT + 1))


def test_messages_are_made_once_for_equal_selections() -> None:
    messages = SelectedMessages()
    message = snapshot(5)
    first = messages.select(message, selection("price"))
    assert scanner_pb2.WatchListResponse.FromString(first).snapshot.rows == [TickerRow(rank=1, symbol="AAPL", price=5)]
    assert messages.select(message, selection("symbol,price")) is first
    assert messages.select(message, selection("rvol")) != first
    current = LIST.current(Position(1, 2))
    assert messages.select(current, selection("price")) is current


def test_the_oldest_messages_are_let_go() -> None:
    message, other = snapshot(5), snapshot(6)
    messages = SelectedMessages(max_held_bytes=2 * len(message))
    first = messages.select(message, selection("price"))
    messages.select(other, selection("price"))
    again = messages.select(message, selection("price"))
    assert (again, again is first) == (first, False)
