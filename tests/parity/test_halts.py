"""Halts by hand, with what is right worked out on paper, on compiled state and twin; and what always holds."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from tradeul.v1 import market_data_pb2

from fastcore.market_state import MarketState
from fastcore.reference.market_twin import MarketTwin
from tests.support.market_stream import DAYS, MarketStream
from tests.support.small_market import SECOND, SmallMarket

MAKERS: list[Callable[[], Any]] = [MarketState, MarketTwin]


@pytest.fixture(params=MAKERS, ids=["fastcore", "twin"])
def market(request: pytest.FixtureRequest) -> SmallMarket:
    return SmallMarket(request.param())


def halt_of(market: SmallMarket, symbol: str = "A") -> tuple[Any, ...]:
    """halted, reason, since, until (as times of day of today), how many today; None for absent."""
    row = market.row(symbol)
    return (row.get("halted"), row.get("halt_reason"), clock(market, row.get("halted_at")),
            clock(market, row.get("resumes_at")), row.get("halts_today"))  # fmt: skip


def clock(market: SmallMarket, time_ns: int | None) -> str | None:
    if time_ns is None:
        return None
    seconds, rest = divmod(time_ns - market.at("00:00:00"), SECOND)
    days, seconds = divmod(seconds, 86_400)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return ("" if days == 0 else f"{days}d ") + text + (f".{rest // 1_000_000:03}" if rest else "")


def test_nothing_is_known_before_the_first_word(market: SmallMarket) -> None:
    assert halt_of(market) == (None, None, None, None, None)
    market.trade("10:00:00", 20.0)
    assert halt_of(market) == (None, None, None, None, 0.0)


def test_a_halt_that_only_the_feed_lists(market: SmallMarket) -> None:
    market.trade("10:00:00", 20.0)
    market.watermark("10:01:00")
    market.halt("10:00:30", reason="T1")
    assert halt_of(market) == (True, "T1", "10:00:30", None, 1.0)
    market.halt("10:00:30", "10:30:00", reason="T3")
    assert halt_of(market) == (True, "T3", "10:00:30", "10:30:00", 1.0)
    market.watermark("10:29:59.999999999")
    assert halt_of(market)[0] is True
    market.watermark("10:30:00")
    assert halt_of(market) == (False, "T3", "10:00:30", "10:30:00", 1.0)
    assert market.row()["updated_at"] == market.at("10:00:00")


def test_any_event_lets_the_resumption_take_effect(market: SmallMarket) -> None:
    market.halt("10:00:00", "10:05:00")
    market.watermark("10:01:00")
    market.trade("10:05:00", 5.0, symbol="B")
    assert halt_of(market)[0] is False


def test_both_sources_tell_one_halt(market: SmallMarket) -> None:
    market.limit("10:00:00.7", 17)
    assert halt_of(market) == (True, None, "10:00:00.700", None, 1.0)
    market.halt("10:00:00", reason="LUDP")
    assert halt_of(market) == (True, "LUDP", "10:00:00", None, 1.0)
    market.limit("10:05:00.2", 18)
    assert halt_of(market) == (False, "LUDP", "10:00:00", "10:05:00.200", 1.0)
    # The feed, a minute old.
    market.halt("10:00:00", reason="LUDP")
    assert halt_of(market)[0] is False
    market.halt("10:00:00", "10:05:00", reason="LUDP")
    assert halt_of(market) == (False, "LUDP", "10:00:00", "10:05:00", 1.0)


def test_a_halt_listed_after_it_ended(market: SmallMarket) -> None:
    market.limit("10:00:00", 17)
    market.limit("10:05:00", 18)
    market.halt("10:00:01.5")
    assert halt_of(market) == (False, "T1", "10:00:00", "10:05:00", 1.0)


def test_the_newer_word_wins(market: SmallMarket) -> None:
    market.halt("10:00:00", "10:05:00")
    market.limit("10:03:00", 18)  # earlier than announced
    assert halt_of(market) == (False, "T1", "10:00:00", "10:03:00", 1.0)
    market.limit("10:04:00", 17)
    assert halt_of(market) == (True, None, "10:04:00", None, 2.0)
    market.watermark("10:05:00")
    assert halt_of(market)[0] is False


def test_a_halt_that_is_extended_goes_on(market: SmallMarket) -> None:
    market.halt("10:00:00", "10:05:00", reason="LUDP")
    market.watermark("10:05:20")
    assert halt_of(market)[0] is False
    market.halt("10:00:00", "10:10:00", reason="LUDP")
    assert halt_of(market) == (True, "LUDP", "10:00:00", "10:10:00", 1.0)
    market.watermark("10:10:00")
    assert halt_of(market) == (False, "LUDP", "10:00:00", "10:10:00", 1.0)


def test_a_trade_ends_what_nobody_ended(market: SmallMarket) -> None:
    market.halt("10:00:00")
    market.trade("10:00:00.9", 20.0)  # made before it
    market.trade("10:00:01", 20.0)
    market.trade("10:00:05", 20.0, 100, 2)  # sets no price
    assert halt_of(market)[0] is True
    market.trade("10:00:01.001", 20.0)
    assert halt_of(market) == (False, "T1", "10:00:00", None, 1.0)


def test_a_trade_and_a_resumption_in_either_order(market: SmallMarket) -> None:
    """A vendor's batch brings its limits before its trades."""
    market.limit("10:00:00", 17)
    market.trade("10:05:00", 20.0)
    assert halt_of(market) == (False, None, "10:00:00", None, 1.0)
    market.limit("10:05:01", 18)
    assert halt_of(market) == (False, None, "10:00:00", "10:05:01", 1.0)
    market.limit("10:10:00", 17)
    market.limit("10:15:01", 18)
    market.trade("10:15:00", 20.0)
    assert halt_of(market) == (False, None, "10:10:00", "10:15:01", 2.0)
    market.limit("10:20:00", 17)
    market.limit("10:30:00", 17)
    market.limit("10:31:00", 18)
    market.trade("10:25:00", 20.0)
    assert halt_of(market) == (False, None, "10:30:00", "10:31:00", 4.0)


