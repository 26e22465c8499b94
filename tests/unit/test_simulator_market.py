"""The simulated market without a network: the same whatever is asked of it, and like a market."""

import datetime
import functools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from services.data_ingest.feed.halt_feed import HaltFeedParser, HaltItem
from services.kit.runtime.errors import StartError
from services.kit.runtime.setting_groups import SimSettings
from services.simulator import tape as tape_module
from services.simulator import ticks as ticks_module
from services.simulator.calendar import CLOSE_MINUTE, EARLY_CLOSE_MINUTE, END_MINUTE, OPEN_MINUTE, new_york_time
from services.simulator.daily import daily_bars
from services.simulator.halt_feed import HaltDocument, document
from services.simulator.history import symbol_minutes
from services.simulator.market import Market
from services.simulator.market_day import MarketDay
from services.simulator.messages import Kind
from services.simulator.minutes import Bars
from services.simulator.symbols import EXCHANGES
from services.simulator.tape import Event, Tape

MONDAY = datetime.datetime(2025, 11, 24)
SYMBOLS = 800


def market_at(
    hour: int, minute: int = 0, day: datetime.datetime = MONDAY, symbols: int = SYMBOLS, seed: int = 1
) -> Market:
    return Market(SimSettings(seed=seed, symbols=symbols, start=day.replace(hour=hour, minute=minute)))


@functools.cache
def morning() -> Market:
    """One that no test moves on."""
    return market_at(9, 25)


def tape_of(market: Market, minutes: range) -> list[Event]:
    """What is sent in these minutes, from a tape of its own."""
    tape = Tape(market.plans, MarketDay(market.plans, market.plans.current), minutes.start)
    events: list[Event] = []
    for _ in range(len(minutes) * 60):
        events += tape.second()
    return events


def decoded(events: Iterable[Event], kind: str) -> list[dict[str, Any]]:
    """Well-formed events of a kind."""
    return [message for event in events if (message := json.loads(event.text)).get("ev") == kind]


def is_sound(trade: dict[str, Any]) -> bool:
    """Not one of the bad ticks."""
    return (
        not str(trade["i"]).startswith("b")
        and trade["t"] > 0
        and 15 not in trade.get("c", ())
        and 16 not in trade.get("c", ())
    )


def test_same_seed_same_bytes_whenever_it_was_started() -> None:
    minutes = range(OPEN_MINUTE, OPEN_MINUTE + 1)
    texts = [event.text for event in tape_of(market_at(9, 25, symbols=100), minutes)]
    assert texts == [event.text for event in tape_of(market_at(4, symbols=100), minutes)]
    # A start weeks earlier comes to the same Monday.
    earlier = market_at(20, day=datetime.datetime(2025, 11, 6), symbols=100)
    while earlier.day.date < MONDAY.date():
        earlier.plans.advance()
    assert texts == [event.text for event in tape_of(earlier, minutes)]
    assert texts != [event.text for event in tape_of(market_at(9, 25, symbols=100, seed=2), minutes)]


def test_fewer_symbols_are_the_most_active_of_them() -> None:
    few, many = market_at(9, 25, symbols=20), morning()
    assert few.universe.tickers == many.universe.tickers[:20]


def test_a_start_at_midday_knows_the_day_so_far() -> None:
    whole = Tape(morning().plans, MarketDay(morning().plans, morning().plans.current))
    for _ in range(60 * 420):
        if whole.next_second % 60 == 0 and whole.next_second < 60 * 419:
            # Minutes are what counts; their seconds are played in the last one only.
            whole.day.end_minute(whole.day.begin_minute())
            whole.next_second += 60
            continue
        if whole.next_second >= 60 * 420:
            break
        whole.second()
    late = MarketDay(morning().plans, morning().plans.current)
    late.replay(420)
    for name in ("volume", "trades", "open", "high", "low", "close", "regular_volume"):
        np.testing.assert_array_equal(getattr(whole.day.sums, name), getattr(late.sums, name), err_msg=name)


