"""Compiled filters and orders on a handful of rows."""

import math

import pytest

from fastcore.filters import Filter, FilterError, Order, all_of, compile_filter, compile_order
from fastcore.market_state import MarketState
from tests.support.filter_rows import (
    CLOSE_NS,
    HALT,
    OPEN_NS,
    PRE_MARKET_NS,
    RESUME,
    limits,
    opening,
    reference,
    state_of,
    trades,
    watermark,
)

# Ids are not in the order of the symbols.
SYMBOLS = ["DDD", "AAA", "CCC", "BBB", "EEE"]
SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def state() -> MarketState:
    """DDD: price 5, gap 25 %, halted; AAA: price 10, gap 0 %; CCC: no trade; BBB: price 3; EEE: nothing at all."""
    nan = math.nan
    return state_of(
        [
            *opening(SYMBOLS),
            reference(
                [0, 1, 2, 3],
                PREV_CLOSE=[4.0, 10.0, 8.0, nan],
                FLOAT_SHARES=[1e6, nan, 2e6, 0.0],
                BETA=[-1.0, 0.0, 1.0, nan],
                IS_ETF=[1.0, 0.0, nan, 0.0],
                SECTOR=["Energy", "Technology", "", "Energy"],
                INDUSTRY=["Energy", "Software", "", ""],
            ),
            trades((0, PRE_MARKET_NS, 5.0, 100.0), (1, OPEN_NS + SECOND_NS, 10.0, 50.0)),
            trades((3, CLOSE_NS + SECOND_NS, 3.0, 10.0)),
            limits((0, PRE_MARKET_NS + SECOND_NS, HALT), (1, OPEN_NS + 2 * SECOND_NS, RESUME)),
            watermark(CLOSE_NS + 10 * SECOND_NS),
        ]
    )


def found(text: str, state: MarketState) -> str:
    """First letters of the symbols that match, in the order of ids."""
    return "".join(SYMBOLS[i][0] for i in compile_filter(text).match(state))


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("", "DACBE"),
        ("true", "DACBE"),
        ("false", ""),
        ("1 < 2", "DACBE"),
        ("price > 4", "DA"),
        ("4 < price", "DA"),
        ("price >= 5", "DA"),
        ("price > 5", "A"),
        ("5 <= price", "DA"),
        ("price = 5", "D"),
        ("price != 5", "AB"),
        ("price < prev_close * 2", "DA"),
        ("price = prev_close", "A"),
        ("price != prev_close", "D"),
        ("has(price)", "DAB"),
        ("NOT has(price)", "CE"),
        ("has(symbol) AND NOT has(sector)", "CE"),
        # Absent: neither the condition nor its opposite.
        ("float_shares > 1", "DC"),
        ("NOT float_shares > 1", "B"),
        ("NOT NOT float_shares > 1", "DC"),
        ("float_shares > 1 OR price < 4", "DCB"),
        ("NOT (float_shares > 1 AND price > 4)", "B"),
        ("NOT (float_shares > 1 OR price > 4)", "B"),
        ("NOT (float_shares > 1 AND price > 100)", "DAB"),
        # Arithmetic, and results that are no numbers.
        ("price - prev_close > 0", "D"),
        ("price / beta < 0", "D"),
        ("beta / beta = 1", "DC"),
        ("1 / beta > 0 OR 1 / beta <= 0", "DC"),
        ("price / 0 > 0 OR NOT price / 0 > 0", ""),
        ("price * 1e308 * 10 > 0", ""),
        ("1 / 0 > 0 OR 1 / 0 <= 0", ""),
        ("-beta > 0", "D"),
        ("abs(beta) = 1", "DC"),
        ("min(price, prev_close) = 4", "D"),
        ("max(price, prev_close) = 5", "D"),
        ("min(price, prev_close) = price", "A"),
        ("max(prev_close, price) > 0", "DA"),
        ("price = 2 + 3 * 2 - 12 / 4", "D"),
        ("10 - 3 - 2 = price", "D"),
        # Ranges and choices.
        ("price BETWEEN 3 AND 5", "DB"),
        ("price NOT BETWEEN 3 AND 5", "A"),
        ("price BETWEEN prev_close AND 2 * prev_close", "DA"),
        ("price IN (3, 10, 11)", "AB"),
        ("price NOT IN (3, 10, 11)", "D"),
        ("price + 1 IN (4)", "B"),
        # Texts.
        ('sector = "Energy"', "DB"),
        ('"Energy" = sector', "DB"),
        ('sector != "Energy"', "A"),
        ('industry = "energy"', ""),
        ('industry != "energy"', "DA"),
        ('industry = ""', ""),
        ('industry != ""', "DA"),
        ('sector IN ("Technology", "Energy", "Utilities")', "DAB"),
        ('sector NOT IN ("Technology", "Utilities")', "DB"),
        ("sector = industry", "D"),
        ("sector != industry", "A"),
        ('symbol = "CCC"', "C"),
        ('symbol = "ccc"', ""),
        ('symbol != "CCC"', "DABE"),
        ('symbol IN ("EEE", "AAA", "ZZZ")', "AE"),
        ('symbol NOT IN ("EEE", "AAA", "ZZZ")', "DCB"),
        # Booleans and enums.
        ("is_etf", "D"),
        ("NOT is_etf", "AB"),
        ("is_etf = false", "AB"),
        ("is_etf != true", "AB"),
        ("halted", "D"),
        ("NOT halted AND has(halted)", "A"),
        ("gap_size = EXTREME", "D"),
        ("gap_size < EXTREME", "A"),
        ("gap_size IN (SMALL, LARGE)", "A"),
        ("gap_size BETWEEN MEDIUM AND EXTREME", "D"),
        ("session = POST_MARKET", "B"),
        ("session <= MARKET_OPEN", "DA"),
        ('session != "POST_MARKET"', "DA"),
        # Times: 04:00, 09:30:02 (the resume) and 16:00:01 in New York.
        ('updated_at < "2026-01-05T14:30:00Z"', "D"),
        ('updated_at >= "2026-01-05T09:30:02-05:00"', "AB"),
        ("age_seconds < 60", "B"),
    ],
)
def test_what_matches(state: MarketState, text: str, symbols: str) -> None:
    assert found(text, state) == symbols


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("", "ABCDE"),
        ("symbol desc", "EDCBA"),
        ("price desc", "ADBCE"),
        ("price", "BDACE"),
        ("price asc, symbol desc", "BDAEC"),
        ("abs(beta) desc, price", "DCABE"),
        ("beta desc, price desc", "CADBE"),
        ("is_etf desc, price desc", "DABCE"),
        ("updated_at desc", "BADCE"),
        ("gap_size desc", "DABCE"),
        ("price / prev_close desc", "DABCE"),
        ("1 / beta", "DCABE"),
    ],
)
def test_what_comes_first(state: MarketState, text: str, symbols: str) -> None:
    keys = compile_order(text).keys(state)
    ids = sorted(range(len(SYMBOLS)), key=lambda i: (*keys[i], SYMBOLS[i]))
    assert "".join(SYMBOLS[i][0] for i in ids) == symbols