def test_a_halt_that_is_listed_after_trades_went_on(market: SmallMarket) -> None:
    market.trade("10:06:00", 20.0)
    market.halt("10:00:00")
    assert halt_of(market) == (False, "T1", "10:00:00", None, 1.0)
    market.halt("10:08:00", "10:13:00")
    assert halt_of(market) == (False, "T1", "10:00:00", None, 1.0)  # its time has not come
    market.watermark("10:08:00")
    assert halt_of(market) == (True, "T1", "10:08:00", "10:13:00", 2.0)


def test_halts_follow_each_other(market: SmallMarket) -> None:
    market.limit("10:00:00", 17)
    market.limit("10:05:00", 18)
    market.halt("10:07:00", "10:12:00", reason="LUDP")
    market.limit("10:20:00", 17)
    assert halt_of(market) == (True, None, "10:20:00", None, 3.0)
    # One of before that had not been told.
    market.halt("10:15:00", "10:16:00", reason="T1")
    assert halt_of(market) == (True, None, "10:20:00", None, 4.0)


def test_a_halt_of_an_earlier_day_lasts(market: SmallMarket) -> None:
    market.watermark("04:00:00")
    market.halt("19:50:00", reason="T12", days_ago=5)
    assert halt_of(market) == (True, "T12", "-5d 19:50:00", None, 0.0)
    market.watermark("10:00:00")
    assert market.row()["halted"] is True
    market.trade("10:00:01", 20.0)
    assert halt_of(market) == (False, "T12", "-5d 19:50:00", None, 0.0)


def test_a_new_day_forgets_halts(market: SmallMarket) -> None:
    market.halt("10:00:00")
    market.new_day(DAYS[1])
    assert halt_of(market) == (None, None, None, None, None)
    market.watermark("10:00:00")
    assert halt_of(market) == (None, None, None, None, None)


@pytest.mark.parametrize(
    ("halted_at", "resumes_at", "reason", "match"),
    [
        ([0], [0], ["T1"], "a halt and a later resumption"),
        ([5 * SECOND], [5 * SECOND], ["T1"], "a halt and a later resumption"),
        ([-1], [0], ["T1"], "HaltBatch.halted_at_ns: expected ns since 1970"),
        ([5 * SECOND], [0, 0], ["T1"], "HaltBatch.resumes_at_ns: expected 1 values"),
        ([5 * SECOND], [0], [], "HaltBatch.reason: expected 1 values as in symbol_id, was 0"),
    ],
)
def test_frames_that_are_refused(halted_at: list[int], resumes_at: list[int], reason: list[str], match: str) -> None:
    state: Any = MarketState()
    market = SmallMarket(state)
    batch = market_data_pb2.HaltBatch(symbol_id=[0], halted_at_ns=halted_at, resumes_at_ns=resumes_at, reason=reason)
    with pytest.raises(ValueError, match=match):
        market.frame(halts=batch)


