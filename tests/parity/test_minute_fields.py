"""Opening ranges, windows and market-wide values: examples worked out by hand, for the compiled state and its twin."""

import random
from typing import Any

import pytest
from tradeul.v1 import frame_pb2

from fastcore.fields import OPENING_MINUTES, RANGE_WINDOW_MINUTES
from fastcore.market_state import MarketState
from fastcore.reference.market_twin import MarketTwin
from tests.support.market_stream import DAYS
from tests.support.small_market import NAN, SECOND, SmallMarket

SLOTS = 192


@pytest.fixture(params=[MarketState, MarketTwin])
def market(request: pytest.FixtureRequest) -> SmallMarket:
    return SmallMarket(request.param(), symbols=("A", "B", "SPY"))


def expect(market: SmallMarket, symbol: str = "A", **fields: Any) -> None:
    """Those of the row; None is absent."""
    row = market.row(symbol)
    assert {name: row.get(name) for name in fields} == fields


# ---- opening ranges


def test_a_range_grows_until_its_end(market: SmallMarket) -> None:
    market.trade("09:29:59.999", 50.0)
    expect(market, or1_high=None, or60_low=None)
    market.trade("09:30:00", 10.0)
    market.trade("09:30:59.999999999", 11.0)
    expect(market, or1_high=11.0, or1_low=10.0, or5_high=11.0, or60_low=10.0)
    market.trade("09:31:00", 9.0)
    market.trade("09:34:59", 12.0)
    expect(market, or1_high=11.0, or1_low=10.0, or5_high=12.0, or5_low=9.0, or15_high=12.0)
    market.trade("09:50:00", 20.0)
    expect(market, or5_high=12.0, or15_high=12.0, or30_high=20.0, or60_high=20.0, or60_low=9.0)
    market.trade("10:30:00", 30.0)
    expect(market, or60_high=20.0, or60_low=9.0, high=30.0)


def test_a_late_print_changes_no_range_that_is_over(market: SmallMarket) -> None:
    market.trade("09:30:30", 10.0)
    market.watermark("09:31:10")
    market.trade("09:31:00", 10.2, 100, 5)
    # The symbol has set no price since the first minute ended.
    market.trade("09:30:59", 11.0)
    expect(market, or1_high=11.0)
    market.trade("09:31:00", 10.5)
    market.trade("09:30:58", 12.0)
    expect(market, or1_high=11.0, or5_high=12.0, high=12.0)


def test_ranges_are_of_trades_that_set_highs_and_lows(market: SmallMarket) -> None:
    market.trade("09:30:01", 10.0, 100, 37)
    market.trade("09:30:01", 10.1, 100, 12)
    market.trade("09:30:01", 10.2, 100, 16)
    expect(market, or5_high=None)
    market.trade("09:30:02", 10.3, 100, 5)
    expect(market, or5_high=10.3, or5_low=10.3, price=None)


def test_ranges_of_bars_are_of_those_that_lie_inside(market: SmallMarket) -> None:
    market.bar("09:29:00", 9.0)
    market.bar("09:30:00", 10.0, high=10.5, low=9.5)
    expect(market, or1_high=10.5, or1_low=9.5, or5_high=10.5)
    market.bar("09:34:00", 10.0, high=11.0, low=9.0)
    # It came after now had reached the end.
    market.watermark("09:35:02")
    expect(market, or1_high=10.5, or5_high=11.0, or5_low=9.0)
    market.bar("09:34:00", 10.0, high=11.2, low=9.0)
    market.bar("09:35:00", 10.0, high=12.0, low=8.0)
    market.bar("09:34:00", 10.0, high=13.0, low=7.0)
    expect(market, or5_high=11.2, or5_low=9.0, or15_high=13.0, or15_low=7.0)
    # From the first trade on, trades speak for themselves, and what was known stays.
    market.trade("09:40:00", 10.0)
    market.bar("09:40:00", 10.0, high=20.0, low=10.0)
    expect(market, or15_high=13.0, or5_high=11.2, high=20.0)


def test_a_confirmed_print_counts_when_it_is_confirmed(market: SmallMarket) -> None:
    for second in range(4):
        market.trade(f"09:30:5{second}", 10.0)
    market.trade("09:30:59", 20.0)
    expect(market, or1_high=10.0)
    market.trade("09:31:01", 20.1)
    expect(market, or1_high=10.0, or5_high=20.1)


