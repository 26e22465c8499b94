"""The soak's endless trades: unique, whole, moving on in time, and counted."""

import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from bench.endless_trades import TICKS_PER_SECOND, EndlessTrades
from bench.workload import Workload

PER_SECOND = 10_000
ROUND_SECONDS = 1


def trades_of(frame: bytes) -> list[dict[str, Any]]:
    """Of a text frame of less than 64 KiB."""
    assert frame[0] == 0x81
    head, size = (4, int.from_bytes(frame[2:4], "big")) if frame[1] == 126 else (2, frame[1])
    assert size < 1 << 16 and len(frame) == head + size
    found: list[dict[str, Any]] = json.loads(frame[head:])
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


def test_bars_are_of_the_trades_of_their_minute() -> None:
    """Also of those that come late, over a minute's end."""
    workload = Workload(50, start="09:59:58")
    endless = EndlessTrades(workload, PER_SECOND // 10, ROUND_SECONDS)
    trades: list[dict[str, Any]] = []
    bars: list[dict[str, Any]] = []
    for _ in range(66 * TICKS_PER_SECOND):
        trades += trades_of(endless.frame())
        if frame := endless.bars():
            bars += trades_of(frame)
    by_minute: defaultdict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for trade in sorted(trades, key=lambda trade: trade["t"]):
        by_minute[trade["sym"], trade["t"] // 60_000 * 60_000].append(trade)
    assert {bar["s"] for bar in bars} == {minute for _, minute in by_minute} - {max(m for _, m in by_minute)}
    for bar in bars:
        found = by_minute[bar["sym"], bar["s"]]
        plain = [trade["p"] for trade in found if not trade["c"]]
        shares = sum(trade["s"] for trade in found)
        assert (bar["v"], bar["e"]) == (shares, bar["s"] + 60_000)
        assert (bar["o"], bar["h"], bar["l"], bar["c"]) == (plain[0], max(plain), min(plain), plain[-1])
        assert bar["vw"] == pytest.approx(sum(trade["p"] * trade["s"] for trade in found) / shares, abs=1e-4)
        day = [trade["s"] for trade in trades if trade["sym"] == bar["sym"] and trade["t"] < bar["e"]]
        assert bar["av"] == sum(day)
    assert len(bars) > 50
    assert endless.volumes.sum() == sum(trade["s"] for trade in trades)
    assert endless.volumes_in_bars.tolist() == endless.volumes.tolist()


def test_shares_of_a_minute_without_a_price_are_in_no_bar() -> None:
    workload = Workload(500, start="10:00:01")
    endless = EndlessTrades(workload, TICKS_PER_SECOND, ROUND_SECONDS)
    trades = [trade for _ in range(TICKS_PER_SECOND) for trade in trades_of(endless.frame())]
    priced = {trade["sym"] for trade in trades if not trade["c"]}
    assert priced < {trade["sym"] for trade in trades}
    in_bars = dict(zip(workload.symbols, endless.volumes_in_bars.tolist(), strict=True))
    assert {symbol for symbol, shares in in_bars.items() if shares} == priced
    assert sum(in_bars.values()) == sum(trade["s"] for trade in trades if trade["sym"] in priced)


def test_ticks_have_the_same_number_of_trades() -> None:
    with pytest.raises(ValueError, match="multiple of 200 trades a second, was 10001"):
        EndlessTrades(Workload(10), 10_001)
