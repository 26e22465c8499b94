"""What every name means, by examples with results worked out by hand, for the compiled state and for its twin."""

from typing import Any

import pytest

from fastcore.market_state import MarketState
from fastcore.reference.market_twin import MarketTwin
from tests.support.market_stream import DAYS
from tests.support.small_market import NAN, SECOND, SmallMarket


@pytest.fixture(params=[MarketState, MarketTwin])
def market(request: pytest.FixtureRequest) -> SmallMarket:
    return SmallMarket(request.param())


def expect(market: SmallMarket, **fields: Any) -> None:
    """Those of the row; None is absent."""
    row = market.row()
    assert {name: row.get(name) for name in fields} == fields


def test_twenty_to_twenty_forty_is_exactly_two_percent(market: SmallMarket) -> None:
    market.reference(prev_close=20.0)
    market.trade("10:00:00", 20.4)
    expect(market, change_percent=2.0, gap_percent=2.0, gap_size="MEDIUM", open=20.4, gap_fill_percent=0.0)


@pytest.mark.parametrize(
    ("price", "size"),
    [(20.39, "SMALL"), (19.6, "MEDIUM"), (20.99, "MEDIUM"), (21.0, "LARGE"), (22.0, "EXTREME"), (18.0, "EXTREME")],
)
def test_gap_sizes(market: SmallMarket, price: float, size: str) -> None:
    market.reference(prev_close=20.0)
    market.trade("08:00:00", price, 100, 12)
    expect(market, gap_size=size, open=None)


def test_gap_is_expected_before_the_open_and_fixed_after(market: SmallMarket) -> None:
    market.reference(prev_close=10.0)
    market.trade("09:00:00", 11.0)
    expect(market, gap_percent=10.0, premarket_change_percent=10.0, change_from_open=None, high=None)
    market.trade("09:30:00", 12.0)
    market.trade("09:31:00", 11.5)
    expect(market, gap_percent=20.0, premarket_change_percent=10.0, open=12.0, gap_fill_percent=25.0, high=12.0)
    market.trade("09:32:00", 9.0)
    expect(market, gap_percent=20.0, gap_fill_percent=150.0, change_from_open=-25.0)
    market.trade("09:33:00", 13.0)
    expect(market, gap_fill_percent=0.0)


def test_better_sources_of_the_open_replace_lesser_ones(market: SmallMarket) -> None:
    market.reference(prev_close=10.0)
    market.trade("09:30:01", 12.0)
    market.trade("09:30:00.5", 12.5)  # late, moves nothing
    expect(market, open=12.0)
    market.trade("09:30:02", 11.0, 0, 16)
    market.trade("09:30:03", 11.9, 0, 16)
    expect(market, open=11.0, gap_percent=10.0)
    market.bar("09:29:00", 10.5, op=99.0)  # ends at 09:30
    expect(market, open=11.0)
    market.bar("09:30:00", 10.5, op=10.5)
    market.bar("09:31:00", 10.5, op=10.7)
    expect(market, open=10.5, gap_percent=5.0)


def test_odd_lots_count_for_volume_only(market: SmallMarket) -> None:
    market.trade("10:00:00", 20.0, 100)
    market.trade("10:00:01", 25.0, 7, 37)
    expect(market, price=20.0, volume_today=107, trades_today=2, high=20.0, intraday_high=20.0, dollar_volume=2175.0)


def test_form_t_sets_the_price_outside_regular_hours_only(market: SmallMarket) -> None:
    market.trade("08:00:00", 10.0, 100, 12)
    expect(market, price=10.0, intraday_high=10.0, premarket_high=10.0, high=None)
    market.trade("08:00:01", 11.0, 100, 12, 37)
    expect(market, price=10.0, intraday_high=10.0)
    market.trade("10:00:00", 20.0, 100)
    market.trade("10:00:01", 30.0, 100, 12)
    expect(market, price=20.0, high=20.0, intraday_high=20.0)
    market.trade("16:30:00", 40.0, 100, 12)
    expect(market, price=40.0, high=20.0, intraday_high=40.0, postmarket_volume=100.0)


def test_regular_trades_after_the_close_are_regular(market: SmallMarket) -> None:
    market.trade("15:59:00", 20.0)
    market.trade("16:00:01", 21.0)
    expect(market, price=21.0, high=21.0, close=21.0, postmarket_volume=0.0, session="POST_MARKET",
           postmarket_change_percent=0.0)  # fmt: skip
    market.trade("16:00:02", 23.1, 50, 12)
    expect(market, price=23.1, high=21.0, close=21.0, postmarket_volume=50.0, postmarket_change_percent=10.0)
    market.trade("16:05:00", 22.0, 0, 15)
    expect(market, price=23.1, close=22.0, postmarket_change_percent=5.0, high=21.0, trades_today=3)


