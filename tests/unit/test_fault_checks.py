"""The checks of the robustness runs notice what they are there for."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tradeul.v1 import alerts_pb2, scanner_pb2, stream_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.lists.kept_rows import ListHole
from tests.robustness.faults import rig
from tests.robustness.faults.alerts import Alert, AlertWatcher, alert_problems
from tests.robustness.faults.checks import Epoch, bar_problems, compare_truth
from tests.robustness.faults.rig import Ledger, Rig, moved
from tests.robustness.faults.table import FAULTS, SMALL
from tests.support.known_market import MINUTE_MS, SNAPSHOT, Body, KnownMarket
from tests.support.scripted_day import FLUSH
from tests.support.set_clock import SetClock
from tests.support.watchers import GrpcWatcher, RedisWatcher, ShownRow

SYMBOL = "BRK.B"


@pytest.fixture
def market() -> KnownMarket:
    market = KnownMarket(3, symbols=4, per_second=20)
    market.advance(market.start_ms + 3 * MINUTE_MS)
    return market


def a_rig(market: KnownMarket) -> Rig:
    return cast(Rig, SimpleNamespace(market=market, is_exact=True))


def rows_of(market: KnownMarket) -> dict[str, Any]:
    """As the scanner shows them when everything is right."""
    return {
        symbol: SimpleNamespace(
            symbol=symbol, volume_today=truth.volume, price=truth.price, intraday_high=truth.high, high=truth.high,
            intraday_low=truth.low, low=truth.low, open=truth.open, trades_today=truth.trades,
        )
        for symbol, truth in market.truth.items()
        if symbol != FLUSH
    }  # fmt: skip


def stored_bars(market: KnownMarket) -> list[Body]:
    """As analytics stores them when everything is right."""
    return [
        {
            "symbol": symbol, "start_ms": minute.start_ms, "open": minute.open, "high": minute.high, "low": minute.low,
            "close": minute.close, "volume": minute.volume, "is_made": False,
        }
        for symbol, truth in market.truth.items()
        for minute in truth.minutes.values()
    ]  # fmt: skip


# --- the known market


def test_its_market_does_not_depend_on_how_fast_it_is_asked_for() -> None:
    whole, steps = KnownMarket(5), KnownMarket(5)
    end_ms = whole.start_ms + 2 * MINUTE_MS + 5000
    expected = whole.advance(end_ms)
    found: list[Body] = []
    while steps.now_ms < end_ms:
        found += steps.advance(min(end_ms, steps.now_ms + 37))
    assert found == expected
    assert {body["ev"] for body in expected} == {"T", "AM"}


def test_its_truth_is_the_sum_of_what_it_sends() -> None:
    market = KnownMarket(5)
    bodies = market.advance(market.start_ms + 3 * MINUTE_MS) + market.flush()
    for symbol, truth in market.truth.items():
        trades = [body for body in bodies if body["ev"] == "T" and body["sym"] == symbol]
        eligible = [body["p"] for body in trades if 37 not in body.get("c", ())]
        assert truth.volume == sum(body["s"] for body in trades)
        assert (truth.trades, truth.high, truth.low) == (len(trades), max(eligible), min(eligible))
        assert (truth.open, truth.price) == (eligible[0], eligible[-1])
        for bar in (body for body in bodies if body["ev"] == "AM" and body["sym"] == symbol):
            assert bar["av"] == sum(body["s"] for body in trades if body["t"] < bar["e"])
            assert bar["v"] == sum(body["s"] for body in trades if bar["s"] <= body["t"] < bar["e"])


def test_its_snapshot_and_its_rest_bars_agree_with_its_trades(market: KnownMarket) -> None:
    tickers = {ticker["ticker"]: ticker for ticker in market.rest(SNAPSHOT, {})["tickers"]}
    truth = market.truth[SYMBOL]
    assert tickers[SYMBOL]["min"]["av"] == truth.volume
    assert (tickers[SYMBOL]["day"]["h"], tickers[SYMBOL]["day"]["l"]) == (truth.high, truth.low)
    start = market.start_ms
    path = f"/v2/aggs/ticker/{SYMBOL}/range/1/minute/{start}/{start + 3 * MINUTE_MS - 1}"
    bars = market.rest(path, {})["results"]
    assert [bar["t"] for bar in bars] == [start, start + MINUTE_MS, start + 2 * MINUTE_MS]
    assert sum(bar["v"] for bar in bars) == truth.volume
    assert max(bar["h"] for bar in bars) == truth.high


# --- what is noticed at any time


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"volume": 1}, "repeats"),
        ({"trades": 1}, "repeats"),
        ({"high": 0.01}, "false highs"),
        ({"low": -0.01}, "false highs"),
    ],
)
def test_a_row_that_shows_more_than_has_happened_is_noticed(
    market: KnownMarket, change: dict[str, float], kind: str
) -> None:
    truth = market.truth[SYMBOL]
    row = ShownRow(SYMBOL, truth.volume, truth.trades, truth.high, truth.low)
    ledger = Ledger(market)
    ledger.check([row], "test")
    assert ledger.take() == ({}, [])
    ((name, by),) = change.items()
    ledger.check([row._replace(**{name: getattr(row, name) + by})], "test")
    counts, (example,) = ledger.take()
    assert counts == {kind: 1}
    assert SYMBOL in example


def test_a_row_of_a_symbol_that_does_not_exist_is_noticed(market: KnownMarket) -> None:
    ledger = Ledger(market)
    ledger.check([ShownRow("MADEUP", 1, 1, 1, 1)], "test")
    assert ledger.take()[0] == {"false rows": 1}


def delta(previous: int, sequence: int, epoch: int = 7) -> scanner_pb2.WatchListResponse:
    return scanner_pb2.WatchListResponse(
        delta=scanner_pb2.ListDelta(list="filtered", epoch=epoch, previous_sequence=previous, sequence=sequence)
    )


def test_a_watcher_notices_a_hole_and_a_repeat(market: KnownMarket) -> None:
    watcher = GrpcWatcher("nowhere", "filtered")
    seen: list[ShownRow] = []
    watcher.on_rows = seen.extend
    snapshot = scanner_pb2.RankedList(list="filtered", epoch=7, sequence=3)
    snapshot.rows.append(TickerRow(symbol=SYMBOL, rank=1, volume_today=5.0))
    watcher.apply(scanner_pb2.WatchListResponse(snapshot=snapshot))
    assert seen == [ShownRow(SYMBOL, 5.0, None, None, None)]
    watcher.apply(delta(3, 4))
    with pytest.raises(AssertionError, match="a repeat"):
        watcher.apply(delta(3, 4))
    with pytest.raises(ListHole):
        watcher.apply(delta(5, 6))
    ledger = Ledger(market)
    for what in ("gRPC filtered: a repeat: 4 after 4", "gRPC filtered: a hole: 6 after 4"):
        ledger.broken(what)
    assert ledger.take()[0] == {"repeats": 1, "holes": 1}


def test_a_reader_of_redis_notices_a_hole_and_a_repeat() -> None:
    watcher = RedisWatcher("nowhere", "filtered")
    empty = {"list": "filtered", "epoch": 7, "deltas": [], "change_count": 0}
    watcher.take_message({"type": "snapshot", "list": "filtered", "epoch": 7, "sequence": 3, "rows": [], "count": 0})
    watcher.take_message({"type": "delta", **empty, "previous_sequence": 3, "sequence": 5})
    assert watcher.position == (7, 5)
    with pytest.raises(AssertionError, match="a repeat"):
        watcher.take_message({"type": "delta", **empty, "previous_sequence": 3, "sequence": 5})
    with pytest.raises(AssertionError, match="a hole"):
        watcher.take_message({"type": "delta", **empty, "previous_sequence": 6, "sequence": 7})
    with pytest.raises(AssertionError, match="a hole"):
        watcher.take_message({"type": "delta", **empty, "epoch": 8, "previous_sequence": 5, "sequence": 6})


# --- what is compared once everything has arrived


def test_rows_that_differ_from_the_truth_are_named(market: KnownMarket) -> None:
    rows = rows_of(market)
    assert compare_truth(a_rig(market), list(rows.values())) == []
    rows[SYMBOL].volume_today -= 1
    rows[SYMBOL].trades_today -= 1
    rows[SYMBOL].intraday_high -= 0.01
    problems = compare_truth(a_rig(market), list(rows.values()))
    assert [problem.split()[1] for problem in problems] == ["volume_today", "intraday_high", "trades_today"]
    del rows[SYMBOL]
    assert compare_truth(a_rig(market), list(rows.values())) == [f"{SYMBOL} is missing"]


def test_bars_that_are_missing_different_or_stored_twice_are_named(market: KnownMarket) -> None:
    bars = stored_bars(market)
    assert bar_problems(market, bars, market.now_ms) == []
    first = bars[0]
    missing = bar_problems(market, bars[1:], market.now_ms)
    assert missing == [f"bar {first['symbol']} {first['start_ms']} is missing"]
    assert "stored twice" in bar_problems(market, [*bars, first], market.now_ms)[0]
    wrong = {**first, "volume": first["volume"] - 1}
    (problem,) = bar_problems(market, [wrong, *bars[1:]], market.now_ms)
    assert f"volume {wrong['volume']}, expected {first['volume']}" in problem


def test_alerts_that_are_missing_different_or_stored_twice_are_named() -> None:
    up, down = Alert("up", "AA"), Alert("down", "AA")
    table = [((1, 1), up), ((1, 2), down), ((2, 1), up), ((2, 2), up)]
    seen = {(1, 2): down, (2, 1): up}
    assert alert_problems(table, table[1:], (2, 2), seen) == []
    assert alert_problems(table, [], (2, 2), seen) == ["the stream lacks 1 alerts, the first is (2, 2)"]
    assert alert_problems(table[1:], table, (2, 2), seen) == ["the table lacks 1 alerts, the first is (1, 1)"]
    assert alert_problems(table, [table[0], *table[2:]], (2, 2), seen) == [
        "the stream lacks 1 alerts, the first is (1, 2)"
    ]
    # What comes meanwhile may be in one place and not yet in the others.
    assert alert_problems([*table, ((2, 3), up)], table, (2, 2), {(2, 4): up}) == []
    # A client has seen the end of an epoch that no store has.
    assert alert_problems(table, table, (2, 2), {(1, 3): up}) == [
        f"the {where} lacks 1 alerts, the first is (1, 3)" for where in ("table", "stream")
    ]
    assert alert_problems([*table, table[0]], table, (2, 2), seen) == ["(1, 1) is stored 2 times"]
    assert alert_problems(table, [*table, table[0]], (2, 2), seen) == ["the stream has alerts twice, or not in order"]
    (problem,) = alert_problems(table, table, (2, 2), {(1, 1): down})
    assert problem.startswith("(1, 1): ")


def test_a_client_that_follows_alerts_notices_a_hole_and_a_repeat() -> None:
    broken: list[str] = []
    watcher = AlertWatcher("", broken.append)

    def alert(sequence: int, epoch: int = 1) -> alerts_pb2.WatchAlertsResponse:
        return alerts_pb2.WatchAlertsResponse(alert=alerts_pb2.Alert(epoch=epoch, sequence=sequence, rule="up"))

    opened = alerts_pb2.AlertsOpened(position=stream_pb2.StreamPosition(epoch=1, sequence=4))
    watcher.take(alerts_pb2.WatchAlertsResponse(opened=opened))
    for sequence in (5, 6):
        watcher.take(alert(sequence))
    reset = stream_pb2.StreamReset(position=stream_pb2.StreamPosition(epoch=2, sequence=0), reason="another epoch")
    watcher.take(alerts_pb2.WatchAlertsResponse(reset=reset))
    watcher.take(alert(1, 2))
    assert (broken, len(watcher.seen), watcher.resets) == ([], 3, ["another epoch"])
    watcher.take(alert(3, 2))
    watcher.take(alert(3, 2))
    assert broken == ["alerts: a hole: 2/3 after 2/1", "alerts: a repeat: 2/3 after 2/3"]


async def test_a_task_that_takes_a_cancellation_for_something_else_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig, "AGAIN_SECONDS", 0.01)
    began = asyncio.Event()

    async def swallow() -> None:
        for _ in range(2):
            began.set()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        await asyncio.sleep(60)

    task = asyncio.create_task(swallow())
    await began.wait()
    await asyncio.wait_for(rig.end_tasks([task]), 10)
    assert task.cancelled()


def test_a_client_that_has_to_begin_anew_is_named() -> None:
    watcher, alerts = GrpcWatcher("", "filtered"), AlertWatcher("", lambda what: None)
    watcher.copy.epoch = 5
    epoch = Epoch(cast(Rig, SimpleNamespace(watchers=[watcher], alerts=alerts)))
    assert epoch.problems() == []
    watcher.copy.epoch = 6
    watcher.resets.append("at (5, 7): of another epoch")
    alerts.resets.append("of another epoch")
    assert epoch.problems() == [
        "gRPC filtered: epoch 6, expected 5",
        "gRPC filtered: reset at (5, 7): of another epoch",
        "alerts: reset: of another epoch",
    ]


def test_an_event_is_moved_with_all_its_times() -> None:
    trade, bar = {"ev": "T", "t": 1000, "s": 300}, {"ev": "AM", "s": 1000, "e": 2000, "v": 5}
    assert moved(trade, 50) == {"ev": "T", "t": 1050, "s": 300}
    assert moved(bar, 50) == {"ev": "AM", "s": 1050, "e": 2050, "v": 5}


def test_a_process_has_the_time_that_is_set(tmp_path: Path) -> None:
    begin_ms = 1_773_151_200_000
    clock = SetClock(tmp_path, begin_ms)

    def seen_ms() -> float:
        command = (sys.executable, "-c", "import time; print(time.time_ns() // 1_000_000)")
        return float(subprocess.check_output(command, env={**os.environ, **clock.environment}))

    assert begin_ms <= seen_ms() <= clock.right_ms() + 1
    clock.set_by(-3600)
    assert begin_ms - 3_600_000 <= seen_ms() <= clock.right_ms() - 3_600_000 + 1
    clock.set_by(0)
    assert begin_ms <= seen_ms() <= clock.right_ms() + 1


def test_faults_have_names_of_their_own() -> None:
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert set(names) >= SMALL
