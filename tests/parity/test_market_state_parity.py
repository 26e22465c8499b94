"""The compiled state against the twin that recomputes every row from all messages of the day."""

import math
from typing import Any

import pytest
from tradeul.v1 import frame_pb2

from fastcore.market_state import MarketState
from fastcore.reference.market_twin import MarketTwin
from tests.support.compare_rows import differences
from tests.support.market_stream import MarketStream
from tests.support.small_market import SmallMarket


def all_differences(state: MarketState, twin: MarketTwin) -> dict[str, dict[str, tuple[Any, Any]]]:
    """symbol -> field -> (compiled, twin), for what differs."""
    state.refresh()
    rows = {symbol: differences(state.row(symbol), twin.row(symbol)) for symbol in twin.symbols}
    return {symbol: fields for symbol, fields in rows.items() if fields}


def is_watermark(frame: bytes) -> bool:
    return frame_pb2.Frame.FromString(frame).WhichOneof("body") == "watermark"


def follow(stream: MarketStream, batch_size: int, every: int) -> MarketState:
    """Applies the stream to both, comparing all rows at every k-th watermark and at the end."""
    state, twin = MarketState(), MarketTwin()
    watermarks = 0
    for number, frame in enumerate(stream.frames(batch_size)):
        state.apply(frame)
        twin.apply(frame)
        if is_watermark(frame):
            watermarks += 1
            assert state.now_ns == twin.now_ns
            assert state.trading_date == twin.trading_date
            if watermarks % every == 0:
                assert all_differences(state, twin) == {}, f"after frame {number}"
    assert list(state.symbols) == twin.symbols
    assert all_differences(state, twin) == {}
    return state


@pytest.mark.parametrize("seed", range(12))
def test_every_field_of_every_symbol(seed: int) -> None:
    follow(MarketStream(seed, snapshots=False), batch_size=20, every=4)


@pytest.mark.parametrize("seed", range(100, 106))
def test_with_vendor_snapshots(seed: int) -> None:
    follow(MarketStream(seed), batch_size=20, every=4)


@pytest.mark.parametrize("seed", range(200, 203))
def test_few_symbols_with_much_traffic(seed: int) -> None:
    follow(MarketStream(seed, symbols=5, length=2500), batch_size=7, every=10)


@pytest.mark.parametrize("seed", range(300, 302))
def test_many_symbols_seldom_heard(seed: int) -> None:
    follow(MarketStream(seed, symbols=400, length=2500), batch_size=50, every=25)


@pytest.mark.parametrize("seed", range(400, 404))
def test_the_size_of_batches_makes_no_difference(seed: int) -> None:
    """Nor does refreshing in between: derived columns are no part of what is to come."""
    stream = MarketStream(seed, length=2000)
    hashes = set()
    for batch_size in (1, 2, 13, 10_000):
        state = MarketState()
        for number, frame in enumerate(stream.frames(batch_size)):
            state.apply(frame)
            if batch_size == 2 and number % 50 == 0:
                state.refresh()
        state.refresh()
        hashes.add(state.hash())
    assert len(hashes) == 1


@pytest.mark.parametrize("seed", range(500, 503))
def test_a_copy_made_in_the_middle_goes_on_the_same(seed: int) -> None:
    frames = list(MarketStream(seed, length=1500).frames(10))
    state = MarketState()
    copies: list[MarketState] = []
    for number, frame in enumerate(frames):
        if number % (len(frames) // 6) == 3:
            copies.append(MarketState.from_bytes(state.to_bytes()))
            assert copies[-1].hash() == state.hash()
        state.apply(frame)
        for copy in copies:
            copy.apply(frame)
    for each in (state, *copies):
        each.refresh()
    for copy in copies:
        assert copy.hash() == state.hash()
        assert copy.to_bytes() == state.to_bytes()
        assert all(copy.row(symbol) == state.row(symbol) for symbol in state.symbols)


def test_the_hash_tells_states_apart() -> None:
    hashes = set()
    state = MarketState()
    frames = list(MarketStream(600, length=300, two_days=False).frames(1))
    for frame in frames:
        state.apply(frame)
        state.refresh()
        hashes.add(state.hash())
    # An event that changes nothing (a late quote) may leave the hash; most change it.
    assert len(hashes) > len(frames) * 0.6


def test_a_price_that_is_no_number_is_no_open() -> None:
    """The sequencer lets none in; a state that has met one can be written and read all the same."""
    state = MarketState()
    market = SmallMarket(state)
    market.trade("09:30:01", math.nan)
    market.trade("09:30:02", 10.0)
    state.refresh()
    assert state.row("A")["open"] == 10.0
    assert MarketState.from_bytes(state.to_bytes()).hash() == state.hash()
