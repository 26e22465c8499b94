import random
from collections.abc import Iterable
from typing import Any

import pytest
from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.changed_fields import RECORD_BYTES, changed_list_delta
from fastcore.reference import conflation_twin
from services.kit.lists.field_selection import FieldSelection
from services.kit.lists.list_client import ListCopy
from services.scanner import conflation
from services.scanner.conflation import ListStep
from tests.support.list_messages import ADD, REMOVE, RERANK, UPDATE, ListModel, rows_of
from tests.support.list_patches import records, value_of
from tests.support.scripted_scanner import ScriptedList


def conflate(deltas: Iterable[bytes]) -> bytes:
    return bytes(conflation.conflate([ListStep(delta, b"") for delta in deltas]).delta)


def actions(delta: bytes) -> list[tuple[int, str]]:
    return [(change.action, change.symbol) for change in scanner_pb2.ListDelta.FromString(delta).deltas]


def test_one_delta_is_passed_on_as_it_is() -> None:
    step = ListStep(ListModel().change_to([("A", 1.0)]), b"")
    assert conflation.conflate([step]) is step


def test_the_latest_state_wins_and_what_cancels_out_is_gone() -> None:
    model = ListModel()
    model.change_to([("A", 1.0), ("B", 2.0), ("C", 3.0)])
    deltas = [
        model.change_to([("B", 2.0), ("A", 1.5), ("D", 4.0)]),
        model.change_to([("A", 1.6), ("B", 2.0)]),
        model.change_to([("A", 1.6), ("B", 2.0), ("E", 5.0)]),
    ]
    conflated = scanner_pb2.ListDelta.FromString(conflate(deltas))
    assert (conflated.previous_sequence, conflated.sequence, conflated.change_count) == (1, 4, 3)
    assert sorted((c.symbol, c.action) for c in conflated.deltas) == [("A", UPDATE), ("C", REMOVE), ("E", ADD)]
    # B came back to its rank, D came and went.
    assert {c.symbol: c.data.price for c in conflated.deltas if c.action != REMOVE} == {"A": 1.6, "E": 5.0}


def test_a_member_that_left_and_came_back_is_an_update() -> None:
    model = ListModel()
    model.change_to([("A", 1.0)])
    assert actions(conflate([model.change_to([]), model.change_to([("A", 2.0)])])) == [(UPDATE, "A")]


def test_a_rerank_over_several_deltas_names_the_first_and_the_last_rank() -> None:
    model = ListModel()
    model.change_to([("A", 1.0), ("B", 1.0), ("C", 1.0)])
    deltas = [
        model.change_to([("B", 1.0), ("A", 1.0), ("C", 1.0)]),
        model.change_to([("B", 1.0), ("C", 1.0), ("A", 1.0)]),
    ]
    conflated = scanner_pb2.ListDelta.FromString(conflate(deltas))
    ranks = {c.symbol: (c.action, c.old_rank, c.new_rank) for c in conflated.deltas}
    assert ranks == {"A": (RERANK, 1, 3), "B": (RERANK, 2, 1), "C": (RERANK, 3, 2)}


def test_deltas_with_a_hole_are_refused() -> None:
    model = ListModel()
    first = model.change_to([("A", 1.0)])
    model.change_to([("A", 2.0)])
    third = model.change_to([("A", 3.0)])
    with pytest.raises(ValueError, match="expected a delta from 7/1, was from 7/2"):
        conflate([first, third])


@pytest.mark.parametrize("seed", range(20))
def test_merged_spans_lead_to_the_same_rows_as_every_delta(seed: int) -> None:
    rng = random.Random(seed)
    model, copy = ListModel(), ListCopy()
    copy.epoch = 7
    pending: list[bytes] = []
    for _ in range(60):
        symbols = rng.sample("ABCDEFGHIJ", rng.randint(0, 8))
        pending.append(model.change_to([(symbol, float(rng.randint(1, 3))) for symbol in symbols]))
        if rng.random() < 0.3:
            copy.apply(scanner_pb2.WatchListResponse(delta=scanner_pb2.ListDelta.FromString(conflate(pending))))
            pending.clear()
            assert rows_of(copy) == model.rows
            assert copy.sequence == model.sequence


def scripted_steps(rng: random.Random, count: int) -> list[ListStep]:
    """Steps of a list that are no scanner's: whatever may stand in a delta, in any order, with and without records."""
    steps = []
    for sequence in range(1, count + 1):
        delta = scanner_pb2.ListDelta(list="winners", epoch=7, previous_sequence=sequence - 1, sequence=sequence)
        if rng.random() < 0.8:
            delta.timestamp.FromNanoseconds(rng.randrange(10**18))
        if rng.random() < 0.8:
            delta.position.epoch, delta.position.sequence = 7, rng.randrange(100)
        for _ in range(rng.randrange(6)):
            action = rng.choice((ADD, REMOVE, RERANK, UPDATE, UPDATE))
            change = delta.deltas.add(action=action, symbol=rng.choice(("A", "BRK.B", "", "\u00c4")))
            rank = rng.choice((0, 1, 2, 127, 128, 70_000))
            if action == RERANK:
                change.old_rank, change.new_rank = rng.choice((0, 1, 2)), rank
            elif action != REMOVE:
                change.rank = rank
                if rng.random() < 0.9:
                    change.data.CopyFrom(TickerRow(symbol=change.symbol, price=rng.random(), company_name="x" * rank))
                if rng.random() < 0.7:
                    change.data.rank = rng.randrange(300)
        updates = sum(change.action == UPDATE for change in delta.deltas)
        changed = rng.randbytes(RECORD_BYTES * updates) if rng.random() < 0.7 else b""
        steps.append(ListStep(delta.SerializeToString(), changed))
    return steps


