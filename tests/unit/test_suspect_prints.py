"""Prints too far off to be believed at once: worked examples, for the compiled state and the twin alike."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tradeul.v1 import frame_pb2, market_data_pb2, stream_pb2

from fastcore.market_state import MarketState
from fastcore.reference.market_twin import MarketTwin
from services.kit.runtime.errors import SettingsError
from services.kit.runtime.settings import Settings
from tests.support.market_stream import DAYS, EPOCH, RULES, MarketStream, at
from tests.support.small_market import SECOND, SmallMarket

TAKE = frame_pb2.TradeRules()
TAKE.CopyFrom(RULES)
TAKE.take_suspect_prints = True
PRICES = ("price", "open", "high", "low", "intraday_high", "intraday_low", "premarket_high", "premarket_low")


@pytest.fixture(params=[MarketState, MarketTwin])
def market(request: pytest.FixtureRequest) -> Iterator[SmallMarket]:
    yield SmallMarket(request.param())


def lead(market: SmallMarket, *prices: float, minute: str = "11:00", count: int = 5) -> None:
    """Trades by which the next print is measured, a second apart."""
    for second, price in enumerate(prices or (10.0,) * count):
        market.trade(f"{minute}:{second:02}", price)


def suspects(market: SmallMarket) -> float:
    return float(market.row()["suspect_prints"])


# --- what is suspect


def test_a_stray_print_after_the_close(market: SmallMarket) -> None:
    """0.9242 at 17:05 with condition 3, after a close of 10.31."""
    market.trade("15:59:58", 10.31)
    market.trade("16:00:00", 10.31, 0, 15)
    for second, price in enumerate((10.30, 10.31, 10.29, 10.30)):
        market.trade(f"17:04:{50 + second}", price, 100, 12)
    before = market.row()
    market.trade("17:05:00", 0.9242, 200, 3)
    row = market.row()
    assert row["price"] == 10.30
    assert row["low"] == before["low"] == 10.31
    assert row["intraday_low"] == 10.29
    assert row["suspect_prints"] == 1
    assert row["volume_today"] == before["volume_today"] + 200
    assert row["trades_today"] == before["trades_today"] + 1
    assert row["dollar_volume"] == pytest.approx(before["dollar_volume"] + 200 * 0.9242)
    assert row["updated_at"] == market.at("17:05:00")
    market.trade("17:06:30", 10.32, 100, 12)
    assert market.row()["intraday_low"] == 10.29


def test_a_print_that_is_held_changes_nothing_else(market: SmallMarket) -> None:
    market.reference(prev_close=9.5, avg_volume_30d=1000.0)
    lead(market)
    before = market.row()
    market.trade("11:00:05", 5.0, 300)
    row = market.row()
    changed = {name for name in row.keys() | before.keys() if row.get(name) != before.get(name)}
    assert changed == {
        "volume_today", "trades_today", "dollar_volume", "vwap", "price_vs_vwap", "volume_ratio", "score",
        "suspect_prints", "updated_at", *(f"vol_{n}m" for n in (1, 5, 10, 15, 30)), "last_size",
        *(f"{name}_{n}m" for name in ("dollar_volume", "trades", "largest") for n in (1, 5)),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("median", "price", "is_suspect"),
    [
        (10.0, 12.0, False), (10.0, 12.01, True), (10.0, 8.0, False), (10.0, 7.99, True),
        (3.0, 3.61, True), (3.0, 3.59, False),
        (2.0, 3.0, False), (2.0, 3.01, True), (2.0, 1.0, False), (2.0, 0.99, True),
        (0.75, 1.13, True), (0.75, 1.12, False),
        (0.5, 1.0, False), (0.5, 1.01, True), (0.5, 0.125, False), (0.5, 0.12, True),
    ],
)  # fmt: skip
def test_the_tolerance_goes_by_the_median(market: SmallMarket, median: float, price: float, is_suspect: bool) -> None:
    lead(market, *[median] * 5)
    market.trade("11:00:05", price)
    assert suspects(market) == is_suspect
    assert market.row()["price"] == (median if is_suspect else price)


@pytest.mark.parametrize(
    ("prices", "median"),
    [
        ((10.0, 11.0, 12.0), 11.0),
        # Of four the mean of the two in the middle.
        ((10.0, 11.0, 11.5, 9.5), 10.5),
        # Only the last five count.
        ((8.5, 8.5, 8.5, 10.0, 10.0, 10.0, 10.2, 10.1), 10.0),
    ],
)
def test_the_median_of_three_to_five(market: SmallMarket, prices: tuple[float, ...], median: float) -> None:
    lead(market, *prices)
    market.trade("11:00:10", round(median * 1.2 - 0.01, 2))
    assert suspects(market) == 0
    market.trade("11:00:20", 100.0, 100)
    assert suspects(market) == 1


def test_two_trades_are_too_few_to_say_what_is_off(market: SmallMarket) -> None:
    lead(market, count=2)
    # Neither an odd lot nor an official print sets a price.
    market.trade("11:00:03", 10.0, 5, 37)
    market.trade("11:00:03", 10.0, 0, 16)
    market.trade("11:00:04", 5.0)
    assert market.row()["price"] == 5.0


@pytest.mark.parametrize(("clock", "is_suspect"), [("11:10:02", True), ("11:10:02.001", False)])
def test_trades_are_forgotten_after_ten_minutes(market: SmallMarket, clock: str, is_suspect: bool) -> None:
    lead(market)
    market.trade(clock, 5.0)
    assert suspects(market) == is_suspect


def test_nothing_is_suspect_while_trading_is_halted(market: SmallMarket) -> None:
    lead(market)
    market.limit("11:00:06", 17)
    market.trade("11:00:07", 5.0)
    assert market.row()["price"] == 5.0
    market.limit("11:00:08", 18)
    market.trade("11:00:09", 20.0)
    assert suspects(market) == 1


def test_a_halving_when_trading_resumes_is_confirmed_by_the_next_trade(market: SmallMarket) -> None:
    lead(market)
    market.limit("11:00:06", 17)
    market.limit("11:05:06", 18)
    market.trade("11:05:06.1", 5.0, 10_000, 28)
    assert market.row()["price"] == 10.0
    market.trade("11:05:06.3", 4.98, 300)
    row = market.row()
    assert (row["price"], row["low"], row["suspect_prints"]) == (4.98, 4.98, 1)
    # Three of the last five are still of before.
    market.trade("11:05:07", 4.9, 300)
    assert (market.row()["price"], suspects(market)) == (4.98, 2)
    for second, price in enumerate((4.8, 4.9, 4.7)):
        market.trade(f"11:05:{10 + second}", price, 300)
        assert (market.row()["price"], suspects(market)) == (price, 2)


@pytest.mark.parametrize(
    ("clock", "price", "is_suspect"),
    [
        # Bands 9.5 and 10.5, half of their width is 0.5.
        ("11:00:20", 11.0, False), ("11:00:20", 11.01, True), ("11:00:20", 9.0, False), ("11:00:20", 8.99, True),
        # After 60 s the median is what counts.
        ("11:01:10", 11.01, True), ("11:01:10.001", 11.01, False), ("11:01:10.001", 12.1, True),
    ],
)  # fmt: skip
def test_bands_come_before_the_median(market: SmallMarket, clock: str, price: float, is_suspect: bool) -> None:
    lead(market)
    market.limit("11:00:10", upper=10.5, lower=9.5)
    market.trade(clock, price)
    assert suspects(market) == is_suspect


def test_bands_are_of_regular_hours(market: SmallMarket) -> None:
    lead(market, minute="16:00")
    market.limit("15:59:59", upper=10.5, lower=9.5)
    market.trade("16:00:06", 11.5)
    assert suspects(market) == 0


def test_one_band_alone_is_none(market: SmallMarket) -> None:
    lead(market)
    market.limit("11:00:10", upper=10.5)
    market.trade("11:00:12", 11.5)
    assert suspects(market) == 0


# --- what confirms


def test_a_confirmed_print_counts_at_the_time_of_the_trade_that_confirms_it(market: SmallMarket) -> None:
    lead(market)
    market.trade("11:00:05", 13.0, 300)
    market.trade("11:00:45", 13.49, 100, 5)
    row = market.row()
    # Condition 5 sets high and low alone; the price is that of the print.
    assert (row["price"], row["high"], row["volume_today"], row["trades_today"]) == (13.0, 13.49, 900, 7)
    market.trade("11:00:40", 13.2)
    assert market.row()["price"] == 13.0
    market.watermark("11:01:45")
    # Before the last minute, at 11:00:45, the price was 13.0: chg_1m begins at 11:00:45 rounded down to 10 s.
    assert market.row()["chg_1m"] == 30.0
    market.watermark("11:01:50")
    assert market.row()["chg_1m"] == 0.0


@pytest.mark.parametrize(
    ("clock", "price", "is_confirmed"),
    [
        # The tolerance is 2.0, a quarter of it 0.5.
        ("11:00:06", 14.5, True), ("11:00:06", 13.5, True), ("11:00:06", 14.51, False), ("11:00:06", 13.49, False),
        ("11:01:05", 14.0, True), ("11:01:05.001", 14.0, False),
        ("11:00:04.999", 14.0, False), ("11:00:05", 14.0, True),
    ],
)  # fmt: skip
def test_what_confirms(market: SmallMarket, clock: str, price: float, is_confirmed: bool) -> None:
    lead(market)
    market.trade("11:00:05", 14.0)
    market.trade(clock, price)
    assert market.row()["price"] == (price if is_confirmed else 10.0)
    assert suspects(market) == (1 if is_confirmed else 2)


def test_volume_alone_confirms_nothing(market: SmallMarket) -> None:
    lead(market)
    market.trade("11:00:05", 14.0)
    market.trade("11:00:06", 14.0, 5, 37)
    assert market.row()["price"] == 10.0


def test_a_trade_a_minute_later_ends_the_wait_for_trades(market: SmallMarket) -> None:
    lead(market)
    market.trade("11:00:05", 14.0)
    market.trade("11:01:06", 10.0)
    # In time, but late to come.
    market.trade("11:00:06", 14.0)
    assert suspects(market) == 2
    assert market.row()["high"] == 10.0


def test_one_trade_confirms_all_that_it_is_near_to(market: SmallMarket) -> None:
    lead(market)
    for second, price in enumerate((14.0, 15.0, 14.6)):
        market.trade(f"11:00:{10 + second}", price)
        if price != 14.6:
            assert market.row()["price"] == 10.0
    # 14.6 is no more than 0.5 from 15.0, and is no suspect itself.
    row = market.row()
    assert (row["price"], row["high"], row["suspect_prints"]) == (14.6, 15.0, 2)
    # The median is 10.0 still: held, and confirmed with the first one.
    market.trade("11:00:20", 13.6)
    market.trade("11:00:21", 13.8)
    row = market.row()
    assert (row["price"], row["suspect_prints"]) == (13.8, 2)


def test_of_more_than_sixteen_the_first_waits_no_longer(market: SmallMarket) -> None:
    lead(market)
    for number in range(17):
        market.trade(f"11:00:{10 + number}", 20.0 + 2 * number)
    assert suspects(market) == 17
    market.trade("11:00:40", 20.0)
    assert market.row()["high"] == 10.0
    market.trade("11:00:41", 24.0)
    assert market.row()["high"] == 24.0


@pytest.mark.parametrize(
    ("bar", "is_confirmed"),
    [
        ({"clock": "11:00:00", "low": 5.0}, True),
        ({"clock": "11:00:00", "low": 5.01}, False),
        ({"clock": "11:01:00", "low": 5.0}, False),
        ({"clock": "11:00:05", "low": 5.0, "span": SECOND}, True),
        ({"clock": "11:00:59", "low": 4.0, "span": SECOND}, True),
    ],
)
def test_a_bar_of_its_minute_confirms(market: SmallMarket, bar: dict[str, Any], is_confirmed: bool) -> None:
    lead(market)
    market.trade("11:00:05", 5.0)
    # Long after trades could have.
    market.trade("11:03:00", 10.0)
    market.bar(close=10.0, high=10.0, **bar)
    market.trade("11:03:01", 10.0)
    row = market.row()
    assert row["low"] == min(bar["low"], 5.0 if is_confirmed else 10.0)
    assert row["price"] == 10.0
    if isinstance(market.state, MarketState):
        assert market.state.suspect_prints["confirmed_by_bar"] == is_confirmed


def test_a_bar_confirms_at_its_end(market: SmallMarket) -> None:
    lead(market)
    market.trade("11:00:55", 5.0, 300, 3)
    market.bar("11:00:00", 10.0, low=5.0, high=10.0)
    market.watermark("11:02:00")
    assert market.row()["price"] == 10.0
    assert market.row()["chg_1m"] == 100.0


def test_bars_are_not_suspected(market: SmallMarket) -> None:
    lead(market)
    market.bar("11:00:00", 5.0, low=4.0, high=10.0)
    row = market.row()
    assert (row["price"], row["low"], row["suspect_prints"]) == (5.0, 4.0, 0)


@pytest.mark.parametrize(
    ("last", "price"),
    [
        (("17:05:00", 0.9242), 10.0),
        # The stream cuts times to milliseconds.
        (("17:05:00.000999999", 0.9242), 10.0),
        (("17:05:00.001", 0.9242), 0.9242),
        (("17:05:00", 0.9243), 0.9243),
    ],
)
def test_a_snapshot_that_tells_of_a_held_print_confirms_nothing(
    market: SmallMarket, last: tuple[str, float], price: float
) -> None:
    """The snapshot's last trade is the very print that waits."""
    lead(market, minute="17:04")
    market.trade("17:05:00", 0.9242)
    market.snapshot("17:05:30", last=last)
    row = market.row()
    assert (row["price"], row["suspect_prints"]) == (price, 1)
    # It may still be confirmed, and be told of then.
    market.trade("17:05:40", 0.93)
    market.trade("17:05:41", 10.0)
    assert market.row()["intraday_low"] == 0.9242