def test_keys_are_smaller_the_better_and_infinite_when_absent(state: MarketState) -> None:
    assert compile_order("price desc, prev_close").keys(state) == [
        (-5.0, 4.0),
        (-10.0, 10.0),
        (math.inf, 8.0),
        (-3.0, math.inf),
        (math.inf, math.inf),
    ]
    assert compile_order("price").keys(state, [3, 0, 3]) == [(3.0,), (5.0,), (3.0,)]
    assert compile_order("").keys(state, [1, 2]) == [(), ()]


@pytest.mark.parametrize("ids", [[5], [-1]])
def test_keys_of_rows_that_are_not_there(state: MarketState, ids: list[int]) -> None:
    with pytest.raises(IndexError, match=r"expected ids in \[0, 5\), was"):
        compile_order("price").keys(state, ids)


def test_texts_that_come_later_are_found_by_the_same_filter() -> None:
    filter_ = compile_filter('industry = "New" OR symbol = "B"')
    bodies = [*opening(["A"]), reference([0], INDUSTRY=["Old"])]
    assert filter_.match(state_of(bodies)) == []
    bodies += [{"symbols": {"first_id": 1, "symbols": ["B", "C"]}}, reference([0, 2], INDUSTRY=["Old", "New"])]
    assert filter_.match(state_of(bodies)) == [1, 2]
    bodies.append(reference([0, 1, 2], INDUSTRY=["New", "", "Old"]))
    assert filter_.match(state_of(bodies)) == [0, 1]


def test_a_state_without_rows() -> None:
    empty = MarketState()
    assert compile_filter('price > 1 AND industry = "a"').match(empty) == []
    assert compile_order("price").keys(empty) == []


def test_all_of(state: MarketState) -> None:
    parts = [compile_filter(text) for text in ("", "price > 1 OR halted", 'sector = "Energy"')]
    both = all_of(parts)
    assert "".join(SYMBOLS[i][0] for i in both.match(state)) == "DB"
    assert both.text == '(price > 1 OR halted) AND (sector = "Energy")'
    assert all_of(parts[:2]) is parts[1]
    assert len(all_of([]).match(state)) == len(SYMBOLS)
    with pytest.raises(TypeError):
        all_of(["price > 1"])  # type: ignore[list-item]


def test_all_of_may_be_longer_than_a_text(state: MarketState) -> None:
    long = compile_filter(" AND ".join(["price > 1"] * 140))
    assert len(long.text) < 2000
    assert len(all_of([long, long]).match(state)) == 3


def test_a_deep_filter_has_registers_enough(state: MarketState) -> None:
    condition, value = "price > 4", "price"
    for i in range(30):
        condition = f"(beta > {i} OR price > 4 AND {condition})"
        value = f"(0 + 1 * {value})"
    assert found(condition, state) == "DA"
    assert found(f"{value} > 4", state) == "DA"
    assert compile_order(f"{value} desc, beta").keys(state)[0] == (-5.0, -1.0)


def test_errors_name_the_place_and_the_nearest_field() -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter("price > 1 AND rvoll > 2")
    assert (caught.value.position, caught.value.suggestion) == (14, "rvol")
    assert isinstance(caught.value, ValueError)
    with pytest.raises(FilterError):
        compile_order("rvol dsc")


def test_only_the_functions_make_them() -> None:
    with pytest.raises(TypeError):
        Filter()
    with pytest.raises(TypeError):
        Order()
    assert repr(compile_filter("price > 1")) == "Filter('price > 1')"
    assert repr(compile_order("price")) == "Order('price')"
