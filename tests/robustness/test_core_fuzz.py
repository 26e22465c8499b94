"""Bytes that are no frames, or frames full of nonsense: a ValueError at most, never a crash."""

import random
import struct
from array import array
from collections.abc import Callable
from functools import partial

import pytest
from tradeul.v1 import frame_pb2, ticker_row_pb2

from fastcore.admission import Admission
from fastcore.filters import compile_filter, compile_order
from fastcore.market import Market
from fastcore.market_state import MarketState
from fastcore.trade_rules import read_rules
from services.kit.lists.definitions import load_lists
from tests.support.alert_frames import RULES, numbered
from tests.support.market_stream import EPOCH, MarketStream
from tests.support.mutations import DOUBLES, INTEGERS, mutated, structured

Apply = Callable[[bytes], object]


def frames_of(seed: int, length: int = 250, batch_size: int = 8) -> list[bytes]:
    return numbered(MarketStream(seed, length=length, symbols=20).frames(batch_size), {0: RULES})


def refuses_or_takes(apply: Apply, data: bytes) -> bool:
    """Whether it was taken; anything but a ValueError is a failure of the test."""
    try:
        apply(data)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("seed", range(20))
def test_mutated_frames_never_crash_a_state(seed: int) -> None:
    rng = random.Random(seed)
    frames = frames_of(seed)
    state = MarketState()
    for frame in frames:
        # A refused frame may have been applied in part: the copy is of no use, but it stands.
        if rng.random() < 0.5:
            refuses_or_takes(state.apply, mutated(frame, rng))
        refuses_or_takes(state.apply, frame)
        if rng.random() < 0.05:
            state.refresh()
    state.refresh()
    for symbol in state.symbols:
        state.row(symbol)
    state.hash()
    MarketState.from_bytes(state.to_bytes())


@pytest.mark.parametrize("seed", range(10))
def test_mutated_frames_never_crash_a_market(seed: int) -> None:
    rng = random.Random(seed)
    definitions = load_lists()
    market = Market(definitions, EPOCH)
    for frame in frames_of(seed):
        if rng.random() < 0.3:
            body = frame_pb2.Frame.FromString(frame)
            position = body.position.SerializeToString()
            body.ClearField("position")
            # A whole position, so that the damage reaches the state behind it.
            broken = b"\x0a" + bytes([len(position)]) + position + structured(body.SerializeToString(), rng)
            refuses_or_takes(market.apply, broken)
        refuses_or_takes(market.apply, frame)
    for name in market.list_names:
        market.snapshot(name)
    market.query(compile_filter("price > 1 OR halted"), compile_order("price desc"), 500)
    Market.from_bytes(definitions, market.to_bytes())


@pytest.mark.parametrize("seed", range(5))
def test_every_truncation_of_every_kind_of_frame(seed: int) -> None:
    kinds: dict[str, bytes] = {}
    state = MarketState()
    for frame in frames_of(seed, length=1000, batch_size=3):
        kinds.setdefault(str(frame_pb2.Frame.FromString(frame).WhichOneof("body")), frame)
        state.apply(frame)
    assert len(kinds) == 14
    for frame in kinds.values():
        for length in range(0, len(frame), max(1, len(frame) // 300)):
            refuses_or_takes(MarketState.from_bytes(state.to_bytes()).apply if length % 50 == 0 else state.apply,
                             frame[:length])  # fmt: skip


@pytest.mark.parametrize("seed", range(10))
def test_mutated_whole_states_are_refused_or_usable(seed: int) -> None:
    rng = random.Random(seed)
    frames = frames_of(seed)
    half = len(frames) // 2
    definitions = load_lists()
    market = Market(definitions, EPOCH)
    for frame in frames[:half]:
        market.apply(frame)
    whole_state, whole_market = market.state.to_bytes(), market.to_bytes()
    for _ in range(60):
        for data, read in (
            (whole_state, MarketState.from_bytes),
            (whole_market, lambda data: Market.from_bytes(definitions, data)),
        ):
            try:
                copy = read(mutated(data, rng))
            except ValueError:
                continue
            for frame in frames[half : half + 10]:
                refuses_or_takes(copy.apply, frame)
            copy.hash()
            copy.to_bytes()
            show(copy.state if isinstance(copy, Market) else copy)


def show(rows: MarketState) -> None:
    """Every value can be shown."""
    rows.refresh()
    for i, symbol in enumerate(rows.symbols):
        rows.row(symbol)
        ticker_row_pb2.TickerRow.FromString(rows.encode_row(i))


@pytest.mark.parametrize("seed", range(2))
def test_a_state_with_any_byte_or_word_changed_is_refused_or_can_be_shown(seed: int) -> None:
    state = MarketState()
    for frame in MarketStream(seed, length=120, symbols=2).frames(8):
        state.apply(frame)
    whole = state.to_bytes()
    changes = [(at, bytes((value,))) for at in range(len(whole)) for value in (0, 0x7F, 0xFF) if whole[at] != value]
    # Any word: values lie at multiples of 4 from the end of the texts, which end anywhere.
    words = [struct.pack("<d", value) for value in DOUBLES] + [struct.pack("<Q", value) for value in INTEGERS]
    changes += [(at, random.Random(at).choice(words)) for at in range(len(whole) - 8)]
    taken = 0
    for at, value in changes:
        try:
            copy = MarketState.from_bytes(whole[:at] + value + whole[at + len(value) :])
        except ValueError:
            continue
        show(copy)
        taken += 1
    assert 0 < taken < len(changes)


@pytest.mark.parametrize("seed", range(10))
def test_mutated_batches_never_crash_admission(seed: int) -> None:
    rng = random.Random(seed)
    gate = Admission(max_remembered=1000)
    day = frame_pb2.Frame.FromString(frames_of(seed)[0]).trading_day
    gate.set_bounds(day.pre_market_start_ns, day.post_market_end_ns)
    ids = array("i", [rng.choice((i, i, i, -1)) for i in range(20)])
    gateways = {"trades": gate.admit_trades, "bars": gate.admit_bars, "quotes": gate.admit_quotes,
             "limits": gate.admit_limits}  # fmt: skip
    for frame in frames_of(seed):
        parsed = frame_pb2.Frame.FromString(frame)
        kind = str(parsed.WhichOneof("body"))
        if kind in gateways:
            encoded = getattr(parsed, kind).SerializeToString()
            for _ in range(10):
                refuses_or_takes(partial(gateways[kind], id_map=ids), mutated(encoded, rng))


def test_random_bytes_are_no_rules() -> None:
    rng = random.Random(3)
    for _ in range(2000):
        refuses_or_takes(read_rules, rng.randbytes(rng.randrange(40)))