# --- days, rules, copies


def test_a_new_day_knows_nothing_of_the_last(market: SmallMarket) -> None:
    lead(market)
    market.trade("11:00:05", 5.0)
    market.new_day(DAYS[1])
    assert "suspect_prints" not in market.row()
    market.trade("04:00:00", 5.0, 100, 12)
    row = market.row()
    assert (row["price"], row["suspect_prints"], row["volume_today"]) == (5.0, 0, 100)
    if isinstance(market.state, MarketState):
        assert set(market.state.suspect_prints.values()) == {0}


def test_taken_at_once_when_the_rules_say_so(market: SmallMarket) -> None:
    lead(market)
    market.trade("11:00:05", 5.0)
    market.frame(trade_rules=TAKE)
    # What waited goes on waiting.
    assert market.row()["price"] == 10.0
    market.trade("11:00:06", 20.0)
    assert (market.row()["price"], suspects(market)) == (20.0, 1)
    market.trade("11:00:07", 5.1)
    assert market.row()["low"] == 5.0
    market.frame(trade_rules=RULES)
    market.trade("11:00:08", 500.0)
    assert (market.row()["price"], suspects(market)) == (5.1, 2)


def test_a_copy_waits_for_the_same() -> None:
    state = MarketState()
    market = SmallMarket(state)
    lead(market)
    market.trade("11:00:05", 14.0)
    market.trade("11:00:06", 6.0)
    other = MarketState.from_bytes(state.to_bytes())
    assert other.hash() == state.hash()
    copy = SmallMarket.__new__(SmallMarket)
    copy.__dict__.update(market.__dict__, state=other)
    for each in (market, copy):
        each.trade("11:00:07", 14.1)
        each.bar("11:00:00", 10.0, low=6.0, high=10.0)
    assert copy.row() == market.row()
    assert market.row()["high"] == 14.1
    assert market.row()["low"] == 6.0
    assert other.hash() == state.hash()
    assert state.suspect_prints == {"unconfirmed": 0, "confirmed_by_trade": 1, "confirmed_by_bar": 1}
    assert other.suspect_prints == state.suspect_prints


