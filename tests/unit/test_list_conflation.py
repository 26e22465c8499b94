import random

import pytest
from tradeul.v1 import scanner_pb2

from services.kit.lists.list_client import ListCopy
from services.scanner.conflation import conflate
from tests.support.list_messages import ADD, REMOVE, RERANK, UPDATE, ListModel, rows_of


def actions(delta: bytes) -> list[tuple[int, str]]:
    return [(change.action, change.symbol) for change in scanner_pb2.ListDelta.FromString(delta).deltas]


def test_one_delta_is_passed_on_as_it_is() -> None:
    delta = ListModel().change_to([("A", 1.0)])
    assert conflate([delta]) is delta


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