def test_trades_of_a_minute_are_its_bar() -> None:
    market = morning()
    minutes = range(OPEN_MINUTE, OPEN_MINUTE + 1)
    # Late prints come some seconds later, bars of the minute too.
    events = tape_of(market, range(OPEN_MINUTE, OPEN_MINUTE + 2))
    begin = market.day.minute_ns(minutes.start) // 1_000_000
    trades: dict[str, dict[tuple[int, str], dict[str, Any]]] = defaultdict(dict)
    for trade in decoded(events, "T"):
        if is_sound(trade) and begin <= trade["t"] < begin + 60_000:
            trades[trade["sym"]][trade["x"], trade["i"]] = trade
    bars = {bar["sym"]: bar for bar in decoded(events, "AM") if bar["s"] == begin and bar["h"] >= bar["l"]}
    assert len(bars) > SYMBOLS * 0.8
    assert set(bars) == set(trades)
    for symbol, bar in bars.items():
        able = [trade for trade in trades[symbol].values() if 37 not in trade.get("c", ())]
        if not able:
            assert bar["o"] == bar["h"] == bar["l"] == bar["c"]
            continue
        able.sort(key=lambda trade: int(trade["q"]))
        prices = [trade["p"] for trade in able]
        assert (bar["o"], bar["h"], bar["l"], bar["c"]) == (prices[0], max(prices), min(prices), prices[-1]), symbol
        # A bar that will be corrected lacks a trade.
        assert bar["v"] <= sum(trade["s"] for trade in trades[symbol].values())
    # Corrected bars come up to ten minutes later.
    complete = [s for s, bar in bars.items() if bar["v"] == sum(trade["s"] for trade in trades[s].values())]
    assert len(complete) > 0.98 * len(bars)


def test_history_is_the_live_market() -> None:
    market = morning()
    day = MarketDay(market.plans, market.plans.current)
    live: dict[int, list[tuple[float, ...]]] = defaultdict(list)
    stories = [s for s in market.plans.current.own_shapes if s < SYMBOLS][:3]
    watched = [0, 1, 300, SYMBOLS - 1, *stories]
    while day.next_minute < END_MINUTE:
        minute = day.begin_minute()
        for symbol in watched:
            if minute.after[symbol] > minute.before[symbol]:
                place = minute.place[symbol]
                live[symbol].append((minute.number, *(column[place] for column in minute.bars)))
        day.end_minute(minute)
    for symbol in watched:
        minutes = symbol_minutes(market.plans, symbol, [market.plans.current])
        assert live[symbol] == list(zip(minutes.minute, *minutes.bars, strict=True))


@pytest.mark.parametrize("back", [1, 3])
def test_daily_bars_are_the_minutes_of_regular_hours(back: int) -> None:
    market = morning()
    plan = market.plans.get(market.day.number - back)
    assert plan is not None
    daily = daily_bars(market.plans, plan)
    day = MarketDay(market.plans, plan)
    day.replay(plan.day.close_minute)
    sums = day.sums
    traded = daily.trades > 0
    np.testing.assert_array_equal(daily.volume, sums.regular_volume)
    np.testing.assert_array_equal(daily.trades, sums.regular_trades)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(getattr(daily, name)[traded], getattr(sums, name)[traded], err_msg=name)
    average = sums.regular_dollars[traded] / sums.regular_volume[traded]
    np.testing.assert_allclose(daily.vwap[traded], average, rtol=0.03)


def test_prices_go_on_from_day_to_day_and_the_shares_of_a_split() -> None:
    market = market_at(9, 25, symbols=3_000)
    plans = market.plans
    splits = [split for split in plans.splits if plans.first_index + 2 < split.number <= market.day.number]
    assert splits
    for split in splits:
        days = [plan for number in (split.number - 1, split.number) if (plan := plans.get(number)) is not None]
        raw = symbol_minutes(plans, split.symbol, days, adjusted=False)
        adjusted = symbol_minutes(plans, split.symbol, days, adjusted=True)
        is_before = raw.day < split.number
        if is_before.all() or not is_before.any():
            continue
        last, first = raw.bars.close[is_before][-1], raw.bars.open[~is_before][0]
        assert first * split.ratio == pytest.approx(last, rel=0.5)
        assert adjusted.bars.close[is_before][-1] == pytest.approx(
            last / split.ratio * _later(plans.splits, split), rel=0.01
        )


def _later(splits: list[Any], split: Any) -> float:
    """What splits after it make of a price."""
    product = 1.0
    for other in splits:
        if other.symbol == split.symbol and other.number > split.number:
            product /= other.ratio
    return product


