"""Messages of a list's stream: the client's copy and the JSON for browsers take and refuse the same, and show the same.

The first message is a RankedList, those that follow are ListDeltas. What both take leads to the same rows with changed
fields only, change by change and as one.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import DecodeError
from tradeul.v1 import scanner_pb2, session_pb2
from tradeul.v1.ticker_row_pb2 import MEDIUM, TickerRow

from fastcore.changed_fields import changed_list_delta
from fastcore.list_membership import membership_changes
from fastcore.row_numbers import RowNumbers
from services.kit.lists.kept_rows import ListHole, ListRows, PatchedRows
from services.kit.lists.list_client import ListCopy
from services.kit.lists.list_json import list_delta_json, ranked_list_json
from services.scanner.conflation import ListStep, conflate
from tests.robustness.fuzz.target import Target, joined, mutated_parts, parts_of
from tests.support.list_messages import ADD, EPOCH, REMOVE, RERANK, UPDATE, ListModel
from tests.support.list_patches import records

NUMBERS = RowNumbers(("price", "score"))
ListMessage = TypeVar("ListMessage", scanner_pb2.RankedList, scanner_pb2.ListDelta)


def run(data: bytes) -> None:
    parts = parts_of(data)
    if (first := next(parts, None)) is None:
        return
    plain = ListCopy()
    shown, snapshot = loaded(first), message_of(scanner_pb2.RankedList, first)
    if snapshot is None or shown is None:
        return
    plain.apply(scanner_pb2.WatchListResponse(snapshot=snapshot))
    compare(plain, shown)
    forms = Forms(snapshot)
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
        check_entries(part, delta)
        if (encoded := applied(shown, part)) is None:
            return
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
        if not forms.take(delta):
            return


def alone(data: bytes) -> None:
    parts = parts_of(data)
    if (first := next(parts, None)) is None:
        return
    if (shown := loaded(first)) is None:
        return
    for part in parts:
        for read in (membership_changes, NUMBERS.entries):
            with contextlib.suppress(ValueError):
                read(part)
        if applied(shown, part) is None:
            return


def loaded(snapshot: bytes) -> ListRows | None:
    """The rows of an encoded RankedList, which was shown; None when they are refused."""
    shown = ListRows("list")
    try:
        shown.load(snapshot)
    except ValueError:
        return None
    show(snapshot, ranked_list_json)
    return shown


def applied(shown: ListRows, delta: bytes) -> list[bytes] | None:
    """The changes of an encoded ListDelta as JSON, which was shown; None when it is refused."""
    try:
        encoded = shown.apply(delta)
    except (ListHole, ValueError):
        return None
    for each in encoded:
        msgspec.json.decode(each)
    show(delta, list_delta_json)
    return encoded


def check_entries(part: bytes, delta: scanner_pb2.ListDelta | None) -> None:
    """Compares the numbers of entries with those of the decoded message, if that is encoded in the usual order."""
    try:
        name, _, rows = NUMBERS.entries(part)
    except ValueError:
        return
    if delta is not None and delta.SerializeToString() == part:
        entered = [change.data for change in delta.deltas if change.action == ADD]
        assert (name, [row[:2] for row in rows]) == (delta.list, [(row.symbol, row.rank) for row in entered])
        for row, expected in zip(rows, entered, strict=True):
            values = {field.name: value for field, value in expected.ListFields() if value == value}
            assert row[2:] == (values.get("price"), values.get("score"))


class Forms:
    """A list as clients keep it: of whole rows, of changed fields only, and of those of all changes as one.

    All three also as the JSON that browsers get.
    """

    def __init__(self, snapshot: scanner_pb2.RankedList) -> None:
        self._snapshot = scanner_pb2.RankedList()
        self._snapshot.CopyFrom(snapshot)
        self._snapshot.DiscardUnknownFields()
        for row in self._snapshot.rows:
            row.ClearField("last_day")
        self._whole, self._changed = self._new_copy(), self._new_copy()
        self._whole_json, self._changed_json = ListRows("list"), PatchedRows("list")
        self._steps: list[ListStep] = []
        # What the rows and their ranks were at first.
        self._first: dict[str, tuple[int, dict[str, Any]]] = {}
        self._first_ranks: dict[bytes, int] = {}

    def take(self, delta: scanner_pb2.ListDelta) -> bool:
        """Takes a delta that a client can apply; False if it is none of a scanner. Raises AssertionError."""
        before = {row.symbol: row for row in self._whole.rows()}
        encoded = self._snapshot.SerializeToString()
        if not completed(delta, before):
            return False
        try:
            if not self._steps:
                self._whole_json.load(encoded)
                self._changed_json.load(encoded)
                for rows in (self._whole_json, self._changed_json):
                    rows.touch(is_noted=True)
                self._first, self._first_ranks = shown_in(self._whole_json), self._whole_json.ranks
            self._whole_json.apply(delta.SerializeToString())
        except ValueError:
            # A time that JSON does not show, of parts that protobuf has merged.
            return False
        step = ListStep(delta.SerializeToString(), records(delta, before))
        self._steps.append(step)
        self._whole.apply(scanner_pb2.WatchListResponse(delta=delta))
        patched = changed_list_delta(*step)
        take_delta(self._changed, patched)
        for each in self._changed_json.apply(patched):
            msgspec.json.decode(each)
        as_one = self._new_copy()
        take_delta(as_one, changed_list_delta(*conflate(self._steps)))
        expected = rows_in(self._whole)
        assert rows_in(self._changed) == expected
        assert rows_in(as_one) == expected
        shown = shown_in(self._whole_json)
        assert shown_in(self._changed_json) == shown
        for rows in (self._whole_json, self._changed_json):
            assert self._as_one(rows.changes_since(self._snapshot.sequence, self._first_ranks)) == shown
        return True

    def _as_one(self, changes: list[bytes]) -> dict[str, tuple[int, dict[str, Any]]]:
        """The rows that these changes make of the first ones."""
        rows = dict(self._first)
        for text in changes:
            change = msgspec.json.decode(text)
            symbol, action = change["symbol"], change["action"]
            if action == "remove":
                del rows[symbol]
            elif action == "rerank":
                assert rows[symbol][0] == change["old_rank"]
                rows[symbol] = (change["new_rank"], rows[symbol][1])
            else:
                assert (symbol in rows) == (action == "update")
                data = {name: value for name, value in change["data"].items() if name != "rank"}
                if action == "update" and "symbol" not in data:
                    # A merge patch.
                    data = {name: value for name, value in (rows[symbol][1] | data).items() if value is not None}
                rows[symbol] = (change["rank"], data)
        return rows

    def _new_copy(self) -> ListCopy:
        snapshot = scanner_pb2.RankedList()
        snapshot.CopyFrom(self._snapshot)
        copy = ListCopy()
        copy.apply(scanner_pb2.WatchListResponse(snapshot=snapshot))
        return copy


def completed(delta: scanner_pb2.ListDelta, before: Mapping[str, TickerRow]) -> bool:
    """Makes of the delta one that a scanner may have sent of these rows; False for an update without a row, or a rank
    of 0.
    """
    delta.DiscardUnknownFields()
    ranks = {symbol: row.rank for symbol, row in before.items()}
    for change in delta.deltas:
        old_rank, rank = ranks.get(change.symbol, 0), change.new_rank if change.action == RERANK else change.rank
        for name in ("absent", "old_rank", "new_rank", "rank"):
            change.ClearField(name)
        if change.action != REMOVE and not rank:
            return False
        if change.action == RERANK:
            change.old_rank, change.new_rank = old_rank, rank
        elif change.action in (ADD, UPDATE):
            if not change.data.symbol:
                return False
            change.rank = change.data.rank = rank
            change.data.symbol = change.symbol
            change.data.ClearField("last_day")
        ranks[change.symbol] = rank
    return True


def take_delta(copy: ListCopy, encoded: bytes) -> None:
    copy.apply(scanner_pb2.WatchListResponse(delta=scanner_pb2.ListDelta.FromString(encoded)))


def rows_in(copy: ListCopy) -> dict[str, bytes]:
    """The copy's rows, encoded, so that NaN is equal to itself."""
    return {row.symbol: row.SerializeToString(deterministic=True) for row in copy.rows()}


