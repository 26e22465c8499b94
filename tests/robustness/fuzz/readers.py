"""Everything that can be read of a market: whatever has been accepted can be shown."""

from functools import cache
from typing import Final

from tradeul.v1 import scanner_pb2, ticker_row_pb2

from fastcore.fields import FIELDS
from fastcore.filters import Filter, Order, compile_filter, compile_order
from fastcore.market import Market
from fastcore.market_state import MarketState

_TEXTS: Final = ("text", "symbol")


@cache
def _query() -> tuple[Filter, Order]:
    return compile_filter("price > 1 OR halted OR NOT has(price)"), compile_order("chg_5m desc, symbol")


def read_everything(market: Market) -> None:
    """Reads the rows, the lists, the alerts and a scan of a market."""
    read_rows(market.state)
    rows = market.state.count
    for name in market.list_names:
        ranked = scanner_pb2.RankedList.FromString(market.snapshot(name))
        assert ranked.count == len(ranked.rows) == market.list_count(name)
        assert len({row.symbol for row in ranked.rows}) == len(ranked.rows)
        scanner_pb2.RankedList.FromString(market.snapshot(name, 1000))
    found = scanner_pb2.RankedList.FromString(market.query(*_query(), 500, as_built_in=True))
    assert found.count <= rows
    assert {*market.alert_counts, *market.ignored_alert_rules} == {rule.name for rule in market.alert_rules}
    market.disabled_alert_rules, market.ignored_filters, market.alert_sequence  # noqa: B018
    market.refresh()


def read_rows(state: MarketState) -> None:
    """Reads all that a state has."""
    state.refresh()
    symbols = state.symbols
    assert len(symbols) == state.count
    for i, symbol in enumerate(symbols):
        assert state.symbol_id(symbol) == i
        shown = ticker_row_pb2.TickerRow.FromString(state.encode_row(i))
        assert shown.symbol == symbol
        row = state.row(symbol)
        assert {field.name for field, _ in shown.ListFields()} <= {*row, "rank"}
    for field in FIELDS:
        if field.kind in _TEXTS:
            assert len(state.texts(field.name)) == len(symbols)
        else:
            assert len(state.column(field.name)) == len(symbols)
    assert 0 <= state.halted_count <= len(symbols)
    assert 0 <= state.session <= 4
    state.suspect_prints, state.active_count, state.trading_date, state.next_trading_date  # noqa: B018