@pytest.mark.parametrize("seed", range(200))
def test_the_core_makes_the_bytes_of_its_twin(seed: int) -> None:
    rng = random.Random(seed)
    steps = scripted_steps(rng, rng.randint(2, 12))
    assert conflation.conflate(steps) == conflation_twin.conflated(steps)


@pytest.mark.parametrize("seed", range(20))
def test_deltas_of_a_market_are_conflated_as_by_the_twin(seed: int) -> None:
    steps = Steps(seed)
    for _ in range(40):
        steps.change()
    assert conflation.conflate(steps.pending) == conflation_twin.conflated(steps.pending)


def test_what_is_no_delta_or_lacks_a_record_is_refused() -> None:
    rng = random.Random(1)
    refused = 0
    for _ in range(300):
        (first, changed), (second, more) = scripted_steps(rng, 2)
        cut = second[: rng.randrange(len(second))]
        try:
            merged, _ = conflation.conflate([ListStep(first, changed), ListStep(cut, b"")])
        except ValueError:
            refused += 1
        else:
            scanner_pb2.ListDelta.FromString(bytes(merged))
        if more:
            with pytest.raises(ValueError, match="record"):
                conflation.conflate([ListStep(first, changed), ListStep(second, more[:-1])])
            with pytest.raises(ValueError, match="bytes of records"):
                conflation.conflate([ListStep(first, changed), ListStep(second, more + b"x")])
    assert refused > 100


class Steps:
    """A list that changes at random, and a client of which the steps are held back."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.list = ScriptedList("winners")
        self.copy = ListCopy()
        self.copy.epoch = self.list.epoch
        self.pending: list[ListStep] = []

    def change(self) -> None:
        before = {row.symbol: row for row in self.list.rows}
        self.list.shuffle(self.rng, size=6)
        delta = self.list.held[self.list.sequence]
        self.pending.append(ListStep(delta, records(scanner_pb2.ListDelta.FromString(delta), before)))

    def apply(self, list_delta: bytes) -> None:
        self.copy.apply(scanner_pb2.WatchListResponse(delta=scanner_pb2.ListDelta.FromString(list_delta)))
        assert (self.copy.epoch, self.copy.sequence) == (self.list.epoch, self.list.sequence)
        self.pending.clear()


@pytest.mark.parametrize("seed", range(10))
def test_merged_changed_fields_lead_to_the_same_rows(seed: int) -> None:
    steps = Steps(seed)
    for _ in range(80):
        steps.change()
        if steps.rng.random() < 0.4:
            steps.apply(changed_list_delta(*conflation.conflate(steps.pending)))
            assert steps.copy.rows() == steps.list.rows


@pytest.mark.parametrize("seed", range(10, 14))
def test_merged_changed_fields_of_a_selection_lead_to_the_same_rows(seed: int) -> None:
    steps = Steps(seed)
    names = steps.rng.sample(["price", "rvol", "halted", "updated_at", "intraday_high", "score"], 2)
    selection = FieldSelection(frozenset(names))
    for _ in range(80):
        steps.change()
        if steps.rng.random() < 0.4:
            steps.apply(selection.list_delta(changed_list_delta(*conflation.conflate(steps.pending))))
            kept = [TickerRow.FromString(selection.row(row.SerializeToString())) for row in steps.list.rows]
            assert steps.copy.rows() == kept


def test_a_selection_without_symbol_and_rank_of_one_that_came_back_has_its_rank() -> None:
    """Nothing says which rank it had before."""
    selection = FieldSelection(frozenset())
    for places in ("BA", "AB"):
        model, copy = ListModel(), ListCopy()
        copy.epoch = 7
        deltas = [model.change_to([("A", 1.0), ("B", 2.0)])]
        copy.apply(scanner_pb2.WatchListResponse(delta=scanner_pb2.ListDelta.FromString(deltas[0])))
        steps = [model.change_to([("B", 2.0)]), model.change_to([(symbol, 3.0) for symbol in places])]
        merged = conflation.conflate([ListStep(step, b"") for step in steps])
        patched = selection.list_delta(changed_list_delta(*merged))
        copy.apply(scanner_pb2.WatchListResponse(delta=scanner_pb2.ListDelta.FromString(patched)))
        assert [row.symbol for row in copy.rows()] == list(places)


@pytest.mark.parametrize("seed", range(20, 26))
def test_the_changed_fields_of_merged_steps_are_those_of_the_steps_merged(seed: int) -> None:
    """Last values win; what is absent in the end is absent."""
    steps = Steps(seed)
    compared = 0
    for _ in range(60):
        steps.change()
        if len(steps.pending) < 3:
            continue
        singles = [scanner_pb2.ListDelta.FromString(changed_list_delta(*step)) for step in steps.pending]
        merged = scanner_pb2.ListDelta.FromString(changed_list_delta(*conflation.conflate(steps.pending)))
        steps.pending.clear()
        for change in merged.deltas:
            on_the_way = [each for delta in singles for each in delta.deltas if each.symbol == change.symbol]
            if {each.action for each in on_the_way} <= {UPDATE, RERANK} and change.action == UPDATE:
                assert patch_of(change) == merged_patches(on_the_way)
                assert change.old_rank == on_the_way[0].old_rank
                compared += 1
    assert compared > 20


def patch_of(change: scanner_pb2.ListChange) -> dict[str, Any]:
    """The values of an update, None for fields that have become absent."""
    fields = {field.name: value_of(change.data, field.name) for field, _ in change.data.ListFields()}
    return fields | dict.fromkeys(change.absent.paths)


def merged_patches(changes: Iterable[scanner_pb2.ListChange]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for change in changes:
        if change.action == UPDATE:
            merged |= patch_of(change)
    return merged
