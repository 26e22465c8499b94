"""Compiled filters and orders against the plain evaluation of the same texts on the same rows."""

import pytest
from tradeul.v1 import scanner_pb2

from fastcore.filters import FilterError, compile_filter, compile_order
from fastcore.market import Market
from fastcore.reference.filters_twin import matches, ranked
from tests.support.market_stream import EPOCH, MarketStream
from tests.support.random_filters import RandomFilters


@pytest.fixture(scope="module")
def market() -> Market:
    """A market in the middle of a session, with all kinds of holes in its rows."""
    market = Market([], EPOCH)
    frames = list(MarketStream(9, symbols=150, length=2500, two_days=False).frames(50))
    for frame in frames[: len(frames) * 3 // 4]:
        market.apply(frame)
    market.state.refresh()
    return market


@pytest.mark.parametrize("seed", range(20))
def test_same_rows_in_the_same_order(market: Market, seed: int) -> None:
    rows = [market.state.row(symbol) for symbol in market.state.symbols]
    texts = RandomFilters(seed)
    sizes = set()
    for _ in range(40):
        filter_, order = texts.filter(), texts.order()
        found = scanner_pb2.RankedList.FromString(market.query(compile_filter(filter_), compile_order(order), 1000))
        expected = ranked(order, [row for row in rows if matches(filter_, row)])
        assert [row.symbol for row in found.rows] == [row["symbol"] for row in expected], (filter_, order)
        sizes.add(len(expected))
    assert len(sizes) > 5


@pytest.mark.parametrize(
    "text",
    ["price", "price >", "> 3", "price = ", "nothing > 3", "price > 3 AND", "(price > 3", "price > 3)", "price IN ()",
     "has(3)", "min(price) > 2 3", 'sector > "A"', "halted > 1", "gap_size = HUGE", "price = MEDIUM", "abs() > 1"],
)  # fmt: skip
def test_wrong_filters_are_refused(text: str) -> None:
    with pytest.raises(FilterError):
        compile_filter(text)
