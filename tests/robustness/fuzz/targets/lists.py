"""Messages of a list's stream: the client's copy and the JSON for browsers take and refuse the same, and show the same.

The first message is a RankedList, those that follow are ListDeltas.
"""

from collections.abc import Callable, Iterator
from typing import TypeVar

import msgspec
from google.protobuf.message import DecodeError
from tradeul.v1 import scanner_pb2, session_pb2
from tradeul.v1.ticker_row_pb2 import MEDIUM, TickerRow

from fastcore.list_membership import membership_changes
from services.kit.lists.list_client import ListCopy
from services.kit.lists.list_json import ListHole, ListRows, list_delta_json, ranked_list_json
from tests.robustness.fuzz.target import Target, joined, mutated_parts, parts_of
from tests.support.list_messages import ADD, EPOCH, REMOVE, RERANK, UPDATE, ListModel

ListMessage = TypeVar("ListMessage", scanner_pb2.RankedList, scanner_pb2.ListDelta)


def run(data: bytes) -> None:
    parts = parts_of(data)
    if (first := next(parts, None)) is None:
        return
    plain, shown = ListCopy(), ListRows("list")
    snapshot = message_of(scanner_pb2.RankedList, first)
    try:
        shown.load(first)
    except ValueError:
        pass
    else:
        show(first, ranked_list_json)
    if snapshot is None or not shown.is_loaded:
        return
    plain.apply(scanner_pb2.WatchListResponse(snapshot=snapshot))
    compare(plain, shown)
    for part in parts:
        delta = message_of(scanner_pb2.ListDelta, part)
        try:
            changes = membership_changes(part)
        except ValueError:
            pass
        else:
            assert delta is None or changes == [
                (change.symbol, max(change.rank, 0) if change.action == ADD else 0)
                for change in delta.deltas
                if change.action in (ADD, REMOVE)
            ]
        try:
            encoded = shown.apply(part)
        except (ListHole, ValueError):
            return
        for each in encoded:
            msgspec.json.decode(each)
        show(part, list_delta_json)
        msgspec.json.decode(b"".join(shown.delta(encoded)))
        if delta is None:
            # Of a text that JSON does not show.
            return
        try:
            plain.apply(scanner_pb2.WatchListResponse(delta=delta))
        except ListHole:
            # An ADD of a member is an UPDATE for JSON, and a rank may be in another field.
            return
        compare(plain, shown)


def show(message: bytes, json_of: Callable[[str, bytes], bytes]) -> None:
    """Whatever is read is shown as JSON, unless it is refused then."""
    try:
        text = json_of("list", message)
    except ValueError:
        return
    msgspec.json.decode(text)


def message_of(kind: type[ListMessage], data: bytes) -> ListMessage | None:
    """The message; None where protobuf finds none."""
    try:
        return kind.FromString(data)
    except DecodeError:
        return None


def compare(plain: ListCopy, shown: ListRows) -> None:
    """The two have the same rows; raises AssertionError."""
    assert (plain.epoch, plain.sequence) == shown.position
    rows = msgspec.json.decode(b"".join(shown.snapshot()))["rows"]
    assert len(rows) == len(plain.rows())
    # By the changes' symbols: a row in one may name another.
    assert set(plain._rows) == {msgspec.json.decode(symbol) for symbol in shown.rows}


def seeds() -> Iterator[bytes]:
    model = ListModel()
    model.change_to([("A", 1.5), ("B", 2.0), ("C", 0.25)])
    messages = [model.snapshot()]
    for rows in ([("B", 2.0), ("A", 1.5)], [("B", 2.5), ("D", 7.0)], []):
        messages.append(model.change_to(rows))
        yield joined(messages)
    change = scanner_pb2.ListChange
    row = TickerRow(
        symbol="A", price=1.5, halted=True, company_name='\u00e9 "\\', session=session_pb2.MARKET_OPEN, gap_size=MEDIUM
    )
    row.updated_at.FromNanoseconds(1_773_130_000_123_456_789)
    full = scanner_pb2.RankedList(list="list", epoch=EPOCH, sequence=1, rows=[row], count=1)
    full.timestamp.FromNanoseconds(1_773_130_000_000_000_000)
    full.position.epoch = 3
    delta = scanner_pb2.ListDelta(
        epoch=EPOCH,
        previous_sequence=1,
        sequence=3,
        deltas=[
            change(action=UPDATE, symbol="A", rank=1, data=row),
            change(action=REMOVE, symbol="A"),
            change(action=ADD, symbol="A", rank=1, data=row),
            change(action=RERANK, symbol="A", old_rank=1, new_rank=2),
        ],
    )
    yield joined((full.SerializeToString(), delta.SerializeToString()))


TARGET = Target(run, seeds, longest=1200, mutate=mutated_parts)
