"""What is stored exactly is shown with six decimals, and no answer shows how doubles are made."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.fields import SUMS
from fastcore.market_state import MarketState
from fastcore.measures import measures, shown
from fastcore.reference.market_twin import MarketTwin
from services.analytics.redis_values import number
from tests.support.small_market import SmallMarket


@pytest.mark.parametrize("state", [MarketState, MarketTwin])
def test_change_is_rounded_where_it_is_stored(state: type[MarketState | MarketTwin]) -> None:
    market = SmallMarket(state())
    market.reference(prev_close=20.0)
    market.trade("10:00:00", 36.31)
    assert 36.31 - 20.0 == 16.310000000000002
    assert market.row()["change"] == 16.31


def test_sums_and_averages_are_stored_exactly_and_shown_rounded() -> None:
    market = SmallMarket(state := MarketState())
    average = 10 / 3
    market.reference(avg_price_30d=average, avg_volume_10d=average, avg_volume_30d=average, atr=average, prev_close=1.0)
    for _ in range(3):
        market.trade("10:00:00", 0.7, 0.1)
    row = market.row()
    assert (row["volume_today"], row["avg_price_30d"]) == (0.1 + 0.1 + 0.1, average)
    encoded = TickerRow.FromString(state.encode_row(0))
    assert (encoded.volume_today, encoded.vol_1m, encoded.dollar_volume) == (0.3, 0.3, 0.21)
    assert {encoded.avg_price_30d, encoded.avg_volume_10d, encoded.avg_volume_30d, encoded.atr} == {3.333333}
    # Filters and orders see what is stored.
    assert state.column("volume_today")[0] == row["volume_today"]


def test_relative_volume_s_baseline_is_shown_rounded() -> None:
    market = SmallMarket(state := MarketState())
    market.baselines([1000 / 3 * (i + 1) for i in range(192)], [10.0] * 192, [4.0] * 192)
    market.trade("04:02:30", 20.0, 0.1)
    exact = measures(state, 0).baseline
    assert exact is not None and shown(exact) == round(exact, 6) != exact
    assert number(exact) == f"{exact:.6f}".rstrip("0")


@given(st.floats(min_value=-1e15, max_value=1e15))
def test_a_shown_number_has_six_decimals(value: float) -> None:
    text = json.dumps(shown(value))
    if "e" not in text:
        assert len(text.partition(".")[2]) <= 6
    assert abs(shown(value) - value) <= 0.5000001e-6 + 1e-15 * abs(value)
    assert shown(shown(value)) == shown(value)


def test_which_are_shown_rounded() -> None:
    assert {"dollar_volume", "avg_price_30d", "avg_volume_10d", "avg_volume_30d", "volume_today", "vol_5m"} <= SUMS
