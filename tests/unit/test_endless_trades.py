"""The soak's endless trades: unique, whole, moving on in time, and counted."""

import json
from collections import Counter
from typing import Any

import pytest

from bench.endless_trades import TICKS_PER_SECOND, EndlessTrades
from bench.workload import Workload

PER_SECOND = 10_000
ROUND_SECONDS = 1


def trades_of(frame: bytes) -> list[dict[str, Any]]:
    assert frame[:2] == bytes((0x81, 126)), "a text frame of less than 64 KiB"
    assert int.from_bytes(frame[2:4], "big") == len(frame) - 4
    found: list[dict[str, Any]] = json.loads(frame[4:])
    return found


def test_each_round_has_the_same_trades_later_and_by_other_numbers() -> None:
    endless = EndlessTrades(Workload(500), PER_SECOND, ROUND_SECONDS)
    rounds = [[trade for _ in range(TICKS_PER_SECOND) for trade in trades_of(endless.frame())] for _ in range(3)]
    every = [trade for each in rounds for trade in each]
    assert len(every) == endless.trades == 3 * PER_SECOND * ROUND_SECONDS
    assert len({trade["i"] for trade in every}) == len(every)
    assert all(trade["i"] == str(trade["q"]) for trade in every)
    for number, each in enumerate(rounds):
        moved = [{**trade, "t": trade["t"] + number * ROUND_SECONDS * 1000} for trade in rounds[0]]
        assert [{**trade, "i": 0, "q": 0} for trade in each] == [{**trade, "i": 0, "q": 0} for trade in moved]


def test_counts_are_of_what_was_made_so_far() -> None:
    workload = Workload(500)
    endless = EndlessTrades(workload, PER_SECOND, ROUND_SECONDS)
    made: Counter[str] = Counter()
    for _ in range(TICKS_PER_SECOND + 3):
        made.update(trade["sym"] for trade in trades_of(endless.frame()))
    counts = dict(zip(workload.symbols, endless.counts.tolist(), strict=True))
    assert {symbol: count for symbol, count in counts.items() if count} == made


def test_ticks_have_the_same_number_of_trades() -> None:
    with pytest.raises(ValueError, match="multiple of 200 trades a second, was 10001"):
        EndlessTrades(Workload(10), 10_001)