def test_volume_is_u_shaped_and_most_of_it_regular() -> None:
    day = MarketDay(morning().plans, morning().plans.current)
    by_minute = np.array([day.counts(minute).sum() for minute in range(END_MINUTE + 1)])
    trades = np.diff(by_minute)
    opening, midday = trades[OPEN_MINUTE : OPEN_MINUTE + 5].mean(), trades[500:560].mean()
    closing = trades[CLOSE_MINUTE - 5 : CLOSE_MINUTE].mean()
    assert opening > 5 * midday
    assert closing > 2 * midday
    assert midday > 3 * trades[:OPEN_MINUTE].mean()
    assert midday > 3 * trades[CLOSE_MINUTE + 60 :].mean()
    assert trades.min() >= 0


def test_an_ordinary_symbol_trades_as_usual_and_news_many_times_that() -> None:
    market = market_at(9, 25, symbols=3_000)
    plans = market.plans
    at = 480
    past = [plan for back in range(1, 11) if (plan := plans.get(market.day.number - back)) and not plan.day.is_early]
    usual = np.mean([MarketDay(plans, plan).counts(at) for plan in past], axis=0)
    today = MarketDay(plans, plans.current).counts(at)
    rvol = today / np.maximum(usual, 1.0)
    news = plans.current.stories.symbols
    ordinary = np.setdiff1d(np.arange(3_000), plans.current.own_shapes)
    assert np.median(rvol[ordinary]) == pytest.approx(1.0, abs=0.15)
    assert np.median(rvol[news]) > 3.0
    gaps = np.expm1(plans.current.open - plans.current.before) * 100.0
    assert (gaps >= 4.0).sum() >= 10
    assert (gaps <= -4.0).sum() >= 5
    assert gaps.max() <= 81.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_dearest_share_turns_over_no_more_dollars_than_the_most_active(seed: int) -> None:
    market = market_at(9, 25, symbols=2000, seed=seed)
    index = market.plans.universe.index
    for back in range(1, 11):
        plan = market.plans.get(market.plans.current.day.number - back)
        assert plan is not None
        daily = daily_bars(market.plans, plan)
        dollars = daily.volume * daily.close
        shares = daily.volume[index["BRK.A"]]
        assert 100 < shares < 10_000
        assert dollars[index["BRK.A"]] < dollars[index["SPY"]] / 2
        # Its own share of all is that of one name among thousands.
        assert dollars.max() < dollars.sum() / 8


def test_nothing_trades_during_a_halt() -> None:
    market = market_at(9, 25, symbols=3_000)
    day = MarketDay(market.plans, market.plans.current)
    assert day.halts
    listed = {market.universe.exchange[symbol]: symbol for symbol, (halt, *_) in day.halts.items()
              if halt.first >= OPEN_MINUTE}  # fmt: skip
    nasdaq, nyse = listed[EXCHANGES.index("XNAS")], listed[EXCHANGES.index("XNYS")]
    symbol = nasdaq
    first, last = day.halts[symbol][0]
    assert day.counts(first)[symbol] == day.counts(last)[symbol]
    ticker = market.universe.tickers[symbol]
    events = [message for message in decoded(tape_of(market, range(first, last + 1)), "LULD") if message["T"] == ticker]
    said = [message["i"] for message in events]
    assert [17] in said
    assert said[-1] == [18]
    assert all(message["l"] < message["h"] for message in events)
    # Of another market's halts nothing is said there.
    first, last = day.halts[nyse][0]
    assert day.counts(first)[nyse] == day.counts(last)[nyse]
    other = market.universe.tickers[nyse]
    events = decoded(tape_of(market, range(first, last + 1)), "LULD")
    assert all(not message["i"] for message in events if message["T"] == other)


def listed(found: HaltDocument) -> dict[tuple[str, int], HaltItem]:
    """The items of a feed by symbol and beginning."""
    parser = HaltFeedParser()
    parser.feed(found.body)
    parser.close()
    assert not parser.set_aside
    return {(item.symbol, item.halted_at_ns): item for item in parser.items}