def test_the_setting() -> None:
    assert Settings.load({}).suspect_prints == "hold"
    assert Settings.load({"TRADEUL_SUSPECT_PRINTS": "Take"}).suspect_prints == "take"
    with pytest.raises(SettingsError, match=r"TRADEUL_SUSPECT_PRINTS: .*'hold' or 'take'"):
        Settings.load({"TRADEUL_SUSPECT_PRINTS": "drop"})


# --- properties, which no twin is asked for


class Print(NamedTuple):
    """A trade of the one symbol, some ms after the one before; half the time it lies far off."""

    wait_ms: int
    price: float
    conditions: int = 0


FAIR = st.floats(9.5, 10.5).map(lambda price: round(price, 2))
FAR = st.one_of(st.floats(0.01, 7.0), st.floats(13.0, 1000.0)).map(lambda price: round(price, 2))
WAITS = st.integers(0, 40_000)


def applied(prints: Sequence[Print], rules: frame_pb2.TradeRules = RULES, batch: int = 1) -> MarketState:
    state = MarketState()
    start = at(DAYS[0].date, "11:00:00")
    bodies: list[dict[str, Any]] = [
        {"trading_day": DAYS[0].message()},
        {"symbols": frame_pb2.SymbolTable(first_id=0, symbols=["A"])},
        {"trade_rules": rules},
    ]
    times, clock = [], start
    for one in prints:
        clock += one.wait_ms * 1_000_000
        times.append(clock)
    for first in range(0, len(prints), batch):
        part = slice(first, first + batch)
        bodies.append(
            {
                "trades": market_data_pb2.TradeBatch(
                    symbol_id=[0] * len(times[part]),
                    time_ns=times[part],
                    price=[one.price for one in prints[part]],
                    size=[100.0] * len(times[part]),
                    conditions=[one.conditions for one in prints[part]],
                )
            }
        )
    for sequence, body in enumerate(bodies, 1):
        position = stream_pb2.StreamPosition(epoch=EPOCH, sequence=sequence)
        state.apply(frame_pb2.Frame(position=position, **body).SerializeToString())
    state.refresh()
    return state