def test_a_new_day_has_no_ranges_yet(market: SmallMarket) -> None:
    market.trade("09:30:00", 10.0)
    market.trade("09:30:01", 10.0, symbol="SPY")
    market.reference("SPY", prev_close=9.0)
    market.watermark("11:00:00")
    expect(market, minutes_since_open=90.0, or60_high=10.0, spy_change_percent=11.111111)
    market.new_day(DAYS[1], split=[])
    assert market.row() == {"symbol": "A"}
    market.trade("09:30:10", 12.0)
    market.watermark("09:30:30")
    expect(market, or1_high=12.0, or1_low=12.0, minutes_since_open=0.5, spy_change_percent=None)


# ---- windows


def test_windows_of_trades(market: SmallMarket) -> None:
    market.trade("10:00:00", 10.0, 500)
    market.trade("10:03:00", 12.0, 100)
    market.trade("10:03:01", 11.0, 50, 37)
    market.watermark("10:04:05")
    # mark(1) is 10:03:00: at the mark is inside.
    expect(market, dollar_volume_1m=1750.0, trades_1m=2.0, largest_1m=100.0, last_size=50.0)
    expect(market, dollar_volume_5m=6750.0, trades_5m=3.0, largest_5m=500.0, high_5m=12.0, low_5m=10.0)
    market.watermark("10:04:10")
    expect(market, dollar_volume_1m=0.0, trades_1m=0.0, largest_1m=None, largest_5m=500.0)
    market.watermark("10:05:10")
    expect(market, trades_5m=2.0, largest_5m=100.0, high_5m=12.0, low_5m=12.0, low_15m=10.0)
    market.watermark("10:40:00")
    expect(market, trades_5m=0.0, high_5m=None, low_30m=None, high_30m=None, last_size=50.0)


def test_late_prints_count_at_their_own_times(market: SmallMarket) -> None:
    market.trade("10:00:00", 10.0, 100)
    market.trade("10:06:00", 10.0, 100)
    market.trade("09:58:00", 14.0, 900)
    expect(market, high_5m=10.0, high_15m=14.0, largest_5m=100.0, last_size=100.0)
    market.trade("10:02:00", 9.0, 300)
    expect(market, low_5m=9.0, largest_5m=300.0, trades_5m=2.0, last_size=100.0)


def test_windows_are_absent_before_the_first_trade(market: SmallMarket) -> None:
    market.quote("10:00:00", 9.9, 10.1)
    expect(market, dollar_volume_1m=None, trades_1m=None, largest_5m=None, high_5m=None, low_30m=None)
    expect(market, last_size=None, vol_5m_ratio=None)


def test_windows_of_bars(market: SmallMarket) -> None:
    market.bar("10:00:00", 10.0, 200, high=11.0, low=9.0, vwap=10.5)
    market.bar("10:01:00", 10.2, 100, high=10.4, low=10.1, vwap=NAN)
    expect(market, dollar_volume_5m=3120.0, high_5m=11.0, low_5m=9.0, trades_5m=None, largest_5m=None, last_size=None)
    # Trades replace them.
    market.trade("10:02:00", 10.0, 10)
    expect(market, dollar_volume_5m=100.0, high_5m=10.0, trades_5m=1.0)


def test_volume_against_the_same_minutes_of_other_days(market: SmallMarket) -> None:
    # 600 shares in each slot of five minutes.
    curve = [600.0 * (slot + 1) for slot in range(SLOTS)]
    market.baselines(curve, curve, curve)
    market.trade("10:02:00", 10.0, 240)
    market.watermark("10:02:30")
    # Of 60 and of 300 seconds.
    expect(market, vol_1m_ratio=2.0, vol_5m_ratio=0.4)
    market.watermark("10:02:36")
    # The mark stays at 10:01:30: 66 seconds have passed since, and 306.
    expect(market, vol_1m_ratio=1.818182, vol_5m_ratio=0.392157)
    market.baselines(curve, curve, curve, days=2)
    expect(market, vol_1m_ratio=None, vol_5m_ratio=None)


def test_where_nothing_is_usual_there_is_no_ratio(market: SmallMarket) -> None:
    market.baselines([100.0] * SLOTS, [1.0] * SLOTS, [1.0] * SLOTS)
    market.trade("10:02:00", 10.0, 240)
    expect(market, vol_1m_ratio=None, vol_5m_ratio=None, rvol=2.4)