def test_the_halt_feed_lists_halts_of_all_markets_and_announces_resumptions() -> None:
    market = market_at(15, 55, symbols=3_000)
    day, universe = market.day, market.universe
    told: dict[tuple[str, int], HaltItem] = {}
    for minute in range(0, day.close_minute, 7):
        market.now_ns = day.minute_ns(minute)
        now = document(market)
        items = listed(now)
        assert all(item.halted_at_ns <= market.now_ns for item in items.values())
        # What has been said stays, but for resumptions that are announced, before they come.
        for place, item in told.items():
            if items[place] != item:
                assert (item.resumes_at_ns, items[place]._replace(resumes_at_ns=0)) == (0, item)
        told = items
        assert now.is_as({"If-None-Match": now.etag}) and now.is_as({"If-Modified-Since": now.modified})
        assert not now.is_as({"If-None-Match": '"other"'}) and not now.is_as({"If-Modified-Since": "yesterday"})
    # Each of the day's halts is there, within two seconds of the minute in which trades stop.
    halts = {(universe.tickers[symbol], halt) for symbol, own in market.market_day.halts.items() for halt in own}
    begun = [(ticker, halt) for ticker, halt in halts if day.minute_ns(halt.first) < market.now_ns - 2 * 10**9]
    found = {(item.symbol, (item.halted_at_ns - day.start_ns) // (60 * 10**9)): item for item in told.values()}
    for ticker, halt in begun:
        item = found[ticker, halt.first]
        assert item.halted_at_ns - day.minute_ns(halt.first) < 2 * 10**9
        assert item.resumes_at_ns in (0, day.minute_ns(halt.last))
        assert item.reason == ("LUDP" if halt.last - halt.first <= 10 else "T1")
    assert {EXCHANGES[int(universe.exchange[universe.index[symbol]])] for symbol, _ in told} >= {"XNAS", "XNYS"}


def test_trade_ids_begin_at_1_each_day_at_each_exchange() -> None:
    def ids(market: Market) -> dict[tuple[str, int], list[int]]:
        found: dict[tuple[str, int], set[int]] = defaultdict(set)
        for trade in decoded(tape_of(market, range(OPEN_MINUTE + 3)), "T"):
            if is_sound(trade):
                found[trade["sym"], trade["x"]].add(int(trade["i"]))
        return {where: sorted(numbers) for where, numbers in found.items()}

    days = [ids(market_at(4, day=day, symbols=30)) for day in (MONDAY, MONDAY + datetime.timedelta(1))]
    for day in days:
        assert len(day) > 200
        for (symbol, exchange), numbers in day.items():
            # The newest block of 16 trades has not all of its places yet.
            assert numbers[0] <= 4 and numbers[-1] <= len(numbers) + 4, (symbol, exchange)
    # So that who takes yesterday's ids for today's would lose most of the morning.
    both = days[0].keys() & days[1].keys()
    again = sum(len(set(days[0][where]) & set(days[1][where])) for where in both)
    assert again > 0.5 * sum(map(len, days[1].values()))


def test_prints_carry_the_conditions_of_their_session() -> None:
    market = market_at(9, 25, symbols=500)
    pre = [t for t in decoded(tape_of(market, range(320, 321)), "T") if is_sound(t)]
    assert pre
    assert all(12 in trade["c"] for trade in pre)
    opening = decoded(tape_of(market, range(OPEN_MINUTE, OPEN_MINUTE + 1)), "T")
    conditions = Counter(condition for trade in opening for condition in trade.get("c", ()))
    assert {14, 16, 25, 37} <= conditions.keys()
    assert 12 not in conditions
    closing = decoded(tape_of(market, range(CLOSE_MINUTE - 1, CLOSE_MINUTE + 1)), "T")
    close_ms = market.day.minute_ns(CLOSE_MINUTE) // 1_000_000
    official = [trade for trade in closing if trade.get("c") == [15]]
    assert len(official) > 450
    assert all(close_ms <= trade["t"] < close_ms + 1_000 for trade in official)


def test_the_feed_stumbles_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, often in {"DUPLICATE_ONE_IN": 100, "LATE_ONE_IN": 30, "RESENT_BAR_ONE_IN": 10}.items():
        monkeypatch.setattr(tape_module, name, often)
    monkeypatch.setattr(tape_module, "BAD_TICK_ONE_IN_SECONDS", 5)
    events = tape_of(market_at(9, 25, symbols=40), range(500, 512))
    trades = decoded(events, "T")
    keys = Counter((trade["sym"], trade["x"], trade["i"]) for trade in trades if is_sound(trade))
    assert set(keys.values()) == {1, 2}, "duplicates"
    bars = Counter((bar["sym"], bar["s"]) for bar in decoded(events, "AM") if bar["h"] >= bar["l"])
    assert set(bars.values()) == {1, 2}, "corrected bars"
    late = [
        trade
        for event in events
        if event.kind is Kind.T and (trade := json.loads(event.text))["t"] + 2_000 < event.send_ms
    ]
    assert any(32 in trade.get("c", ()) for trade in late), "late prints"
    assert len([trade for trade in trades if str(trade["i"]).startswith("b")]) > 50


def test_a_print_is_far_off_now_and_then_and_no_bar_tells_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    minutes = range(OPEN_MINUTE, OPEN_MINUTE + 3)
    monkeypatch.setattr(ticks_module, "STRAY_ONE_IN_MINUTES", 1 << 62)
    plain = tape_of(morning(), minutes)
    monkeypatch.setattr(ticks_module, "STRAY_ONE_IN_MINUTES", 30)
    events = tape_of(morning(), minutes)
    assert [(e.send_ms, e.kind, e.symbol) for e in events] == [(e.send_ms, e.kind, e.symbol) for e in plain]
    other = [(json.loads(e.text), json.loads(was.text)) for e, was in zip(events, plain, strict=True) if e != was]
    strays: dict[tuple[str, int], dict[tuple[int, str], float]] = defaultdict(dict)
    for trade, was in other:
        assert trade["ev"] == "T"
        assert trade | {"p": was["p"]} == was
        strays[trade["sym"], trade["t"] // 60_000][trade["x"], trade["i"]] = trade["p"] / was["p"]
    # One stands alone, or two are at one price, so that the second confirms the first.
    assert set(map(len, strays.values())) == {1, 2}
    for of_minute in strays.values():
        assert max(of_minute.values()) == pytest.approx(min(of_minute.values()), rel=0.02)
        assert all(factor < 0.25 or factor > 2 for factor in of_minute.values())


def test_days_follow_each_other_and_closed_ones_are_quiet() -> None:
    market = market_at(20, day=datetime.datetime(2025, 11, 26), symbols=10)
    while market.day.date == datetime.date(2025, 11, 26):
        market.step()
    # Thanksgiving is left out; the day after closes early.
    assert market.day.date == datetime.date(2025, 11, 28)
    assert market.day.is_early
    assert new_york_time(market.now_ns).strftime("%m-%d %H:%M") == "11-28 03:30"
    market.step()
    assert new_york_time(market.now_ns).strftime("%m-%d %H:%M") == "11-28 04:00"


def test_an_early_close_ends_the_day_early() -> None:
    market = market_at(16, 58, day=datetime.datetime(2025, 11, 28), symbols=30)
    times: list[str] = []
    while not market.tape.is_over:
        times += [new_york_time(event.send_ms * 1_000_000).strftime("%H:%M") for event in market.step()]
    assert times[0] == "16:58"
    # The last bars, and corrections of earlier ones.
    assert "17:00" <= times[-1] < "17:11"
    closing = decoded(tape_of(market, range(EARLY_CLOSE_MINUTE, EARLY_CLOSE_MINUTE + 1)), "T")
    official = sum(15 in trade.get("c", ()) for trade in closing)
    assert official == 30


def test_a_market_out_of_range_says_so() -> None:
    with pytest.raises(StartError, match="expected a date from 2023-06-01 on, was 2019-01-02"):
        market_at(9, day=datetime.datetime(2019, 1, 2))


def test_a_start_with_an_offset_is_that_instant() -> None:
    start = datetime.datetime(2025, 11, 24, 14, 45, tzinfo=datetime.UTC)
    market = Market(SimSettings(symbols=10, start=start))
    assert market.market_day.next_minute in (344, 345)
    assert market.now_ns == int(start.timestamp()) * 1_000_000_000


def test_bars_lie_within_their_prices() -> None:
    day = MarketDay(morning().plans, morning().plans.current)
    for _ in range(END_MINUTE):
        minute = day.begin_minute()
        bars: Bars = minute.bars
        assert (bars.low > 0).all()
        assert (bars.low <= np.minimum(bars.open, bars.close)).all()
        assert (bars.high >= np.maximum(bars.open, bars.close)).all()
        assert ((bars.low <= bars.vwap) & (bars.vwap <= bars.high)).all()
        assert (bars.volume >= bars.trades).all()
        day.end_minute(minute)