def test_close_is_absent_before_the_closing_time(market: SmallMarket) -> None:
    market.trade("15:59:00", 20.0)
    market.watermark("15:59:59.999")
    expect(market, close=None, postmarket_change_percent=None)
    market.watermark("16:00:00")
    expect(market, close=20.0, postmarket_change_percent=0.0)


def test_price_does_not_move_backwards(market: SmallMarket) -> None:
    market.trade("10:00:00", 20.0)
    market.trade("09:59:59", 25.0)
    expect(market, price=20.0, high=25.0, volume_today=200.0)
    market.trade("10:00:00", 21.0)
    expect(market, price=21.0)
    market.bar("09:59:00", 22.0)  # ends at 10:00:00, which sets nothing again
    expect(market, price=21.0)
    market.bar("09:59:01", 22.0)
    expect(market, price=22.0)


def test_a_bar_is_authoritative_for_volume(market: SmallMarket) -> None:
    market.trade("10:00:10", 20.0, 1000)
    market.trade("10:00:59.9", 20.0, 500)
    market.bar("10:00:00", 20.0, av=1400, a=20.0)
    expect(market, volume_today=1400.0, dollar_volume=28000.0, vwap=20.0)
    market.trade("10:01:00", 30.0, 100)
    expect(market, volume_today=1500.0, dollar_volume=31000.0, vwap=20.666667)
    market.trade("10:00:58", 20.0, 5)  # late, in the bar already
    expect(market, volume_today=1500.0)
    market.bar("10:00:00", 20.0, av=1300, a=20.0)  # sent again
    expect(market, volume_today=1400.0)
    market.bar("09:50:00", 20.0, av=900, a=20.0)  # an old one
    expect(market, volume_today=1400.0)
    market.bar("10:01:00", 20.0, av=NAN, a=20.0)
    expect(market, volume_today=1400.0, trades_today=4)


def test_premarket_volume_is_volume_counted_to_the_open(market: SmallMarket) -> None:
    market.trade("09:00:10", 20.0, 100)
    market.bar("09:00:00", 20.0, av=150, a=20.0)
    market.trade("09:29:59", 20.0, 10)
    market.trade("09:30:00", 20.0, 1000)
    expect(market, premarket_volume=160.0, volume_today=1160.0)
    market.bar("09:30:00", 20.0, av=5000, a=20.0)
    expect(market, premarket_volume=160.0, volume_today=5000.0)
    market.bar("09:29:00", 20.0, av=170, a=20.0)
    expect(market, premarket_volume=170.0, volume_today=5000.0)


def test_windows_stand_on_the_grid_of_ten_seconds(market: SmallMarket) -> None:
    market.trade("10:00:00", 20.0, 100)
    market.trade("10:00:10", 22.0, 10)
    market.watermark("10:01:09")  # mark 10:00:00
    expect(market, vol_1m=110.0, chg_1m=None)
    market.watermark("10:01:10")  # mark 10:00:10
    expect(market, vol_1m=10.0, chg_1m=10.0, vol_5m=110.0, chg_5m=None)
    market.trade("10:00:15", 18.0, 1)
    market.trade("10:00:05", 24.0, 1000)  # late: counts at its own time
    expect(market, vol_1m=11.0, chg_1m=-25.0, vol_5m=1111.0)


def test_bars_fill_the_windows_of_a_symbol_without_trades(market: SmallMarket) -> None:
    market.bar("10:00:00", 20.0, 100)
    market.bar("10:01:00", 22.0, 30)
    market.watermark("10:02:00")  # mark 10:01:00, first bar counts at 10:00:59.999999999
    expect(market, vol_1m=30.0, chg_1m=10.0, trades_today=None, vol_5m=130.0)
    market.bar("10:01:00", 22.0, 50)  # sent again
    expect(market, vol_1m=30.0)
    market.bar("10:01:30", 22.0, 7, span=SECOND)
    expect(market, vol_1m=7.0, vol_5m=7.0)
    market.trade("10:01:40", 25.0, 5)
    expect(market, vol_1m=5.0, vol_5m=5.0, chg_1m=None)


def test_rvol_is_interpolated_inside_the_slot(market: SmallMarket) -> None:
    market.baselines([1000.0 * (i + 1) for i in range(192)], [10.0 * (i + 1) for i in range(192)], [4.0] * 192)
    market.trade("04:02:30", 20.0, 250)
    expect(market, rvol=0.5, rvol_slot=0.25, trades_z_score=-2.0, score=5.0)
    market.watermark("04:07:30")
    expect(market, rvol=0.166667, rvol_slot=0.125, trades_z_score=-3.5)


