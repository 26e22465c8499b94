"""Compiled filters and orders against their naive evaluation, row by row."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings

from fastcore.filters import all_of, compile_filter, compile_order
from fastcore.market_state import MarketState
from fastcore.reference.filters_twin import matches, ranked
from fastcore.row_filter import row_filter
from services.kit.lists.definitions import load_lists
from tests.support.filter_rows import random_bodies, rows_of, state_of
from tests.support.filter_texts import filters, orders

# More than a block of 512 rows, and no multiple of one.
ROWS = 700
thorough = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Market(NamedTuple):
    state: MarketState
    rows: list[Mapping[str, Any]]

    def __repr__(self) -> str:
        return f"a market of {len(self.rows)} rows"


@pytest.fixture(scope="module")
def market() -> Market:
    state = state_of(random_bodies(ROWS, seed=5))
    return Market(state, rows_of(state))


def naive_match(text: str, rows: list[Mapping[str, Any]]) -> list[int]:
    return [i for i, row in enumerate(rows) if matches(text, row)]


def ranked_ids(text: str, state: MarketState, rows: list[Mapping[str, Any]]) -> list[int]:
    """The ids by the compiled order's keys, ties by symbol."""
    keys = compile_order(text).keys(state)
    return sorted(range(len(rows)), key=lambda i: (*keys[i], rows[i]["symbol"]))


def test_the_rows_are_various(market: Market) -> None:
    _, rows = market
    assert len(rows) == ROWS
    for name in ("price", "gap_size", "halted", "session", "sector", "is_etf", "change_percent", "open"):
        there = sum(name in row for row in rows)
        assert ROWS / 10 < there < ROWS, name
    for name in ("gap_size", "session", "sector", "is_etf", "halted"):
        assert len({row[name] for row in rows if name in row}) > 1, name


@thorough
@given(text=filters)
def test_filters_match_what_the_naive_evaluation_matches(market: Market, text: str) -> None:
    state, rows = market
    assert compile_filter(text).match(state) == naive_match(text, rows)


@thorough
@given(text=filters)
def test_a_single_row_passes_if_the_market_finds_it(market: Market, text: str) -> None:
    state, rows = market
    passes = row_filter(text)
    assert [i for i, row in enumerate(rows) if passes(row)] == compile_filter(text).match(state)


@thorough
@given(text=filters)
def test_negation_swaps_true_and_false_only(market: Market, text: str) -> None:
    state, rows = market
    if len(text) > 1900:
        return
    plain, negated = set(compile_filter(text).match(state)), set(compile_filter(f"NOT ({text})").match(state))
    assert not plain & negated
    assert sorted(negated) == naive_match(f"NOT ({text})", rows)


@settings(thorough, max_examples=60)
@given(first=filters, second=filters)
def test_all_of_matches_what_both_match(market: Market, first: str, second: str) -> None:
    state, _ = market
    parts = [compile_filter(first), compile_filter(second)]
    both = set(parts[0].match(state)) & set(parts[1].match(state))
    assert all_of(parts).match(state) == sorted(both)


@thorough
@given(text=orders)
def test_orders_rank_as_the_naive_one_does(market: Market, text: str) -> None:
    state, rows = market
    naive = [row["symbol"] for row in ranked(text, rows)]
    assert [rows[i]["symbol"] for i in ranked_ids(text, state, rows)] == naive


@settings(thorough, max_examples=60)
@given(text=orders)
def test_keys_of_chosen_rows_are_the_keys_of_all(market: Market, text: str) -> None:
    state, _ = market
    order = compile_order(text)
    keys = order.keys(state)
    chosen = [*range(ROWS - 1, 0, -7), 3, 3, 0]
    assert order.keys(state, chosen) == [keys[i] for i in chosen]
    assert not any(math.isnan(key) for row in keys for key in row)


def test_the_built_in_lists(market: Market) -> None:
    state, rows = market
    for spec in load_lists():
        for text in (spec.filter, spec.base_filter):
            assert compile_filter(text).match(state) == naive_match(text, rows)
        naive = [row["symbol"] for row in ranked(spec.order_by, rows)]
        assert [rows[i]["symbol"] for i in ranked_ids(spec.order_by, state, rows)] == naive
