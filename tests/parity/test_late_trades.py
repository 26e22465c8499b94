"""Trades that come minutes late go where they belong: among buckets and seconds that are there, and between them."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from tradeul.v1 import frame_pb2, market_data_pb2, stream_pb2

from fastcore.market_state import MarketState
from fastcore.reference.market_twin import MarketTwin
from tests.support.compare_rows import differences
from tests.support.market_stream import DAYS, EPOCH, at

SECOND = 1_000_000_000
SYMBOLS = ("A", "B", "C")
MINUTES = 75


def frames(seed: int) -> Iterator[bytes]:
    """An hour and a quarter in which half of all trades are late: by a second, or by up to 35 minutes."""
    rng = random.Random(seed)
    open_ns = at(DAYS[0].date, "09:30:00")
    bodies: list[dict[str, Any]] = [
        {"trading_day": DAYS[0].message()},
        {"symbols": frame_pb2.SymbolTable(first_id=0, symbols=SYMBOLS)},
    ]
    second = 0
    while second < MINUTES * 60:
        second += rng.choice((1, 3, 9, 25))
        delay = rng.choice((0, 0, 1, rng.randrange(60), rng.randrange(35 * 60)))
        time_ns = open_ns + max(second - delay, -1_800) * SECOND + rng.randrange(SECOND)
        trade = market_data_pb2.TradeBatch(
            symbol_id=[rng.randrange(len(SYMBOLS))],
            time_ns=[time_ns],
            price=[round(rng.uniform(9.9, 10.1), 2)],
            # Whole shares would add up to the same in any order.
            size=[rng.randrange(1, 500_000) / 1000],
            conditions=[0],
        )
        bodies.append({"trades": trade})
        if rng.random() < 0.2:
            bodies.append({"watermark": frame_pb2.Watermark(event_time_ns=open_ns + second * SECOND)})
        if rng.random() < 0.01:
            until = open_ns + max(second - rng.randrange(600), 0) // 60 * 60 * SECOND
            volume = float(rng.randrange(1, 10**6))
            bar = market_data_pb2.BarBatch(
                span=market_data_pb2.MINUTE,
                symbol_id=[rng.randrange(len(SYMBOLS))],
                start_ns=[until - 60 * SECOND],
                end_ns=[until],
                open=[10.0],
                high=[10.1],
                low=[9.9],
                close=[10.0],
                volume=[volume / 10],
                vwap=[10.0],
                accumulated_volume=[volume],
                day_vwap=[10.0],
                average_size=[100.0],
                official_open=[10.0],
            )
            bodies.append({"bars": bar})
    for number, body in enumerate(bodies, 1):
        position = stream_pb2.StreamPosition(epoch=EPOCH, sequence=number)
        yield frame_pb2.Frame(position=position, **body).SerializeToString()


@pytest.mark.parametrize("seed", range(6))
def test_late_trades_go_where_they_belong(seed: int) -> None:
    state, twin = MarketState(), MarketTwin()
    for number, frame in enumerate(frames(seed)):
        state.apply(frame)
        twin.apply(frame)
        if number % 11 == 0:
            state.refresh()
            for symbol in twin.symbols:
                assert differences(state.row(symbol), twin.row(symbol)) == {}, f"{symbol} after frame {number}"


@pytest.mark.parametrize("seed", range(20, 26))
def test_what_is_added_up_step_by_step_has_the_bits_of_what_is_added_up_at_once(seed: int) -> None:
    """A copy that was read from bytes adds up all buckets anew, one that goes on only what has changed."""
    state = MarketState()
    for number, frame in enumerate(frames(seed)):
        state.apply(frame)
        if number % 3 == 0:
            state.refresh()
        if number and number % 12 == 0:
            copy = MarketState.from_bytes(state.to_bytes())
            assert copy.to_bytes() == state.to_bytes()
            copy.refresh()
            for symbol in SYMBOLS:
                assert copy.row(symbol) == state.row(symbol), f"{symbol} after frame {number}"
            if number % 36 == 0:
                state = copy
