"""Baselines are kept in less room than they come in, and every value is given back bit by bit."""

import math
import random
import re
import statistics
import struct

import numpy as np
import pytest

from fastcore.market_state import MarketState
from tests.support.heap import used_bytes
from tests.support.small_market import SmallMarket

SLOTS = 192
Kinds = tuple[list[float], list[float], list[float]]
# The largest sum that fits, and the next one.
LARGEST = 2**32 - 1


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


def decoded(block: bytes, widths: bytes, days: int) -> list[float]:
    """The values of an encoded baseline, after its days, as fastcore/baselines.pyx says that they are kept."""
    values: list[float] = []
    for kind, width in enumerate(widths):
        part, block = block[: width * SLOTS], block[width * SLOTS :]
        if width == 8:
            values += struct.unpack(f"<{SLOTS}d", part)
        elif kind < 2:
            values += [total / days for total in struct.unpack(f"<{SLOTS}{'HI'[width // 4]}", part)]
        else:
            roots = [math.sqrt(each / (days * (days - 1))) for each in struct.unpack_from(f"<{SLOTS}I", part)]
            bits = struct.unpack(f"<{SLOTS}q", struct.pack(f"<{SLOTS}d", *roots))
            last_bits = struct.unpack_from(f"<{SLOTS}b", part, 4 * SLOTS)
            bits = tuple(sum(pair) for pair in zip(bits, last_bits, strict=True))
            values += struct.unpack(f"<{SLOTS}d", struct.pack(f"<{SLOTS}q", *bits))
    assert not block
    return values


def kept(kinds: Kinds, days: int) -> bool:
    """True if a copy of the market has these bits, and so has a copy of that one."""
    state = MarketState()
    market = SmallMarket(state)
    without = len(state.to_bytes())
    market.baselines(*kinds, days=days, symbol_id=1)
    written = state.to_bytes()
    # The header: it has the bytes of each value; then the days.
    found = [
        match
        for match in re.finditer(
            rb"([\x02\x04\x08]{2}[\x05\x08])\0{5}" + re.escape(struct.pack("<I", days)), written, re.DOTALL
        )
        if sum(match[1]) * SLOTS + 4 == len(written) - without
    ]
    sent = struct.pack(f"<{3 * SLOTS}d", *(value for kind in kinds for value in kind))
    blocks = (decoded(written[at.end() : at.end() + sum(at[1]) * SLOTS], at[1], days) for at in found)
    return (
        sent in [struct.pack(f"<{3 * SLOTS}d", *block) for block in blocks]
        and MarketState.from_bytes(written).to_bytes() == written
    )


@pytest.mark.parametrize(("kind", "width"), [(0, 1), (1, 5), (2, 4), (2, 0)])
def test_bytes_of_another_width_are_refused(kind: int, width: int) -> None:
    state = MarketState()
    SmallMarket(state).baselines(*measured(random.Random(1), 3, 20_000), days=3, symbol_id=1)
    written = bytearray(state.to_bytes())
    at = written.index(bytes((4, 4, 8)) + bytes(5) + struct.pack("<I", 3))
    written[at + kind] = width
    with pytest.raises(ValueError, match=f"values of kind {kind} have 2, 4, 5 or 8 bytes, was {width}"):
        MarketState.from_bytes(bytes(written))


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


def test_slot_after_slot_is_as_a_jump_there() -> None:
    """A copy's slot was not filled before: it takes every value anew."""
    state = MarketState()
    market = SmallMarket(state)
    rng = random.Random(1)
    for number, symbol in enumerate(state.symbols[:3]):
        market.baselines(*measured(rng, 30, (0.1, 20, 20_000)[number]), days=30 if number else 2, symbol_id=number)
        market.trade("04:00:00", 10, 3000, symbol=symbol)
    for slot in (*range(8), 30, 31, 191):
        market.watermark(f"{4 + slot // 12:02}:{slot % 12 * 5 + 2:02}:30")
        state.refresh()
        copy = MarketState.from_bytes(state.to_bytes())
        copy.refresh()
        rows = [[each.row(symbol) for symbol in state.symbols] for each in (state, copy)]
        assert rows[0] == rows[1]
        assert [row.get("rvol") is not None for row in rows[0]][:3] == [False, True, True]


@pytest.mark.parametrize(("busy", "most"), [(5, 2200), (20, 2600)])
def test_a_symbols_baseline_takes_about_half_of_its_values(busy: float, most: int) -> None:
    """Its values are 4,608 bytes."""
    symbols = [f"S{i}" for i in range(200)]
    kinds = measured(random.Random(1), 30, busy)
    sizes, kept = [], []
    # Other threads of this process take memory, too, but not each time.
    for _ in range(3):
        market = SmallMarket(MarketState(), symbols=symbols)
        kept.append(market)
        before = used_bytes()
        for number in range(len(symbols)):
            market.baselines(*kinds, symbol_id=number)
        sizes.append((used_bytes() - before) / len(symbols))
    assert 1000 < statistics.median(sizes) < most
