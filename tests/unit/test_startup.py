"""Whether the market that a recording began with has all its reference data, so that a replay need not load them."""

import datetime

import pytest

from fastcore.market_state import MarketState
from services.data_ingest import startup
from services.market.calendar import TradingDay
from tests.support.small_market import NAN, SmallMarket

SLOTS = 192


def market_of(baselines: int, atrs: int, closes: int = 3) -> tuple[MarketState, TradingDay]:
    """A market of three symbols at 11:00: so many have a baseline, an ATR, a previous close."""
    state = MarketState()
    market = SmallMarket(state)
    for symbol in market.symbols[:closes]:
        market.reference(symbol, prev_close=10.0)
    for symbol in market.symbols[:atrs]:
        market.reference(symbol, atr=0.5)
    for symbol_id in range(baselines):
        # Too few days for a mean: their number is known all the same.
        market.baselines([NAN] * SLOTS, [NAN] * SLOTS, [NAN] * SLOTS, days=2, symbol_id=symbol_id)
    market.watermark("11:00:00")
    start, opens, closes_at, end = (market.at(f"{clock}:00") for clock in ("04:00", "09:30", "16:00", "20:00"))
    return state, TradingDay(datetime.date.fromisoformat(state.trading_date), start, opens, closes_at, end, False)


def test_a_market_with_all_its_reference_data_needs_none() -> None:
    assert startup.has_reference(*market_of(baselines=3, atrs=3))


@pytest.mark.parametrize(
    ("baselines", "atrs", "closes"), [(1, 3, 3), (2, 3, 3), (0, 3, 3), (3, 0, 3), (3, 3, 1), (0, 0, 0)]
)
def test_a_market_recorded_while_they_were_loading_needs_them(baselines: int, atrs: int, closes: int) -> None:
    assert not startup.has_reference(*market_of(baselines, atrs, closes))


def test_those_of_the_first_minutes_may_be_the_day_before_s() -> None:
    state, day = market_of(baselines=3, atrs=3)
    assert not startup.has_reference(state, day._replace(pre_market_start_ns=state.now_ns - startup.SETTLED_NS + 1))
