"""A whole market as bytes: refused, or a market that can be shown, continued and written again.

The first byte of an input chooses: the rows alone, or with their lists.
"""

import random
from collections.abc import Iterator
from functools import cache

from fastcore.market import Market, state_of
from fastcore.market_state import MarketState
from tests.robustness.fuzz.readers import read_everything, read_rows
from tests.robustness.fuzz.target import Target
from tests.robustness.fuzz.targets.market import LISTS, stream
from tests.support.market_stream import EPOCH
from tests.support.mutations import structured


@cache
def later() -> list[bytes]:
    return stream(1)[40:44]


def run(data: bytes) -> None:
    if data[:1] == b"\1":
        run_market(data[1:])
    else:
        run_rows(data[1:])


def run_rows(data: bytes) -> None:
    try:
        state = MarketState.from_bytes(data)
    except ValueError:
        return
    written = state.to_bytes()
    assert MarketState.from_bytes(written).to_bytes() == written
    read_rows(state)
    for frame in later():
        try:
            state.apply(frame)
        except ValueError:
            return
    read_rows(state)
    copy = MarketState.from_bytes(state.to_bytes())
    assert copy.hash() == state.hash()


def run_market(data: bytes) -> None:
    try:
        state_of(data)
    except ValueError:
        is_state = False
    else:
        is_state = True
    try:
        market = Market.from_bytes(LISTS, data)
    except ValueError:
        return
    assert is_state
    written = market.to_bytes()
    assert Market.from_bytes(LISTS, written).to_bytes() == written
    read_everything(market)
    for frame in later():
        try:
            market.apply(frame)
        except ValueError:
            return
    read_everything(market)
    assert Market.from_bytes(LISTS, market.to_bytes()).hash() == market.hash()


def mutate(data: bytes, rng: random.Random) -> bytes:
    return data[:1] + structured(data[1:], rng)


def seeds() -> Iterator[bytes]:
    for length in (3, 10, 40):
        market = Market(LISTS, EPOCH)
        for frame in stream(1)[:length]:
            market.apply(frame)
        yield b"\0" + market.state.to_bytes(False)
        yield b"\1" + market.to_bytes(False)


TARGET = Target(run, seeds, longest=20_000, mutate=mutate)
