"""What analytics tells of symbols, and which have changed, against the twin that keeps all messages."""

import math
from array import array
from collections.abc import Callable

import pytest
from tradeul.v1 import frame_pb2

from fastcore import measures as compiled
from fastcore.filters import compile_filter
from fastcore.market import Market, state_of
from fastcore.market_state import MarketState
from fastcore.reference import measures_twin
from fastcore.reference.market_twin import MarketTwin
from services.kit.lists.definitions import load_lists
from tests.support.compare_rows import same
from tests.support.market_stream import EPOCH, MarketStream
from tests.support.measured import measured


def check(state: MarketState, twin: MarketTwin, narrow: MarketState) -> None:
    """`narrow`: the same market without windows."""
    assert measured(narrow) == measured(state)
    assert compiled.slot_of_now(state) == measures_twin.slot_of_now(twin)
    volumes = compiled.volumes_today(narrow)
    for symbol_id, symbol in enumerate(twin.symbols):
        volume = compiled.measures(state, symbol_id).volume_today
        assert volumes[symbol_id] == volume or (volume is None and math.isnan(volumes[symbol_id]))
        ours = compiled.measures(state, symbol_id)._asdict()
        row = state.row(symbol)
        assert ours.pop("updated_ns") == row.get("updated_at")
        theirs = measures_twin.measures(twin, symbol)
        assert compiled.volume_curve(state, symbol_id) == measures_twin.volume_curve(twin, symbol)
        for name, value in ours.items():
            assert same(name, value, theirs.get(name)), (symbol, name, value, theirs.get(name))
            if name in row:
                assert value == row[name]


@pytest.mark.parametrize("seed", range(4))
def test_of_every_symbol(seed: int) -> None:
    state, twin, narrow = MarketState(), MarketTwin(), MarketState(keeps_windows=False)
    ours, theirs, narrows = array("I"), array("I"), array("I")
    for number, frame in enumerate(MarketStream(seed, length=1500).frames(20)):
        state.apply(frame)
        twin.apply(frame)
        narrow.apply(frame)
        if number % 25 == 0:
            touched = compiled.touched_since(state, ours)
            assert touched == compiled.touched_since(narrow, narrows) == measures_twin.touched_since(twin, theirs)
            assert compiled.touched_since(state, ours) == []
        if number % 60 == 0:
            check(state, twin, narrow)
    check(state, twin, narrow)


def test_a_whole_market_brings_them_along() -> None:
    market = Market(load_lists(), EPOCH)
    twin = MarketTwin()
    for frame in MarketStream(9, length=1000, two_days=False).frames(20):
        if frame_pb2.Frame.FromString(frame).WhichOneof("body") != "list_filters":
            market.apply(frame)
            twin.apply(frame)
    state = state_of(market.to_bytes())
    assert state.hash() == market.state.hash()
    check(state, twin, state_of(market.to_bytes(), keeps_windows=False))


def test_a_state_without_windows_keeps_none_and_shows_nothing_that_needs_them() -> None:
    frames = list(MarketStream(3, length=1000, two_days=False).frames(20))
    wide, narrow = MarketState(), MarketState(keeps_windows=False)
    for frame in frames[: len(frames) // 2]:
        wide.apply(frame)
        narrow.apply(frame)
    loaded = MarketState.from_bytes(wide.to_bytes(), keeps_windows=False)
    for frame in frames[len(frames) // 2 :]:
        for state in (wide, narrow, loaded):
            state.apply(frame)
    assert narrow.list_bytes < wide.list_bytes / 2
    symbol = wide.symbols[0]
    for each in (narrow, loaded):
        reads: list[Callable[[MarketState], object]] = [
            MarketState.to_bytes,
            MarketState.hash,
            lambda state: state.row(symbol),
            lambda state: state.encode_row(0),
            lambda state: state.column("chg_1m"),
            lambda state: state.number(symbol, "chg_1m"),
            compile_filter("vol_1m > 0").match,
            lambda state: Market.of_state(load_lists(), EPOCH, state),
        ]
        for read in reads:
            read(wide)
            with pytest.raises(ValueError, match="keeps none"):
                read(each)


def test_what_is_no_whole_market_is_refused() -> None:
    with pytest.raises(ValueError, match="without its rows"):
        state_of(b"\x08\x01")
    with pytest.raises(ValueError):
        state_of(b"\xff")
    with pytest.raises(IndexError):
        compiled.measures(MarketState(), 0)
    with pytest.raises(IndexError):
        compiled.volume_curve(MarketState(), 0)
    with pytest.raises(ValueError, match="type I"):
        compiled.touched_since(MarketState(), array("l"))
