"""Windows that are kept up as they move: the same to the last bit as those of a copy that adds up everything anew."""

import random
import struct
from collections.abc import Iterator
from typing import Final

import pytest
from tradeul.v1 import frame_pb2, market_data_pb2

from fastcore.fields import RANGE_WINDOW_MINUTES, SHORT_WINDOW_MINUTES, WINDOW_MINUTES
from fastcore.market_state import MarketState
from fastcore.reference.market_twin import MarketTwin
from tests.support.compare_rows import differences
from tests.support.tape import SECOND, Tape

MINUTES: Final = 70
# By symbol, the seconds after which it may trade again: all the time, now and then, after pauses of every length.
PAUSES: Final = {
    "BUSY": (1, 2, 3),
    "STEADY": (8, 9, 10, 11, 12),
    "SELDOM": (5, 50, 61, 70, 71, 130),
    "RARE": (3, 290, 310, 900, 1790, 1830, 1910, 1930, 2400),
}
FIELDS: Final = tuple(
    [f"{name}_{minutes}m" for name in ("vol", "chg") for minutes in WINDOW_MINUTES]
    + [f"{name}_{minutes}m" for name in ("dollar_volume", "trades", "largest") for minutes in SHORT_WINDOW_MINUTES]
    + [f"{name}_{minutes}m" for name in ("high", "low") for minutes in RANGE_WINDOW_MINUTES]
)
# Form T sets no high or low; odd lots set no price; an average price trade (W) sets neither.
CONDITIONS: Final = (0, 0, 0, 0, 1 << 37, 1 << 2)


def trades(rng: random.Random, late: float) -> Iterator[tuple[float, str, float, float, float, int]]:
    """In order of their arrival: arrival in seconds, symbol, the trade's own time, price, size, conditions."""
    events = []
    for symbol, pauses in PAUSES.items():
        second, price = rng.uniform(0, 30), 100.0
        while second < MINUTES * 60:
            # Long rises and falls: what leaves is often the extreme.
            price = round(max(price * (1 + rng.gauss(0, 0.002)), 1), 2)
            size = rng.choice((100.0, 1.0, rng.randrange(1, 10**6) / 1e6, rng.randrange(1, 10**6) / 1e3))
            own = second - rng.uniform(0, 2_000) if rng.random() < late else second
            events.append((second, symbol, own, price, size, rng.choice(CONDITIONS)))
            second += rng.choice(pauses) * rng.uniform(0.9, 1.1)
    return iter(sorted(events))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("late", [0, 0.02])
def test_a_copy_made_anew_has_the_same_windows(seed: int, late: float) -> None:
    rng = random.Random(seed)
    tape = Tape(PAUSES)
    state, twin = MarketState(), MarketTwin()
    for frame in tape.opening():
        state.apply(frame)
        twin.apply(frame)
    begin_ns = tape.now_ns
    watermark, looks = 0.0, 0
    for second, symbol, own, price, size, conditions in trades(rng, late):
        tape.now_ns = max(tape.now_ns, begin_ns + int(second * SECOND))
        frames = [
            tape.frame(
                trades=market_data_pb2.TradeBatch(
                    symbol_id=[tape.symbols.index(symbol)],
                    time_ns=[begin_ns + int(own * SECOND)],
                    price=[price],
                    size=[size],
                    conditions=[conditions],
                )
            )
        ]
        if second > watermark:
            frames.append(tape.frame(watermark=frame_pb2.Watermark(event_time_ns=tape.now_ns)))
            # Often several buckets at once, seldom more than the last minute has.
            watermark = second + rng.choice((0.5, 1, 4, 9, 25, 80))
        for frame in frames:
            state.apply(frame)
            twin.apply(frame)
        state.refresh()
        if len(frames) == 1 or rng.random() < 0.5:
            continue
        looks += 1
        anew = MarketState.from_bytes(state.to_bytes())
        anew.refresh()
        for name in FIELDS:
            assert anew.column(name).tobytes() == state.column(name).tobytes(), (name, second)
        if looks % 10 == 0:
            for each in PAUSES:
                assert differences(state.row(each), twin.row(each)) == {}, (each, second)
    assert looks > 50