def test_many_words_are_summed_up() -> None:
    """More pauses than anybody keeps still count, and a copy knows them."""
    state: Any = MarketState()
    market = SmallMarket(state)
    start = market.at("10:00:00")
    for number in range(400):
        seconds = 3 * number
        market.limit(f"10:{seconds // 60:02}:{seconds % 60:02}", 17)
        market.limit(f"10:{seconds // 60:02}:{seconds % 60:02}.5", 18)
    market.limit("10:30:00", 17)
    assert halt_of(market) == (True, None, "10:30:00", None, 401.0)
    assert state.now_ns > start
    copy = MarketState.from_bytes(state.to_bytes())
    assert (copy.hash(), copy.halted_count) == (state.hash(), 1)


# ---- what always holds ----


def days_of(chance: random.Random) -> list[tuple[int, str, tuple[Any, ...]]]:
    """One symbol's pauses as two sources tell them, in the order of when they are told: (second told, source, word).

    The feed's beginning is up to a second and a half off, its resumption within the same; it comes up to a minute
    late, sometimes without the resumption that the limits have told.
    """
    words: list[tuple[int, str, tuple[Any, ...]]] = []
    at = 36_000
    for _ in range(chance.randrange(1, 5)):
        at += chance.randrange(60, 900)
        until = at + chance.choice((30, 300, 600))
        is_ended = chance.random() < 0.8
        words.append((at, "limit", (at, 17)))
        if is_ended:
            words.append((until, "limit", (until, 18)))
        listed = at + chance.choice((-1.25, -0.5, 0.25, 1.5))
        told = at + chance.randrange(60)
        words.append((told, "halt", (listed, None)))
        if chance.random() < 0.8 or not is_ended:
            words.append((told + chance.randrange(1, 300), "halt", (listed, until + chance.choice((-0.25, 0.75)))))
        at = until + 30
    return sorted(words, key=lambda word: word[0])


def say(market: SmallMarket, source: str, word: tuple[Any, ...]) -> None:
    def text(seconds: float) -> str:
        whole = int(seconds)
        return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}.{round((seconds - whole) * 1000):03}"

    if source == "limit":
        market.limit(text(word[0]), word[1])
    else:
        market.halt(text(word[0]), text(word[1]) if word[1] is not None else "", reason="LUDP")


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("make", MAKERS, ids=["fastcore", "twin"])
def test_the_order_of_the_sources_makes_no_difference(make: Callable[[], Any], seed: int) -> None:
    """Each source tells in its own order; how they fall between each other leads to the same in the end."""
    chance = random.Random(seed)
    words = days_of(chance)
    sources = {name: [word for _, source, word in words if source == name] for name in ("limit", "halt")}
    ends = []
    for attempt in range(6):
        market = SmallMarket(make())
        left = {name: list(own) for name, own in sources.items()}
        order = [source for _, source, _ in words]
        if attempt:
            random.Random(seed * 10 + attempt).shuffle(order)
        for source in order:
            say(market, source, left[source].pop(0))
        market.watermark("19:00:00")
        ends.append(halt_of(market))
    assert ends == ends[:1] * 6


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("make", MAKERS, ids=["fastcore", "twin"])
def test_what_holds_at_every_watermark(make: Callable[[], Any], seed: int) -> None:
    """halts_today never falls; whose announced resumption has passed is not halted; a reason needs a halt."""
    state = make()
    counts: dict[str, float] = {}
    day = ""
    for number, frame in enumerate(MarketStream(700 + seed, length=1200, symbols=12).frames(9)):
        state.apply(frame)
        if number % 7:
            continue
        if hasattr(state, "refresh"):
            state.refresh()
        if state.trading_date != day:
            day, counts = state.trading_date, {}
        for symbol in state.symbols:
            row = state.row(symbol)
            count = row.get("halts_today", 0.0)
            assert count >= counts.get(symbol, 0.0)
            counts[symbol] = count
            if row.get("resumes_at", state.now_ns + 1) <= state.now_ns:
                assert row["halted"] is False
            if "halt_reason" in row or "resumes_at" in row:
                assert row["halted_at"] <= state.now_ns
            if row.get("halted"):
                assert row["halted_at"] <= state.now_ns
    assert sum(counts.values()) > 3
