"""Scores of sorted sets: a row's order value, from its JSON."""

import math

import pytest

from services.kit.lists.definitions import load_lists
from services.scanner.redis_entries import OrderScore

ROW = b'"symbol":"AAA","gap_percent":-3.5,"change_from_open":2,"updated_at":"2026-03-10T14:00:00.5Z","session":"CLOSED"'


@pytest.mark.parametrize(
    ("order_by", "score"),
    [
        ("gap_percent desc", -3.5),
        ("gap_percent asc, change_from_open", -3.5),
        ("abs(gap_percent) + abs(change_from_open) desc", 5.5),
        ("-gap_percent * 2 - change_from_open / 4", 6.5),
        ("max(gap_percent, change_from_open)", 2),
        ("updated_at desc", 1773151200.5),
        ("rvol desc", -math.inf),
        ("rvol", math.inf),
        ("min(gap_percent, rvol) desc", -math.inf),
        ("change_from_open / (change_from_open - 2) desc", -math.inf),
        ("", 7),
        ("symbol desc", 7),
        ("session", 7),
    ],
)
def test_of_a_row(order_by: str, score: float) -> None:
    assert OrderScore(order_by).of(7, ROW) == score


def test_every_built_in_list_has_one() -> None:
    for spec in load_lists():
        assert OrderScore(spec.order_by).of(1, b'"symbol":"AAA"') in (-math.inf, math.inf)