def test_sizes_are_those_of_the_newest_quote(market: SmallMarket) -> None:
    market.quote("10:00:00", 9.9, 10.1, 300, 500)
    expect(market, bid_size=300.0, ask_size=500.0)
    market.quote("09:59:59", 9.8, 10.1, 1, 2)
    expect(market, bid_size=300.0, ask_size=500.0)
    market.snapshot("10:00:01", bid=9.0, ask=9.1)
    expect(market, bid=9.0, bid_size=300.0, ask_size=500.0)
    market.quote("10:00:02", NAN, 10.1, 300, 200)
    expect(market, bid_size=None, ask_size=200.0)


# ---- the market


def test_market_wide_values_are_those_of_a_second_s_first_watermark(market: SmallMarket) -> None:
    market.reference("SPY", prev_close=500.0)
    market.watermark("09:29:59")
    expect(market, minutes_since_open=None, spy_change_percent=None)
    market.trade("09:30:00.2", 505.0, symbol="SPY")
    market.watermark("09:30:00.5")
    for symbol in ("A", "B", "SPY"):
        expect(market, symbol, minutes_since_open=0.008333, spy_change_percent=1.0, spy_chg_5m=None)
    market.trade("09:30:00.6", 510.0, symbol="SPY")
    market.watermark("09:30:00.7")
    expect(market, "SPY", change_percent=2.0, spy_change_percent=1.0)
    market.trade("09:30:00.8", 10.0)
    expect(market, "A", price=10.0, spy_change_percent=1.0, minutes_since_open=0.008333)
    market.watermark("09:30:01")
    expect(market, "A", spy_change_percent=2.0, minutes_since_open=0.016667)
    market.trade("09:36:00", 520.2, symbol="SPY")
    market.watermark("09:36:00")
    expect(market, "B", spy_chg_5m=2.0, spy_chg_15m=None, spy_change_percent=4.04)


def test_symbols_that_come_later_have_them_at_once() -> None:
    market = SmallMarket(MarketState(), symbols=["SPY"])
    market.reference("SPY", prev_close=500.0)
    market.trade("10:00:00", 505.0, symbol="SPY")
    market.watermark("10:00:00")
    market.row("SPY")
    symbols = [f"S{i:04}" for i in range(3000)]
    market.frame(symbols=frame_pb2.SymbolTable(first_id=1, symbols=symbols))
    assert all(market.row(s)["spy_change_percent"] == 1.0 for s in (symbols[0], symbols[-1]))


# ---- whatever comes


@pytest.mark.parametrize("seed", range(3))
def test_ranges_stay_and_windows_hold_every_price(seed: int) -> None:
    """Trades in any order, bookkeeping apart: (time, price) of all that may set the price."""
    rng = random.Random(seed)
    market = SmallMarket(state := MarketState(), rules=False)
    prints: list[tuple[int, float]] = []
    fixed: dict[str, float] = {}
    now = market.at("09:29:00")
    for _ in range(400):
        now += rng.randrange(20 * SECOND)
        time = now - rng.choice((0, 0, 0, SECOND, 40 * SECOND, 400 * SECOND))
        price = round(rng.uniform(9.5, 10.5), 2)
        clock = time - market.at("00:00:00")
        hours, rest = divmod(clock // SECOND, 3600)
        market.trade(f"{hours:02}:{rest // 60:02}:{rest % 60:02}.{clock % SECOND:09}", price)
        prints.append((time, price))
        if rng.random() < 0.5:
            clock = state.now_ns - market.at("00:00:00")
            hours, rest = divmod(clock // SECOND, 3600)
            market.watermark(f"{hours:02}:{rest // 60:02}:{rest % 60:02}.{clock % SECOND:09}")
            row = market.row()
            for minutes in RANGE_WINDOW_MINUTES:
                mark = state.now_ns // (10 * SECOND) * 10 * SECOND - minutes * 60 * SECOND
                inside = [price for time, price in prints if time >= mark]
                assert row.get(f"high_{minutes}m") == max(inside, default=None)
                assert row.get(f"low_{minutes}m") == min(inside, default=None)
            for name, value in fixed.items():
                assert row[name] == value, name
            for minutes in OPENING_MINUTES:
                # Nothing is taken for suspect: each of them sets the price.
                if max(prints)[0] >= market.at("09:30:00") + minutes * 60 * SECOND:
                    names = (f"or{minutes}_high", f"or{minutes}_low")
                    fixed |= {name: row[name] for name in names if name in row}
    assert len(fixed) == 2 * len(OPENING_MINUTES)
