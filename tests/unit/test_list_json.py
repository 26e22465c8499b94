"""Lists as REST's JSON, against protobuf's own mapping of the same messages."""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import pytest
from google.api import httpbody_pb2
from google.protobuf import json_format
from google.protobuf.message import Message
from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.lists.definitions import load_lists
from services.kit.lists.kept_rows import ListRows, PatchedRows
from services.kit.lists.list_json import list_delta_json
from services.kit.rpc.ring import Position
from services.scanner.compiled_scan import compile_scan
from services.scanner.core import ScannerCore
from tests.support.settled_core import SettledCore
from tests.support.tape import Tape, apply_next

SYMBOLS = [f"S{number:02}" for number in range(40)]


@pytest.fixture
def tape() -> Tape:
    return Tape(SYMBOLS)


@pytest.fixture
def core(tape: Tape) -> Iterator[ScannerCore]:
    made = SettledCore(load_lists())
    apply_next(made, *tape.opening())
    feed(made, tape, {"S01": 105.0, "S02": 92.0, "S03": 100.5, "S04": 107.25})
    yield made


def feed(core: ScannerCore, tape: Tape, prices: dict[str, float]) -> None:
    apply_next(core, tape.trades(prices), tape.watermark(1.0))


def plain(message: Message) -> Any:
    """As the gateway's transcoder shows messages."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def body(answer: bytes) -> Any:
    message = httpbody_pb2.HttpBody.FromString(answer)
    assert message.content_type == "application/json"
    return json.loads(message.data)


@pytest.mark.parametrize("name", ["gappers_up", "filtered", "halts"])
@pytest.mark.parametrize("limit", [1, 3, 500])
def test_a_list(core: ScannerCore, name: str, limit: int) -> None:
    expected = scanner_pb2.RankedList.FromString(core.answered(core.ranked_list(name, limit)))
    assert body(core.ranked_list_body(name, limit)) == plain(expected)


def test_the_other_answers(core: ScannerCore) -> None:
    gappers = scanner_pb2.Gappers.FromString(core.gappers(2.0, 1))
    assert (len(gappers.gappers_up), gappers.count) == (1, 2)
    assert body(core.gappers_body(2.0, 1)) == plain(gappers)
    assert body(core.gappers_body(50.0, 1)) == plain(scanner_pb2.Gappers.FromString(core.gappers(50.0, 1)))
    filtered = scanner_pb2.FilteredTickers.FromString(core.filtered(2))
    assert filtered.count == 2
    assert body(core.filtered_body(2)) == plain(filtered)
    query = (compile_scan("price > 100", "price desc"), 2)
    assert body(core.query_body(*query)) == plain(scanner_pb2.RankedList.FromString(core.answered(core.query(*query))))


def test_deltas(core: ScannerCore, tape: Tape) -> None:
    actions = set()
    for number, prices in enumerate(({"S05": 101.0}, {"S01": 100.5, "S05": 109.0}, {"S02": 95.0, "S06": 130.0})):
        applied = apply_next(core, tape.trades(prices), tape.watermark(number + 2.0))
        for update in chain(*applied):
            expected = scanner_pb2.ListDelta.FromString(bytes(update.delta))
            actions |= {change.action for change in expected.deltas}
            assert json.loads(list_delta_json(update.list, update.delta)) == plain(expected)
    assert actions == {
        scanner_pb2.ListChange.ADD,
        scanner_pb2.ListChange.REMOVE,
        scanner_pb2.ListChange.RERANK,
        scanner_pb2.ListChange.UPDATE,
    }


def test_a_row_without_fields_has_its_rank() -> None:
    """As no scanner sends it, but protobuf does."""
    change = scanner_pb2.ListChange(action=scanner_pb2.ListChange.ADD, symbol="A", rank=1)
    delta = scanner_pb2.ListDelta(epoch=1, sequence=1, deltas=[change]).SerializeToString()
    assert json.loads(list_delta_json("risers", delta))["deltas"][0]["data"] == {"rank": 1}
    rows = ListRows("risers")
    rows.load(scanner_pb2.RankedList(epoch=1).SerializeToString())
    assert [json.loads(change)["data"] for change in rows.apply(delta)] == [{"rank": 1}]
    assert json.loads(b"".join(rows.snapshot()))["rows"] == [{"rank": 1}]


def test_an_update_with_changed_fields_only_is_a_merge_patch() -> None:
    change = scanner_pb2.ListChange
    row = TickerRow(rank=1, symbol="A", price=2.5, rvol=3.0, halt_reason="LUDP")
    patch = change(action=change.UPDATE, symbol="A", rank=2, old_rank=1, data=TickerRow(price=2.75))
    patch.absent.paths.append("halt_reason")
    cleared = change(action=change.UPDATE, symbol="A", rank=2, old_rank=2)
    cleared.absent.paths.extend(["rvol", "not_known_here"])
    rows = PatchedRows("risers")
    rows.load(scanner_pb2.RankedList(epoch=1, rows=[row]).SerializeToString())
    for number, (each, data, expected) in enumerate(
        (
            (patch, {"price": 2.75, "halt_reason": None}, {"price": 2.75, "rvol": 3}),
            (cleared, {"rvol": None}, {"price": 2.75}),
        )
    ):
        delta = scanner_pb2.ListDelta(epoch=1, previous_sequence=number, sequence=number + 1, deltas=[each])
        encoded = delta.SerializeToString()
        shown = {"action": "update", "rank": 2, "symbol": "A", "data": data}
        assert json.loads(b"".join(rows.past_delta(encoded)))["deltas"] == [shown]
        assert [json.loads(one) for one in rows.apply(encoded)] == [shown]
        assert json.loads(b"".join(rows.snapshot()))["rows"] == [{"rank": 2, "symbol": "A", **expected}]
        event = json.loads(list_delta_json("risers", encoded, changed_fields_only=True))
        assert event["deltas"] == [{"action": "UPDATE", "symbol": "A", "rank": 2, "data": data}]


def test_an_answer_is_made_once_until_the_next_frame(core: ScannerCore, tape: Tape) -> None:
    first = core.ranked_list_body("filtered", 3)
    assert core.ranked_list_body("filtered", 3) is first
    assert core.ranked_list_body("filtered", 2) != first
    feed(core, tape, {"S01": 106.0})
    assert body(core.ranked_list_body("filtered", 3)) == plain(
        scanner_pb2.RankedList.FromString(core.answered(core.ranked_list("filtered", 3)))
    )
    assert core.ranked_list_body("filtered", 3) != first


def test_every_answer_says_how_long_nothing_has_come(core: ScannerCore) -> None:
    query = (compile_scan("price > 100", "price desc"), 2)

    def answers() -> list[bytes]:
        lists = (core.ranked_list_body("filtered", 3), core.query_body(*query))
        return [*lists, core.gappers_body(2.0, 1), core.filtered_body(2)]

    before = answers()
    tags = [core.etag(each) for each in before]
    assert {body(each)["stale_seconds"] for each in before} == {0}
    core.note_stale(17.5)
    after = answers()
    assert {body(each)["stale_seconds"] for each in after} == {17.5}
    # Who polls with the tag of a fresh answer is told, too.
    assert all(core.etag(each) != tag for each, tag in zip(after, tags, strict=True))
    assert body(after[0]) == plain(scanner_pb2.RankedList.FromString(core.answered(core.ranked_list("filtered", 3))))
    assert body(after[2]) == plain(scanner_pb2.Gappers.FromString(core.gappers(2.0, 1)))
    assert body(after[3]) == plain(scanner_pb2.FilteredTickers.FromString(core.filtered(2)))
    core.note_stale(0.0)
    assert answers() == before and [core.etag(each) for each in answers()] == tags


def test_a_snapshot_makes_answers_anew(core: ScannerCore) -> None:
    before = core.ranked_list_body("filtered", 3)
    core.load(core.market.to_bytes(), core.position or Position(1, 1))
    after = core.ranked_list_body("filtered", 3)
    assert after is not before
    assert after == before
