"""The WebSocket gateway's pure parts: frames, requests, a list's copy and its ring, bars."""

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradeul.v1 import scanner_pb2

from services.kit.lists.field_selection import selected_fields
from services.kit.lists.kept_rows import ListHole
from services.kit.rpc.ring import Position
from services.websocket_server import client_messages
from services.websocket_server.client_messages import Request, RequestError, Subject, parse
from services.websocket_server.list_feed import ListFeed
from tests.support.scripted_scanner import EPOCH, ScriptedList, ticker_row
from tests.support.ws_client import ListView, texts_of


def apply_all(view: ListView, frames: bytes) -> None:
    for text in texts_of(frames):
        view.apply(json.loads(text))


def delta(each: ScriptedList) -> bytes:
    return each.held[each.sequence]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 1_000_000])
def test_frames_of_every_length_are_read_back(size: int) -> None:
    assert texts_of(client_messages.frame(b"x" * size) * 2) == ["x" * size] * 2


@given(st.text(), st.none() | st.text(), st.booleans(), st.text(), st.dictionaries(st.text(), st.text(), max_size=2))
def test_errors_are_json_whatever_they_say(
    message: str, name: str | None, is_scan: bool, reason: str, metadata: dict[str, str]
) -> None:
    subject = None if name is None else Subject(name, is_scan)
    (text,) = texts_of(client_messages.error(message, subject, reason, metadata))
    expected: dict[str, object] = {"type": "error", "message": message}
    if name is not None:
        expected["scan" if is_scan else "list"] = name
    if reason:
        expected |= {"reason": reason, "metadata": metadata}
    assert json.loads(text) == expected


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_an_error(payload: bytes) -> None:
    try:
        assert isinstance(parse(payload, ("winners",)), Request)
    except RequestError as error:
        assert error.reason


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5))
def test_any_list_and_position_is_a_request_or_an_error(value: object) -> None:
    for key in ("action", "list", "epoch", "sequence"):
        request = {"action": "subscribe_list", "list": "winners", "epoch": 1, "sequence": 2, key: value}
        try:
            parse(json.dumps(request).encode(), ("winners",))
        except RequestError as error:
            assert error.reason


def test_positions() -> None:
    ask = '{"action":"subscribe_list","list":"winners"%s}'
    assert parse((ask % "").encode(), ("winners",)).position is None
    assert parse((ask % ',"epoch":null,"sequence":null').encode(), ("winners",)).position is None
    assert parse((ask % ',"epoch":7,"sequence":0').encode(), ("winners",)).position == Position(7, 0)
    # What one has who was never sent anything.
    assert parse((ask % ',"epoch":0,"sequence":0').encode(), ("winners",)).position is None


def test_a_copy_and_its_frames_equal_the_list_at_every_step() -> None:
    rng = random.Random(16)
    winners = ScriptedList("winners")
    feed, view = ListFeed("winners", max_held=50), ListView()
    feed.load(winners.snapshot().SerializeToString())
    apply_all(view, feed.snapshot())
    for _ in range(500):
        winners.shuffle(rng)
        assert feed.apply(delta(winners))
        apply_all(view, feed.changes_after(view.sequence))
        assert feed.position == (view.epoch, view.sequence) == (EPOCH, winners.sequence)
        fresh = ListView()
        apply_all(fresh, feed.snapshot())
        assert fresh.ranked == view.ranked == winners.json_rows


def test_changes_are_held_within_bounds_and_given_from_any_place() -> None:
    rng = random.Random(17)
    winners = ScriptedList("winners")
    feed = ListFeed("winners", max_held=8, max_held_bytes=100_000)
    feed.load(winners.snapshot().SerializeToString())
    for _ in range(30):
        winners.shuffle(rng)
        feed.apply(delta(winners))
        assert feed.held_bytes <= 100_000
    assert feed.oldest == 23
    assert [feed.holds_after(at) for at in (21, 22, 30, 31)] == [False, True, True, False]
    for after in range(22, 31):
        frames = feed.changes_after(after)
        assert len(frames) == feed.bytes_after(after)
        assert [json.loads(text)["sequence"] for text in texts_of(frames)] == list(range(after + 1, 31))


def test_changes_from_before_are_those_of_a_feed_that_was_there() -> None:
    rng = random.Random(19)
    winners = ScriptedList("winners")
    there, late = ListFeed("winners"), ListFeed("winners", max_held=30)
    there.load(winners.snapshot().SerializeToString())
    for sequence in range(1, 41):
        winners.shuffle(rng)
        there.apply(delta(winners))
        if sequence == 30:
            late.load(winners.snapshot().SerializeToString())
        elif sequence > 30:
            late.apply(delta(winners))
    # A hole before what is held, and what is of another epoch, are left out.
    frames = [late.past_change(winners.held[sequence]) for sequence in range(16, 31)]
    late.prepend(Position(EPOCH, 14), frames)
    late.prepend(Position(EPOCH - 1, 15), frames)
    assert late.oldest == 31
    late.prepend(Position(EPOCH, 15), frames)
    assert (late.oldest, late.position) == (16, (EPOCH, 40))
    assert late.changes_after(15) == there.changes_after(15)
    assert not late.has_dropped
    # More than may be held: the oldest make room.
    late.prepend(Position(EPOCH, 0), [late.past_change(winners.held[sequence]) for sequence in range(1, 16)])
    assert late.has_dropped
    assert late.oldest == 11
    assert late.changes_after(20) == there.changes_after(20)
    message = winners.step([ticker_row(rng, "A")])
    message.sequence += 1
    with pytest.raises(ValueError, match="expected one step"):
        late.past_change(message.SerializeToString())