FAIR_PRINTS = st.lists(st.builds(Print, WAITS, FAIR, st.just(0)), min_size=5, max_size=20)


@settings(max_examples=60, deadline=None)
@given(FAIR_PRINTS, st.data())
def test_lone_strays_appear_in_no_price(fair: list[Print], data: st.DataObject) -> None:
    """However many, while no two are near each other: the same prices as without them."""
    prints = list(fair)
    # A quarter of the tolerance is at most 0.53.
    strays = data.draw(st.lists(st.sampled_from((0.01, 1.0, 2.0, 4.5, 6.9, 13.0, 14.0, 99.0, 1000.0)), unique=True))
    for price in strays:
        # Behind three trades at least, and in time for their ten minutes.
        prints.insert(data.draw(st.integers(3, len(prints))), Print(0, price))
    row = applied(prints).row("A")
    plain = applied(fair).row("A")
    assert row["suspect_prints"] == len(strays)
    assert {name: row.get(name) for name in PRICES} == {name: plain.get(name) for name in PRICES}
    assert row["volume_today"] == 100 * len(prints)
    assert row["trades_today"] == len(prints)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.builds(Print, WAITS, st.one_of(FAIR, FAR), st.sampled_from([0, 1 << 5, 1 << 37])), max_size=40))
def test_all_prices_are_prices_of_trades(prints: list[Print]) -> None:
    row: dict[str, Any] = applied(prints).row("A") if prints else {}
    traded = {one.price for one in prints}
    assert {row[name] for name in PRICES if name in row} <= traded
    taken: dict[str, Any] = applied(prints, TAKE).row("A") if prints else {}
    # Held or not, what is counted is the same, and nothing reaches further than what has traded.
    for name in ("volume_today", "trades_today", "dollar_volume", "vwap", "vol_30m", "updated_at"):
        assert row.get(name) == taken.get(name)
    assert taken.get("suspect_prints", 0) == 0
    if "high" in row:
        assert taken["low"] <= row["low"] <= row["high"] <= taken["high"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.builds(Print, WAITS, st.one_of(FAIR, FAR), st.just(0)), max_size=40), st.integers(2, 50))
