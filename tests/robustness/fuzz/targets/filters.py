"""Filters and orders as people write them: refused with the place of the error, or as the twin has them."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from fastcore.fields import FIELDS
from fastcore.filter_ast import FilterError
from fastcore.filters import compile_filter, compile_order
from fastcore.market_state import MarketState
from fastcore.reference.filters_twin import TermParser, ranked
from fastcore.row_filter import row_filter
from tests.robustness.fuzz.target import Target
from tests.support.filter_rows import random_bodies, rows_of, state_of
from tests.support.random_filters import RandomFilters

ROWS = 8
ORDER = "order:"


@cache
def market() -> tuple[MarketState, list[Mapping[str, Any]]]:
    state = state_of(random_bodies(ROWS, seed=5))
    return state, rows_of(state)


def run(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    try:
        if text.startswith(ORDER):
            check_order(text.removeprefix(ORDER))
        else:
            check_filter(text)
    except FilterError as error:
        assert 0 <= error.position <= len(text)
        assert str(error)


def check_filter(text: str) -> None:
    state, rows = market()
    compiled = compile_filter(text)
    found = compiled.match(state)
    if text.strip():
        condition = TermParser(text).whole(TermParser.condition)
        assert found == [i for i, row in enumerate(rows) if condition(row) is True]
    passes = row_filter(text)
    assert found == [i for i, row in enumerate(rows) if passes(row)]
    assert compile_filter(f" {text}\n").match(state) == found


def check_order(text: str) -> None:
    state, rows = market()
    order = compile_order(text)
    keys = order.keys(state)
    assert all(len(key) == order.key_count for key in keys)
    found = sorted(range(ROWS), key=lambda i: (*keys[i], rows[i]["symbol"]))
    assert [rows[i]["symbol"] for i in found] == [row["symbol"] for row in ranked(text, rows)]


def seeds() -> Iterator[bytes]:
    random_filters = RandomFilters(3)
    for _ in range(40):
        yield random_filters.filter(2).encode()
        yield f"{ORDER}{random_filters.order()}".encode()
    yield b'company_name = "quo\\"te" OR symbol IN ("S1", "S2") AND NOT industry = "back\\\\slash"'
    yield b"price NOT BETWEEN .25 AND 3.0e-2 AND session NOT IN (CLOSED) OR has(list_date)"


TARGET = Target(
    run,
    seeds,
    longest=300,
    python=(
        "fastcore.filter_parser",
        "fastcore.filter_types",
        "fastcore.filter_program",
        "fastcore.filter_ast",
        "fastcore.row_filter",
    ),
    words=(
        *(field.name.encode() for field in FIELDS if field.number < 60),
        *(b" AND ", b" OR ", b"NOT ", b" BETWEEN ", b" IN (", b"has(", b"abs(", b"min(", b"max(", b" desc", b" asc"),
        *(b"MARKET_OPEN", b"LARGE", b"true", b'"S1"', b"1e308", b"<=", b"!="),
    ),
)
