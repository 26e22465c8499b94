"""The vendor's full snapshot: it repairs, and takes nothing away; for the compiled state and for its twin."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tradeul.v1 import market_data_pb2

from fastcore.market_state import MarketState
from fastcore.reference.market_twin import RECENT_TRADES, MarketTwin
from tests.support.compare_rows import differences
from tests.support.small_market import NAN, SECOND, SmallMarket


@pytest.fixture(params=[MarketState, MarketTwin])
def market(request: pytest.FixtureRequest) -> SmallMarket:
    return SmallMarket(request.param())


def expect(market: SmallMarket, **fields: Any) -> None:
    """Those of the row; None is absent."""
    row = market.row()
    assert {name: row.get(name) for name in fields} == fields


# ---- the dollars that are known stay


def test_before_the_open_known_dollars_stay(market: SmallMarket) -> None:
    market.trade("04:05:00", 10.0, 100, 12)
    market.trade("04:05:10", 11.0, 300, 12)
    market.snapshot("04:05:30", minute="04:05:00", av=400, minute_bar=(11.0, 10.0, 11.0))
    expect(market, vwap=10.75, dollar_volume=4300.0, price_vs_vwap=2.325581, volume_today=400.0, price=11.0)
    # The snapshot's time is ahead of the newest event: that is now.
    expect(market, age_seconds=0.0)
    market.watermark("04:05:31.5")
    expect(market, age_seconds=1.5)


def test_the_vwap_of_regular_hours_is_not_multiplied_with_the_shares_since_four(market: SmallMarket) -> None:
    market.trade("08:00:00", 10.0, 1000, 12)
    market.trade("10:00:00", 20.0, 1000)
    market.snapshot(
        "10:00:10", minute="10:00:00", av=3000, day=(20.0, 20.0, 20.0, 20.0), vw=20.0, minute_bar=(20.0, 20.0, 20.0)
    )
    # Of a thousand shares nobody knows the price: vwap is of those that are known.
    expect(market, volume_today=3000.0, dollar_volume=30000.0, vwap=15.0)
    market.trade("10:00:11", 30.0, 1000)
    expect(market, volume_today=4000.0, dollar_volume=60000.0, vwap=20.0)
    market.bar("10:00:00", 30.0, av=4100, a=21.0)
    expect(market, volume_today=4100.0, dollar_volume=86100.0, vwap=21.0)


def test_a_row_known_from_a_snapshot_alone_has_no_dollars(market: SmallMarket) -> None:
    market.snapshot("10:00:10", minute="10:00:00", av=3000, day=(9.0, 10.0, 8.0, 9.5), vw=9.0)
    expect(market, volume_today=3000.0, dollar_volume=None, vwap=None, trades_today=None, open=9.0, high=10.0)
    market.trade("10:00:11", 9.0, 100)
    expect(market, volume_today=3100.0, dollar_volume=900.0, vwap=9.0, trades_today=1.0)


# ---- a snapshot is true at its time, whatever else the row has


def test_a_row_that_trades_on_is_repaired(market: SmallMarket) -> None:
    market.trade("11:00:00", 10.0, 100)
    market.trade("11:00:01", 10.1, 100)
    market.trade("11:00:10", 10.2, 100)
    market.snapshot(
        "11:00:09",
        minute="11:00:00",
        av=50200,
        day=(10.0, 12.0, 9.5, 10.15),
        minute_bar=(12.0, 9.5, 10.15),
        last=("11:00:09", 10.15),
        bid=10.1,
        ask=10.2,
    )
    expect(market, high=12.0, low=9.5, intraday_high=12.0, intraday_low=9.5, volume_today=50300.0, price=10.2)
    expect(market, price_from_intraday_high=-15.0, dollar_volume=3030.0, vwap=10.1, trades_today=3.0, bid=10.1)
    assert market.row()["updated_at"] == market.at("11:00:10")


def test_its_volume_stands_at_its_nanosecond(market: SmallMarket) -> None:
    market.trade("11:00:00", 10.0, 100)
    market.snapshot("11:00:10.2", minute="11:00:00", av=300)
    market.trade("11:00:10.2", 10.1, 200)
    market.trade("11:00:10.7", 10.1, 5000)
    market.trade("11:00:11.5", 10.1, 400)
    # Every trade's dollars are known.
    expect(market, volume_today=5700.0, dollar_volume=57560.0, vwap=10.098246)


def test_the_same_when_the_snapshot_comes_after_the_trades(market: SmallMarket) -> None:
    market.trade("11:00:10.2", 10.1, 200)
    market.trade("11:00:10.7", 10.1, 5000)
    market.trade("11:00:11.5", 10.1, 400)
    expect(market, volume_today=5600.0)
    market.snapshot("11:00:10.2", minute="11:00:00", av=300)
    expect(market, volume_today=5700.0)


def test_the_market_s_newest_trades_are_told_apart_within_a_second(market: SmallMarket) -> None:
    for number in range(200):
        market.trade(f"11:00:10.{number:03}", 10.0, 1)
    market.snapshot("11:00:10.179", minute="11:00:00", av=1000)
    expect(market, volume_today=1020.0)
    market.snapshot("11:00:10.180", minute="11:00:00", av=1002)
    expect(market, volume_today=1021.0)
    # Those of B are nothing to A.
    market.trade("11:00:10.500", 10.0, 7, symbol="B")
    market.snapshot("11:00:10.182", minute="11:00:00", av=1005)
    expect(market, volume_today=1022.0)


def test_what_a_busy_market_has_forgotten_stands_at_its_second(market: SmallMarket) -> None:
    for fraction in (".1", ".3", ".5"):
        market.trade(f"11:00:10{fraction}", 10.0, 100)
    market.frame(trades=_trades_of_b(market, "11:00:10.9", RECENT_TRADES - 1))
    # Of A's trades the last alone is still told apart: too little, until the next bar, but never too much.
    market.snapshot("11:00:10.2", minute="11:00:00", av=1000)
    expect(market, volume_today=1100.0)
    market.trade("11:00:11.1", 10.0, 10)
    expect(market, volume_today=1110.0)
    market.bar("11:00:10", 10.0, span=SECOND, av=1200, a=10.0)
    expect(market, volume_today=1210.0)


def test_a_snapshot_that_tells_of_no_more_changes_no_volume(market: SmallMarket) -> None:
    market.trade("10:00:00", 10.0, 500)
    for av in (400, 500):
        market.snapshot("10:00:10", minute="10:00:00", av=av)
        expect(market, volume_today=500.0)
    # A late trade of before is one more.
    market.trade("10:00:05", 10.0, 10)
    expect(market, volume_today=510.0)
    market.snapshot("10:00:10", minute="10:00:00", av=600)
    market.trade("10:00:06", 10.0, 10)
    expect(market, volume_today=600.0, dollar_volume=5200.0)


def test_a_minute_that_is_over_stands_for_what_came_before_its_end(market: SmallMarket) -> None:
    market.trade("10:00:59.9", 10.0, 100)
    market.trade("10:01:00", 10.0, 10)
    market.snapshot("10:01:05", minute="10:00:00", av=700)
    expect(market, volume_today=710.0)


def test_a_snapshot_without_its_minute_s_time_is_as_of_its_own(market: SmallMarket) -> None:
    market.trade("10:00:59.9", 10.0, 100)
    market.trade("10:01:06", 10.0, 10)
    market.snapshot("10:01:05", av=700)
    expect(market, volume_today=710.0)


def test_volume_of_an_earlier_day_is_none(market: SmallMarket) -> None:
    market.frame(
        vendor_snapshot=_row(market, updated_ns=market.at("04:00:01"), minute_start_ns=market.at("03:59:00"), av=9e6)
    )
    expect(market, volume_today=None)


def test_the_vendor_s_later_word_stands(market: SmallMarket) -> None:
    market.trade("10:00:00", 10.0, 100)
    market.bar("10:00:00", 10.0, av=1000, a=10.0)
    market.snapshot("10:00:59.9", minute="10:00:00", av=1500)
    expect(market, volume_today=1000.0)
    market.snapshot("10:01:30", minute="10:01:00", av=1500)
    market.snapshot("10:01:20", minute="10:01:00", av=1700)
    expect(market, volume_today=1500.0, dollar_volume=10000.0, vwap=10.0)
    # Bars of before the snapshot tell of dollars alone.
    market.bar("10:01:10", 10.0, span=SECOND, av=1200, a=11.0)
    expect(market, volume_today=1500.0, dollar_volume=13200.0, vwap=11.0)
    market.bar("10:01:30", 10.0, span=SECOND, av=1400, a=11.0)
    expect(market, volume_today=1400.0, dollar_volume=15400.0)


def test_bars_that_lower_the_volume_are_counted() -> None:
    market = SmallMarket(state := MarketState())
    market.trade("10:00:00", 10.0, 500)
    market.snapshot("10:00:30", minute="10:00:00", av=700)
    market.bar("10:00:00", 10.0, av=700, a=10.0)
    market.bar("10:00:00", 10.0, av=710, a=10.0)
    assert state.lowered_volumes == 0
    market.bar("10:00:00", 10.0, av=690, a=10.0)
    market.bar("10:01:00", 10.0, av=680, a=10.0)
    assert state.lowered_volumes == 2
    assert MarketState.from_bytes(state.to_bytes()).lowered_volumes == 2


def test_premarket_volume_is_repaired_by_snapshots_of_before_the_open(market: SmallMarket) -> None:
    market.trade("09:00:00", 10.0, 100, 12)
    market.trade("09:00:20.5", 10.0, 10, 12)
    market.snapshot("09:00:20.2", minute="09:00:00", av=1000)
    expect(market, premarket_volume=1010.0, volume_today=1010.0)
    market.trade("09:30:00", 10.0, 50)
    market.snapshot("09:30:05", minute="09:30:00", av=5000)
    expect(market, premarket_volume=1010.0, volume_today=5000.0)


# ---- what an old snapshot may set


def test_an_old_snapshot_fills_and_widens_only(market: SmallMarket) -> None:
    market.trade("10:00:00", 10.0, 100)
    market.quote("10:00:05", 9.9, 10.1)
    market.snapshot("09:59:59", minute="09:59:00", day=(9.0, 9.8, 8.0, 9.5), last=("09:59:58", 9.5), bid=1.0, ask=2.0)
    expect(market, price=10.0, open=9.0, high=10.0, low=8.0, bid=9.9, ask=10.1, price_from_low=25.0)
    market.watermark("16:00:00")
    expect(market, close=10.0)


def test_no_price_of_a_snapshot_lies_outside_of_the_days_range(market: SmallMarket) -> None:
    market.trade("17:04:00", 10.0, 100, 12)
    market.trade("17:04:01", 10.4, 100, 12)
    market.snapshot("17:05:30", last=("17:05:20", 12.0))
    expect(market, price=12.0, intraday_high=12.0, intraday_low=10.0, position_in_range=100.0)
    # Whether it was a regular one cannot be told after the close.
    expect(market, price_from_intraday_high=0.0, high=None, low=None)


def test_an_older_last_trade_still_widens(market: SmallMarket) -> None:
    market.trade("10:00:05", 10.0, 100)
    market.snapshot("10:00:03", last=("10:00:02", 9.5))
    expect(market, price=10.0, low=9.5, intraday_low=9.5, high=10.0)
    market.snapshot("10:00:04", last=("09:00:00", 11.0))
    expect(market, premarket_high=11.0, intraday_high=11.0, high=10.0)


def test_half_a_quote_replaces_none(market: SmallMarket) -> None:
    market.snapshot("10:00:00", ask=10.1)
    expect(market, bid=None, ask=10.1)
    market.snapshot("10:00:01", bid=9.9)
    expect(market, bid=None, ask=10.1)
    market.snapshot("10:00:02", bid=9.9, ask=10.2)
    market.snapshot("10:00:03", bid=9.8)
    expect(market, bid=9.9, ask=10.2)


def test_times_of_another_day_are_none(market: SmallMarket) -> None:
    market.snapshot("03:59:59", day=(1.0, 2.0, 1.0, 2.0), av=100)
    market.snapshot("20:00:00", day=(1.0, 2.0, 1.0, 2.0), av=100)
    assert market.row() == {"symbol": "A"}


def test_minutes_of_trades_are_kept_and_no_more() -> None:
    """What is older than twenty minutes is added up, so that a market without bars needs no more memory all day."""
    market = SmallMarket(state := MarketState())
    trades = 0
    for hour in range(10, 16):
        for minute in range(0, 60, 2):
            for second in range(0, 60, 5):
                market.trade(f"{hour}:{minute:02}:{second:02}", 10.0, 1)
                trades += 1
        market.snapshot(f"{hour}:59:30", minute=f"{hour}:59:00", av=1)
        # Twenty minutes of seconds and half an hour of windows beside the rest; the market's newest trades are a ring.
        assert len(state.to_bytes()) - 24 * trades < 18_000
    expect(market, volume_today=6 * 30 * 12.0, dollar_volume=6 * 30 * 120.0, vwap=10.0)
    # So old a bar says nothing any more; a newer one everything.
    market.bar("15:30:00", 10.0, av=7, a=10.0)
    expect(market, volume_today=6 * 30 * 12.0)
    market.bar("15:58:00", 10.0, av=3000, a=11.0)
    expect(market, volume_today=3000.0, vwap=11.0)


# ---- whatever comes: nothing known becomes absent, and nothing moves back

Step = Callable[[SmallMarket, str], None]
CLOCKS = st.builds(
    lambda start, second, fraction: f"{start}:{second:02}{fraction}",
    st.sampled_from(["04:05", "09:29", "09:30", "10:00", "10:01", "10:25", "15:59", "16:00"]),
    st.integers(0, 59),
    st.sampled_from(["", ".2", ".7", ".999999999"]),
)
PRICES = st.integers(90, 110).map(lambda cents: cents / 10)
SHARES = st.sampled_from([1, 100, 250, 0.1, 5000])
MAYBE = st.one_of(st.just(NAN), PRICES)
VOLUMES = st.one_of(st.just(NAN), st.integers(1, 20_000).map(float))
MINUTES = st.sampled_from(["", "04:05:00", "09:29:00", "10:00:00", "10:01:00", "16:00:00"])


@st.composite
def snapshots(draw: st.DrawFn) -> dict[str, Any]:
    low, middle, high = sorted(draw(st.tuples(PRICES, PRICES, PRICES)))
    has_day, minute = draw(st.booleans()), draw(MINUTES)
    return {
        "updated": draw(CLOCKS),
        "minute": minute,
        "av": draw(VOLUMES),
        "minute_bar": (high, low, middle) if minute and draw(st.booleans()) else (NAN, NAN, NAN),
        "day": (middle, high, low, middle) if has_day else (NAN,) * 4,
        "vw": middle if has_day else NAN,
        "last": draw(st.one_of(st.none(), st.tuples(CLOCKS, PRICES))),
        "bid": draw(MAYBE),
        "ask": draw(MAYBE),
    }


@st.composite
def bars(draw: st.DrawFn) -> dict[str, Any]:
    low, middle, high = sorted(draw(st.tuples(PRICES, PRICES, PRICES)))
    clock = draw(CLOCKS).partition(".")[0]
    span = draw(st.sampled_from([SECOND, 60 * SECOND]))
    return {
        "clock": clock if span == SECOND else clock[:6] + "00",
        "close": middle,
        "span": span,
        "high": high,
        "low": low,
        "av": draw(VOLUMES),
        "a": middle,
        "op": draw(MAYBE),
    }


PLAIN_TRADES = st.tuples(st.just("trade"), st.tuples(CLOCKS, PRICES, SHARES))
BARS = st.tuples(st.just("bar"), bars())
SNAPSHOTS = st.tuples(st.just("snapshot"), snapshots())
OTHERS = st.one_of(
    st.tuples(st.just("trade"), st.tuples(CLOCKS, PRICES, SHARES, st.sampled_from([12, 13, 15, 16, 37, 38]))),
    st.tuples(st.just("quote"), st.tuples(CLOCKS, PRICES, PRICES)),
    st.tuples(st.just("limit"), st.tuples(CLOCKS, st.sampled_from([17, 18]))),
    st.tuples(st.just("watermark"), st.tuples(CLOCKS)),
    st.tuples(st.just("burst"), st.tuples(CLOCKS, st.integers(60, 90))),
)


def play(market: SmallMarket, kind: str, values: Any) -> None:
    if kind == "burst":
        clock, count = values
        for number in range(count):
            market.trade(f"{clock.partition('.')[0]}.{number:03}", 10.0, 1)
    elif isinstance(values, dict):
        getattr(market, kind)(**values)
    else:
        getattr(market, kind)(*values)


NEVER_LESS = ("volume_today", "dollar_volume", "trades_today", "premarket_volume", "postmarket_volume", "high",
              "intraday_high", "premarket_high", "updated_at")  # fmt: skip
NEVER_MORE = ("low", "intraday_low", "premarket_low")
# A row's age is of the last time that it was brought to now, which a snapshot of it does.
SMALL = 1e-6
# What is settled is added up in another order.
LAST_DIGITS = 1e-12
# Without a gap there is nothing to fill: absent once the open turns out to be the close of the day before.
MAY_BECOME_ABSENT = {"gap_fill_percent"}


def check_nothing_lost(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert before.keys() - after.keys() <= MAY_BECOME_ABSENT
    for name in NEVER_LESS:
        if name in before:
            assert after[name] >= before[name] * (1 - LAST_DIGITS), name
    for name in NEVER_MORE:
        if name in before:
            assert after[name] <= before[name], name
    if "dollar_volume" in before:
        assert after["dollar_volume"] == pytest.approx(before["dollar_volume"], rel=LAST_DIGITS)
    else:
        assert "dollar_volume" not in after


@pytest.mark.parametrize("state", [MarketState, MarketTwin])
@settings(deadline=None, max_examples=150)
@given(steps=st.lists(st.one_of(PLAIN_TRADES, BARS, SNAPSHOTS, OTHERS), max_size=25))
@example(
    steps=[
        ("trade", ("04:05:00", 9.0, 1)),
        ("watermark", ("04:05:00",)),
        ("watermark", ("04:05:00.2",)),
        ("snapshot", {"updated": "04:05:00", "minute": "", "minute_bar": (NAN, NAN, NAN), "last": None}),
    ]
)
def test_a_snapshot_takes_nothing_away(state: Any, steps: list[tuple[str, Any]]) -> None:
    market = SmallMarket(state())
    market.reference(prev_close=10.0, avg_volume_30d=1000.0, atr=1.0)
    price_time = -1
    for kind, values in steps:
        before = market.row()
        play(market, kind, values)
        after = market.row()
        passed = max(market.state.now_ns - after.get("updated_at", 0), 0) / SECOND
        assert 0 <= after.get("age_seconds", 0.0) <= passed + SMALL
        if kind != "snapshot":
            price_time = max(price_time, *_price_times(market, kind, values))
            continue
        check_nothing_lost(before, after)
        told = {values["minute_bar"][2]: _minute_time(market, values)}
        if values["last"] is not None:
            time, price = market.at(values["last"][0]), values["last"][1]
            told[price] = max(time, told.get(price, -1))
        if after.get("price") != before.get("price"):
            assert told[after["price"]] > price_time
        if after.get("updated_at") != before.get("updated_at"):
            price_time = max(price_time, after["updated_at"])


@settings(deadline=None, max_examples=150)
@given(steps=st.lists(st.one_of(PLAIN_TRADES, BARS, SNAPSHOTS, OTHERS), max_size=30))
def test_the_twin_comes_to_the_same(steps: list[tuple[str, Any]]) -> None:
    state, twin = MarketState(), MarketTwin()
    markets = [SmallMarket(state), SmallMarket(twin)]
    copy: MarketState | None = None
    for number, (kind, values) in enumerate(steps):
        for market in markets:
            play(market, kind, values)
        if number == len(steps) // 2:
            copy = MarketState.from_bytes(state.to_bytes())
            markets.append(_going_on(markets[0], copy))
        assert differences(markets[0].row(), twin.row("A")) == {}
    if copy is not None:
        assert copy.hash() == state.hash()


@pytest.mark.parametrize("state", [MarketState, MarketTwin])
@settings(deadline=None, max_examples=150)
@given(steps=st.lists(st.one_of(PLAIN_TRADES, BARS, SNAPSHOTS), max_size=25))
def test_vwap_lies_between_the_prices_that_traded(state: Any, steps: list[tuple[str, Any]]) -> None:
    """However many shares a snapshot tells of."""
    market = SmallMarket(state())
    for kind, values in steps:
        play(market, kind, values)
        row = market.row()
        if "vwap" in row:
            assert row["intraday_low"] - 1e-6 <= row["vwap"] <= row["intraday_high"] + 1e-6
        if "dollar_volume" in row and row["volume_today"] > 0:
            assert 0 <= row["dollar_volume"]


def _price_times(market: SmallMarket, kind: str, values: Any) -> list[int]:
    """The times that may have set the price."""
    if kind == "bar":
        return [market.at(values["clock"]) + values["span"]]
    if kind == "burst":
        return [market.at(values[0].partition(".")[0])]
    return [market.at(values[0])] if kind == "trade" and (len(values) < 4 or values[3] == 38) else [-1]


def _minute_time(market: SmallMarket, values: dict[str, Any]) -> int:
    if not values["minute"] or math.isnan(values["minute_bar"][2]):
        return -1
    return min(market.at(values["minute"]) + 60 * SECOND, market.at(values["updated"]))


def _going_on(market: SmallMarket, state: MarketState) -> SmallMarket:
    copy = SmallMarket.__new__(SmallMarket)
    copy.__dict__.update(market.__dict__)
    copy.state = state
    return copy


def _trades_of_b(market: SmallMarket, clock: str, count: int) -> Any:
    return market_data_pb2.TradeBatch(
        symbol_id=[1] * count,
        time_ns=[market.at(clock)] * count,
        price=[10.0] * count,
        size=[1.0] * count,
        conditions=[0] * count,
    )


def _row(market: SmallMarket, updated_ns: int, minute_start_ns: int, av: float) -> Any:
    nan = [NAN]
    return market_data_pb2.VendorSnapshot(
        symbol_id=[0], updated_ns=[updated_ns], last_trade_ns=[0], last_trade_price=nan, day_open=nan, day_high=nan,
        day_low=nan, day_close=nan, day_vwap=nan, accumulated_volume=[av], minute_close=nan, bid=nan, ask=nan,
        minute_start_ns=[minute_start_ns], minute_high=nan, minute_low=nan,
    )  # fmt: skip