def test_batches_make_no_difference(prints: list[Print], batch: int) -> None:
    assert applied(prints, batch=batch).hash() == applied(prints).hash()


@settings(max_examples=60, deadline=None)
@given(FAIR_PRINTS, FAR, st.integers(0, 60_000), FAIR_PRINTS)
def test_a_confirmed_print_is_as_one_that_came_then(
    before: list[Print], far: float, wait_ms: int, after: list[Print]
) -> None:
    """A pair of a price no further apart than confirms: as if both had come at the later time and been taken."""
    first = [one._replace(wait_ms=one.wait_ms % 1000) for one in before]
    held = applied([*first, Print(0, far), Print(wait_ms, far), *after]).row("A")
    together = applied([*first, Print(wait_ms, far), Print(0, far), *after]).row("A")
    for name in (*PRICES, "volume_today", "trades_today", "suspect_prints", "chg_1m", "chg_5m"):
        assert held.get(name) == together.get(name), name


@pytest.mark.parametrize("seed", range(3))
def test_with_nothing_suspect_every_trade_sets_what_it_may(seed: int) -> None:
    """What a stream without suspicion comes to is known without the twin: the extremes of all that may set them."""
    stream = MarketStream(seed, length=800, two_days=False, snapshots=False)
    state = MarketState()
    reach: dict[str, tuple[float, float]] = {}
    symbols: list[str] = []
    day = DAYS[0].message()
    for encoded in stream.frames(10):
        frame = frame_pb2.Frame.FromString(encoded)
        if frame.HasField("trade_rules"):
            frame.trade_rules.take_suspect_prints = True
            encoded = frame.SerializeToString()
        symbols += frame.symbols.symbols
        points: list[tuple[int, float, float]] = []
        for i, symbol_id in enumerate(frame.trades.symbol_id):
            conditions, time = frame.trades.conditions[i], frame.trades.time_ns[i]
            if not day.market_open_ns <= time < day.market_close_ns:
                conditions &= ~(1 << 12) if not conditions & (1 << 15 | 1 << 16) else -1
            if not conditions & RULES.forbids_high_low:
                points.append((symbol_id, frame.trades.price[i], frame.trades.price[i]))
        points += zip(frame.bars.symbol_id, frame.bars.high, frame.bars.low, strict=True)
        for symbol_id, high, low in points:
            highest, lowest = reach.get(symbols[symbol_id], (high, low))
            reach[symbols[symbol_id]] = max(high, highest), min(low, lowest)
        state.apply(encoded)
    state.refresh()
    rows = {symbol: state.row(symbol) for symbol in symbols}
    assert {s: (r["intraday_high"], r["intraday_low"]) for s, r in rows.items() if "intraday_high" in r} == reach
    assert not any(row.get("suspect_prints") for row in rows.values())
    assert set(state.suspect_prints.values()) == {0}