def shown_in(rows: ListRows | PatchedRows) -> dict[str, tuple[int, dict[str, Any]]]:
    """By symbol, the rank and the members."""
    return {
        msgspec.json.decode(symbol): (
            rank,
            json_of(members if isinstance(members, bytes) else b",".join(members.values())),
        )
        for symbol, (rank, members) in rows.rows.items()
    }


def json_of(members: bytes) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.json.decode(b"{%b}" % members)
    return shown


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
    yield changing_values()
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


def changing_values() -> bytes:
    """Of one row values come, change and go, and the row itself does."""
    row = TickerRow(symbol="A", rank=1, price=1.5, halted=True)
    row.updated_at.FromNanoseconds(1_773_130_000_123_456_789)
    messages = [scanner_pb2.RankedList(list="list", epoch=EPOCH, sequence=1, rows=[row], count=1).SerializeToString()]

    def change(**changes: Any) -> None:
        sequence = len(messages)
        delta = scanner_pb2.ListDelta(epoch=EPOCH, previous_sequence=sequence, sequence=sequence + 1)
        delta.deltas.add(symbol="A", **changes)
        messages.append(delta.SerializeToString())

    change(action=UPDATE, rank=1, data=TickerRow(symbol="A", rank=1, price=-0.0, gap_size=MEDIUM))
    later = TickerRow(symbol="A", rank=1, halted=False, company_name="A")
    later.updated_at.FromNanoseconds(1_773_130_001_000_000_000)
    change(action=UPDATE, rank=1, data=later)
    change(action=RERANK, old_rank=1, new_rank=1)
    change(action=REMOVE)
    change(action=ADD, rank=1, data=TickerRow(symbol="A", rank=1, price=3.0))
    change(action=UPDATE, rank=1, data=TickerRow(symbol="A", rank=1, price=3.0, halted=True))
    return joined(messages)


TARGET = Target(run, seeds, longest=1200, mutate=mutated_parts, alone=alone)