def test_rvol_needs_three_days(market: SmallMarket) -> None:
    market.baselines([1000.0] * 192, [10.0] * 192, [4.0] * 192, days=2)
    market.trade("10:00:00", 20.0)
    expect(market, rvol=None, rvol_slot=None, trades_z_score=None, score=None)


def test_score_of_one_term(market: SmallMarket) -> None:
    market.reference(avg_volume_30d=400.0)
    market.trade("10:00:00", 20.0, 100)
    expect(market, volume_ratio=0.25, score=1.25, rvol=None)


def test_halts(market: SmallMarket) -> None:
    market.limit("10:00:00", 17, upper=21.0, lower=19.0)
    expect(market, halted=True, luld_upper=21.0, luld_lower=19.0, price=None)
    market.limit("09:59:59", 18, upper=25.0, lower=15.0)  # older: nothing
    expect(market, halted=True, luld_upper=21.0, luld_lower=19.0)
    market.limit("10:05:00", 18)
    expect(market, halted=False)
    assert market.row()["updated_at"] == market.at("10:05:00")


def test_range(market: SmallMarket) -> None:
    market.trade("10:00:00", 20.0)
    expect(market, position_in_range=None, price_from_high=0.0)
    market.trade("10:00:01", 25.0)
    market.trade("10:00:02", 21.0)
    expect(market, position_in_range=20.0, price_from_intraday_high=-16.0, price_from_intraday_low=5.0)


def test_quotes(market: SmallMarket) -> None:
    market.quote("10:00:00", 19.9, 20.1)
    expect(market, bid=19.9, ask=20.1, spread_percent=1.0, updated_at=None, session=None, age_seconds=None)
    market.quote("09:59:00", 1.0, 2.0)
    expect(market, bid=19.9, ask=20.1)
    assert market.state.now_ns == market.at("10:00:00")


def test_age_and_session(market: SmallMarket) -> None:
    market.trade("09:29:59.5", 20.0, 100, 12)
    market.trade("09:00:00", 20.0, 100, 12)
    market.watermark("09:30:01")
    expect(market, age_seconds=1.5, session="PRE_MARKET")


def test_volumes_are_zero_once_it_has_traded(market: SmallMarket) -> None:
    market.reference(prev_close=10.0)
    expect(market, vol_1m=None, premarket_volume=None, postmarket_volume=None, volume_today=None)
    market.trade("10:00:00", 20.0)
    market.watermark("12:00:00")
    expect(market, vol_1m=0.0, vol_30m=0.0, premarket_volume=0.0, postmarket_volume=0.0, volume_today=100.0)


@pytest.mark.parametrize("split", [[], [0], [1, 2], None])
def test_a_new_day_forgets_the_day_and_what_is_in_other_shares(market: SmallMarket, split: list[int] | None) -> None:
    """The close of the day before is another one now; means of many days hold until new ones come."""
    market.reference(prev_close=10.0, prev_volume=5.0, company_name="Acme", avg_volume_30d=1000.0, atr=0.5, beta=1.5)
    market.baselines([100.0] * 192, [10.0] * 192, [2.0] * 192)
    market.trade("10:00:00", 20.0)
    market.limit("10:00:01", 17, upper=21.0)
    market.quote("10:00:00", 19.0, 21.0)
    market.new_day(DAYS[1], split)
    holds = split is not None and 0 not in split
    history = {"avg_volume_30d": 1000.0, "atr": 0.5} if holds else {}
    assert market.row() == {"symbol": "A", "company_name": "Acme", "beta": 1.5, **history}
    market.reference(prev_close=20.0)
    market.trade("08:00:00", 21.0, 100, 12)
    expect(market, change_percent=5.0, volume_today=100.0, trades_today=1.0)
    expect(market, rvol=1.0 if holds else None, volume_ratio=0.1 if holds else None)


def test_the_same_day_again_resets_nothing(market: SmallMarket) -> None:
    market.trade("10:00:00", 20.0)
    market.new_day(market.day)
    expect(market, price=20.0, volume_today=100.0)


def test_an_early_close(market: SmallMarket) -> None:
    market.new_day(DAYS[1])
    market.trade("12:59:00", 20.0)
    market.trade("13:00:01", 21.0, 100, 12)
    expect(market, close=20.0, session="POST_MARKET", postmarket_change_percent=5.0, high=20.0, intraday_high=21.0)


def test_reference_becomes_absent(market: SmallMarket) -> None:
    market.reference(prev_close=10.0, sector="Energy", is_etf=1.0)
    expect(market, prev_close=10.0, sector="Energy", is_etf=True)
    market.reference(prev_close=NAN, sector="", is_etf=0.0)
    expect(market, prev_close=None, sector=None, is_etf=False)