def test_a_step_over_several_changes_is_no_step_for_clients() -> None:
    rng = random.Random(18)
    winners = ScriptedList("winners")
    feed, view = ListFeed("winners"), ListView()
    feed.load(winners.snapshot().SerializeToString())
    generation = feed.generation
    message = winners.step([ticker_row(rng, "A")])
    message.sequence = 5
    assert not feed.apply(message.SerializeToString())
    assert feed.generation == generation + 1
    assert feed.position == (EPOCH, 5)
    assert not feed.holds_after(4)
    apply_all(view, feed.snapshot())
    assert view.ranked == winners.json_rows


@pytest.mark.parametrize("changed_fields_only", [False, True])
@pytest.mark.parametrize("names", ["", "price,volume_today,gap_size"])
def test_several_changes_as_one_lead_to_the_list_from_any_place(changed_fields_only: bool, names: str) -> None:
    rng = random.Random(21)
    winners = ScriptedList("winners")
    feed = ListFeed("winners", selection=selected_fields(names), changed_fields_only=changed_fields_only)
    winners.shuffle(rng)
    feed.load(winners.snapshot().SerializeToString())
    feed.note_changes(is_noted=True)
    # Copies that take all changes since then as one, at times of their own.
    copies = []
    for _ in range(20):
        apply_all(view := ListView(), feed.snapshot())
        copies.append((view, feed.position.sequence, feed.ranks))
    actions = Counter[str]()
    for _ in range(300):
        winners.shuffle(rng)
        each = winners.patched[winners.sequence] if changed_fields_only else None
        feed.apply(each.SerializeToString() if each is not None else delta(winners))
        number = rng.randrange(len(copies))
        view, sequence, ranks = copies[number]
        frames = feed.merged(sequence, ranks)
        (text,) = texts_of(frames)
        message = json.loads(text)
        assert (message["previous_sequence"], message["sequence"]) == (sequence, winners.sequence)
        changed = Counter(change["symbol"] for change in message["deltas"] if change["action"] != "remove")
        assert not changed or max(changed.values()) == 1
        actions.update(change["action"] for change in message["deltas"])
        view.apply(message)
        apply_all(fresh := ListView(), feed.snapshot())
        assert view.ranked == fresh.ranked
        copies[number] = (view, feed.position.sequence, feed.ranks)
    assert min(actions[action] for action in ("add", "update", "remove", "rerank")) > 10


def test_nothing_has_changed_since_now() -> None:
    winners, feed = ScriptedList("winners"), ListFeed("winners")
    winners.shuffle(random.Random(22))
    feed.load(winners.snapshot().SerializeToString())
    feed.note_changes(is_noted=True)
    (text,) = texts_of(feed.merged(feed.position.sequence, feed.ranks))
    assert json.loads(text)["deltas"] == []


def test_a_row_that_has_moved_only_is_ranked_anew_and_one_that_went_and_came_is_removed_before() -> None:
    rng = random.Random(23)
    rows = {symbol: ticker_row(rng, symbol) for symbol in "ABC"}
    winners, feed = ScriptedList("winners"), ListFeed("winners")
    winners.change_to(rows.values())
    feed.load(winners.snapshot().SerializeToString())
    feed.note_changes(is_noted=True)
    ranks = feed.ranks
    for order in ("ACB", "AC", "CAB"):
        winners.change_to([rows[symbol] for symbol in order])
        feed.apply(delta(winners))
    (text,) = texts_of(feed.merged(1, ranks))
    changes = [(change["action"], change["symbol"]) for change in json.loads(text)["deltas"]]
    assert sorted(changes) == [("add", "B"), ("remove", "B"), ("rerank", "A"), ("rerank", "C")]
    assert changes[0] == ("remove", "B")


def test_a_snapshot_of_the_same_position_changes_nothing() -> None:
    winners = ScriptedList("winners")
    winners.change_to([ticker_row(random.Random(19), "A")])
    feed = ListFeed("winners")
    assert feed.load(winners.snapshot().SerializeToString())
    assert not feed.load(winners.snapshot().SerializeToString())


@pytest.mark.parametrize(
    "change",
    [
        {"previous_sequence": 2, "sequence": 3},
        {"previous_sequence": 1, "sequence": 1},
        {"epoch": EPOCH + 1},
        {"deltas": [scanner_pb2.ListChange(action=scanner_pb2.ListChange.REMOVE, symbol="NOT")]},
        {"deltas": [scanner_pb2.ListChange(action=scanner_pb2.ListChange.RERANK, symbol="NOT")]},
        {"deltas": [scanner_pb2.ListChange(action=scanner_pb2.ListChange.UPDATE, symbol="NOT")]},
        {"deltas": [scanner_pb2.ListChange(symbol="A")]},
    ],
)
def test_what_does_not_fit_is_a_hole_after_which_only_a_snapshot_helps(change: dict[str, object]) -> None:
    winners = ScriptedList("winners")
    winners.change_to([ticker_row(random.Random(20), "A")])
    feed = ListFeed("winners")
    feed.load(winners.snapshot().SerializeToString())
    fields: dict[str, object] = {"epoch": EPOCH, "previous_sequence": 1, "sequence": 2, **change}
    with pytest.raises(ListHole, match="expected"):
        feed.apply(scanner_pb2.ListDelta(list="winners", **fields).SerializeToString())  # type: ignore[arg-type]
    assert not feed.is_loaded
    with pytest.raises(ListHole):
        feed.apply(delta(winners))
    assert feed.load(winners.snapshot().SerializeToString())