def test_after_a_pause_of_the_market() -> None:
    """By the next watermark, part of what was added up is dropped, and its memory may be another symbol's."""
    tape = Tape(["A", "B"])
    state, twin = MarketState(), MarketTwin()

    def apply(frame: bytes) -> None:
        state.apply(frame)
        twin.apply(frame)

    def trade(symbol_id: int, time_ns: int) -> None:
        batch = market_data_pb2.TradeBatch(
            symbol_id=[symbol_id], time_ns=[time_ns], price=[100 + time_ns // SECOND % 7], size=[1.5], conditions=[0]
        )
        apply(tape.frame(trades=batch))

    def watermark() -> None:
        apply(tape.frame(watermark=frame_pb2.Watermark(event_time_ns=tape.now_ns)))
        state.refresh()

    for frame in tape.opening():
        apply(frame)
    for _ in range(200):
        tape.now_ns += 10 * SECOND
        trade(0, tape.now_ns)
        watermark()
    tape.now_ns += 1_200 * SECOND
    trade(0, tape.now_ns)
    for seconds in range(1_000, 0, -10):
        trade(1, tape.now_ns - seconds * SECOND)
    watermark()
    for _ in range(40):
        for symbol in tape.symbols:
            assert differences(state.row(symbol), twin.row(symbol)) == {}, symbol
        tape.now_ns += 10 * SECOND
        trade(0, tape.now_ns)
        watermark()


def test_decimals_are_added_up_to_what_they_are() -> None:
    """A tenth and two tenths are three tenths, and stay so after a larger trade has come and gone."""
    tape = Tape(["A"])
    state = MarketState()

    def trade(size: float) -> bytes:
        batch = market_data_pb2.TradeBatch(
            symbol_id=[0], time_ns=[tape.now_ns], price=[0.1], size=[size], conditions=[0]
        )
        return tape.frame(trades=batch)

    for frame in tape.opening():
        state.apply(frame)
    state.apply(trade(123_456_789.1))
    for size in (0.1, 0.2):
        tape.now_ns += 30 * SECOND
        state.apply(trade(size))
    state.apply(tape.frame(watermark=frame_pb2.Watermark(event_time_ns=tape.now_ns)))
    state.refresh()
    assert state.number("A", "vol_1m") == 123_456_789.4
    tape.now_ns += 20 * SECOND
    state.apply(tape.frame(watermark=frame_pb2.Watermark(event_time_ns=tape.now_ns)))
    state.refresh()
    assert state.number("A", "vol_1m") == 0.3
    assert state.number("A", "dollar_volume_1m") == 0.03
    assert state.number("A", "vol_5m") == 123_456_789.4


@pytest.mark.parametrize("ahead", [3, 100, 500])
def test_buckets_ahead_of_now_are_refused_or_added_up(ahead: int) -> None:
    """Only bytes that no state has written have them."""
    tape = Tape(["A", "B"])
    state = MarketState()

    def trade(symbol_id: int) -> bytes:
        batch = market_data_pb2.TradeBatch(
            symbol_id=[symbol_id], time_ns=[tape.now_ns], price=[50.0], size=[100.0], conditions=[0]
        )
        return tape.frame(trades=batch)

    def watermark() -> bytes:
        return tape.frame(watermark=frame_pb2.Watermark(event_time_ns=tape.now_ns))

    for frame in tape.opening():
        state.apply(frame)
    for _ in range(10):
        tape.now_ns += 10 * SECOND
        state.apply(trade(0))
    state.apply(watermark())
    data = bytearray(state.to_bytes())
    newest = tape.now_ns // (10 * SECOND)
    # Its number and how many trades; behind four numbers, its newest price and the time of that.
    at = data.index(struct.pack("<iI", newest, 1))
    struct.pack_into("<i", data, at, newest + ahead)
    struct.pack_into("<q", data, at + 40, (newest + ahead) * 10 * SECOND)
    if ahead >= 192:
        with pytest.raises(ValueError, match="buckets of 192 times ten seconds at most"):
            MarketState.from_bytes(data)
        return
    state = MarketState.from_bytes(data)
    state.refresh()
    tape.now_ns = (newest + ahead + 1) * 10 * SECOND
    for symbol_id in (0, 1, 1):
        state.apply(trade(symbol_id))
    state.apply(watermark())
    state.refresh()
    anew = MarketState.from_bytes(state.to_bytes())
    anew.refresh()
    for name in FIELDS:
        assert anew.column(name).tobytes() == state.column(name).tobytes(), name
