"""Baselines are kept in less room than they come in, and every value is given back bit by bit."""

import ctypes
import math
import random
import struct

import numpy as np
import pytest

from fastcore.market_state import MarketState
from tests.support.small_market import SmallMarket

SLOTS = 192
Kinds = tuple[list[float], list[float], list[float]]
# The largest sum that fits, and the next one.
LARGEST = 2**32 - 1


class Mallinfo2(ctypes.Structure):
    """What glibc's mallinfo2() returns."""

    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks used".split()]
    _fields_ += [("free", ctypes.c_size_t), ("keepcost", ctypes.c_size_t)]


def measured(rng: random.Random, days: int, busy: float) -> Kinds:
    """Means and sample standard deviations of whole numbers, as the loaders make them."""
    grid = np.array([[rng.expovariate(1 / busy) for _ in range(SLOTS)] for _ in range(days)]).astype(np.int64)
    shares, trades = (grid * 100).cumsum(axis=1).astype(float), grid.cumsum(axis=1).astype(float)
    return shares.mean(axis=0).tolist(), trades.mean(axis=0).tolist(), trades.std(axis=0, ddof=1).tolist()


def any_doubles(rng: random.Random) -> list[float]:
    """Random bits: subnormal, negative and huge numbers, infinities and NaNs of all kinds."""
    return [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(SLOTS)]


def nearly(values: list[float], rng: random.Random) -> list[float]:
    """The same but for one, which is some units of the last place beside."""
    slot = rng.randrange(SLOTS)
    bits = struct.unpack("<q", struct.pack("<d", values[slot]))[0] + rng.choice((-200, -128, -1, 1, 127, 128, 200))
    return [*values[:slot], struct.unpack("<d", struct.pack("<q", max(bits, 0)))[0], *values[slot + 1 :]]


def kept(kinds: Kinds, days: int) -> bool:
    """True if a copy of the market has these bits, and so has a copy of that one."""
    state = MarketState()
    market = SmallMarket(state)
    market.baselines(*kinds, days=days, symbol_id=1)
    sent = struct.pack(f"<I{3 * SLOTS}d", days, *(value for kind in kinds for value in kind))
    written = state.to_bytes()
    return sent in written and MarketState.from_bytes(written).to_bytes() == written


@pytest.mark.parametrize("seed", range(40))
def test_measured_values_are_kept(seed: int) -> None:
    rng = random.Random(seed)
    days = rng.choice((3, 7, 30, rng.randrange(2, 31)))
    kinds = measured(rng, days, rng.choice((0.1, 3, 200, 20_000)))
    assert kept(kinds, days)
    assert kept((nearly(kinds[0], rng), nearly(kinds[1], rng), nearly(kinds[2], rng)), days)
    # Of other days than they were measured of.
    assert kept(kinds, rng.choice((0, 1, 2, 29, LARGEST)))


@pytest.mark.parametrize("seed", range(20))
def test_any_values_are_kept(seed: int) -> None:
    rng = random.Random(seed)
    usual = measured(rng, 5, 10)
    kinds = [usual[kind] if rng.random() < 0.3 else any_doubles(rng) for kind in range(3)]
    assert kept((kinds[0], kinds[1], kinds[2]), rng.choice((0, 1, 5, 30, LARGEST)))


@pytest.mark.parametrize("value", [0.0, -0.0, 65_535 / 7, 65_536 / 7, LARGEST / 7, (LARGEST + 1) / 7, math.nan, 1e300])
def test_the_bounds_of_what_is_shortened(value: float) -> None:
    for slot in (0, SLOTS - 1):
        kind = [1.0] * SLOTS
        kind[slot] = value
        assert kept((kind, kind, kind), 7)


@pytest.mark.parametrize(("busy", "most"), [(5, 2200), (20, 2600)])
def test_a_symbols_baseline_takes_about_half_of_its_values(busy: float, most: int) -> None:
    """Its values are 4,608 bytes."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        pytest.skip("the C library has no mallinfo2()")
    mallinfo2.restype = Mallinfo2
    rng, symbols = random.Random(1), [f"S{i}" for i in range(200)]
    kinds = measured(rng, 30, busy)
    state = MarketState()
    market = SmallMarket(state, symbols=symbols)
    before = mallinfo2().used
    for number in range(len(symbols)):
        market.baselines(*kinds, symbol_id=number)
    assert 1000 < (mallinfo2().used - before) / len(symbols) < most
