"""analytics between a scripted sequencer and its clients: its numbers are the scanner's, its streams whole."""

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from tradeul.v1 import analytics_pb2, frame_pb2, scanner_pb2, session_pb2, stream_pb2

from tests.support.measured import measured
from tests.support.refusals import Refusal, refusal
from tests.support.running_analytics import RunningAnalytics, running_analytics
from tests.support.running_scanner import running_scanner
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer
from tests.support.tape import EPOCH, Tape, at

SYMBOLS = [f"S{i:02}" for i in range(20)]
Request = analytics_pb2.SubscribeMetricsRequest
WAIT_SECONDS = 60
# What reading gives at the end of a stream.
EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]


def volume_curve(tape: Tape, days: int = 30) -> bytes:
    """Everybody trades 10 shares a slot, on average."""
    ids = range(len(tape.symbols))
    return tape.frame(
        baselines=frame_pb2.VolumeBaselines(
            symbol_id=ids,
            days=[days for _ in ids],
            avg_volume=[10.0 * (slot + 1) for _ in ids for slot in range(192)],
            avg_trades=[float(slot + 1) for _ in ids for slot in range(192)],
            sd_trades=[1.0 for _ in ids for _ in range(192)],
        )
    )


@pytest.fixture
async def sequencer() -> AsyncIterator[ScriptedSequencer]:
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as running:
        running.send(*tape.opening(), volume_curve(tape))
        running.trade({"S01": 105.0, "S02": 92.0})
        yield running


@pytest.fixture
async def analytics(sequencer: ScriptedSequencer) -> AsyncIterator[RunningAnalytics]:
    async with running_analytics(sequencer) as running:
        yield running


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal(caught.value)


@pytest.mark.parametrize("days", [0, 2])
async def test_the_number_of_days_is_shown_when_they_are_too_few(sequencer: ScriptedSequencer, days: int) -> None:
    unknown = [math.nan] * 192
    too_few = frame_pb2.VolumeBaselines(
        symbol_id=[1], days=[days], avg_volume=unknown, avg_trades=unknown, sd_trades=unknown
    )
    sequencer.send(sequencer.tape.frame(baselines=too_few))
    async with running_analytics(sequencer) as analytics:
        await analytics.until_at(sequencer)
        answer = await analytics.rvol("S01")
        assert (answer.HasField("days"), answer.days) == (True, days)
        assert not any(answer.HasField(name) for name in ("rvol", "rvol_slot", "baseline"))
        assert answer.volume_today == 100


async def test_relative_volume(sequencer: ScriptedSequencer, analytics: RunningAnalytics) -> None:
    await analytics.until_at(sequencer)
    answer = await analytics.rvol("s01")
    # 10:00 is the end of slot 71, where 720 shares are usual.
    assert (answer.symbol, answer.slot, answer.session) == ("S01", 72, session_pb2.MARKET_OPEN)
    assert (answer.volume_today, answer.days) == (100, 30)
    assert answer.baseline == pytest.approx(720, rel=1e-6)
    assert answer.rvol == pytest.approx(100 / 720, abs=1e-6)
    assert answer.rvol_slot == pytest.approx(100 / 730, abs=1e-6)
    assert answer.updated_at.ToNanoseconds() == sequencer.tape.now_ns
    assert (answer.position.epoch, answer.position.sequence) == (EPOCH, sequencer.market.sequence)
    silent = await analytics.rvol("S19")
    assert silent.HasField("baseline") and not silent.HasField("volume_today") and not silent.HasField("rvol")


async def test_the_curve_of_the_volume(sequencer: ScriptedSequencer, analytics: RunningAnalytics) -> None:
    # Over the ends of the slots 72 and 73, with 100 shares more in each.
    sequencer.trade({"S01": 105.0}, seconds=301)
    sequencer.trade({"S01": 105.0}, seconds=300)
    await analytics.until_at(sequencer)
    curve = await analytics.stub.GetVolumeCurve(analytics_pb2.GetVolumeCurveRequest(symbol="s01"))
    assert curve.rvol == await analytics.rvol("S01")
    assert [each.slot for each in curve.slots] == list(range(192))
    assert [each.usual for each in curve.slots] == [10.0 * (slot + 1) for slot in range(192)]
    assert {each.slot: each.today for each in curve.slots if each.HasField("today")} == {72: 200, 73: 300}
    assert curve.slots[0].time.ToNanoseconds() == at("04:05:00")
    assert curve.slots[191].time.ToNanoseconds() == at("20:00:00")
    unknown = await analytics.stub.GetVolumeCurve(analytics_pb2.GetVolumeCurveRequest(symbol="S19"))
    assert {each.HasField("today") for each in unknown.slots} == {False}
    refusal = await refused(analytics.stub.GetVolumeCurve(analytics_pb2.GetVolumeCurveRequest(symbol="NOSUCH")))
    assert refusal.reason == "UNKNOWN_SYMBOL"


async def test_the_range_of_the_day(sequencer: ScriptedSequencer, analytics: RunningAnalytics) -> None:
    for price in (107.0, 104.0, 107.0, 106.0):
        sequencer.trade({"S01": price}, seconds=1)
    await analytics.until_at(sequencer)
    answer = await analytics.intraday("S01")
    first = at("10:00:00") + 1_000_000
    assert (answer.symbol, answer.high, answer.low) == ("S01", 107.0, 104.0)
    assert answer.high_time.ToNanoseconds() == first + 1_000_000
    assert answer.low_time.ToNanoseconds() == first + 1_000_000_000 + 2_000_000
    assert not (await analytics.intraday("S19")).HasField("high")


async def test_what_is_asked_wrongly(analytics: RunningAnalytics) -> None:
    assert (await refused(analytics.rvol("S99"))).reason == "UNKNOWN_SYMBOL"
    assert (await refused(analytics.rvol("no symbol"))).reason == "INVALID_SYMBOL"
    assert (await refused(analytics.intraday(""))).reason == "INVALID_SYMBOL"
    for symbols, request in (([], {}), (["S01"] * 501, {}), (["S01"], {"min_interval_ms": 999})):
        assert (await refused(analytics.watch(*symbols, **request).read())).reason == "INVALID_REQUEST"
    assert (await refused(analytics.watch("S01", "S99").read())).reason == "UNKNOWN_SYMBOL"


async def test_its_numbers_are_the_scanners(sequencer: ScriptedSequencer, analytics: RunningAnalytics) -> None:
    """At the same position, whatever each of them was asked before."""
    async with running_scanner(sequencer) as scanner:
        for step in range(25):
            prices = {symbol: 100.0 + (step * 7 + i) % 11 for i, symbol in enumerate(SYMBOLS[: step + 3])}
            sequencer.trade(prices, seconds=37)
            await asyncio.gather(analytics.until_at(sequencer), scanner.until_at(sequencer))
            for symbol in SYMBOLS[:: 1 + step % 5]:
                row = await scanner.stub.GetTickerRow(scanner_pb2.GetTickerRowRequest(symbol=symbol))
                rvol, intraday = await analytics.rvol(symbol), await analytics.intraday(symbol)
                for name in ("rvol", "rvol_slot", "volume_today", "updated_at"):
                    assert rvol.HasField(name) == row.HasField(name), (symbol, name)
                    assert getattr(rvol, name) == getattr(row, name), (symbol, name)
                assert (intraday.high, intraday.low) == (row.intraday_high, row.intraday_low)
        assert measured(analytics.core.state) == measured(scanner.hub.core.market.state)


async def test_a_stream_of_metrics(sequencer: ScriptedSequencer, analytics: RunningAnalytics) -> None:
    call = analytics.watch("S02", "s01", "S01")
    kinds = [(await call.read()).WhichOneof("response") for _ in range(1)]
    assert kinds == ["opened"]
    snapshot = (await call.read()).snapshot
    assert [metrics.rvol.symbol for metrics in snapshot.metrics] == ["S02", "S01"]
    assert [metrics.intraday.high for metrics in snapshot.metrics] == [92.0, 105.0]
    assert (await call.read()).WhichOneof("response") == "current"
    sequencer.send(sequencer.tape.trades({"S01": 106.0, "S05": 50.0}))
    response = await call.read()
    assert response.WhichOneof("response") == "metrics"
    changed = {metrics.rvol.symbol: metrics for metrics in response.metrics.metrics}["S01"]
    assert (changed.rvol.symbol, changed.rvol.volume_today, changed.intraday.high) == ("S01", 200, 106.0)
    assert response.metrics.position.sequence == sequencer.market.sequence
    call.cancel()


async def test_a_stream_goes_away_in_band(sequencer: ScriptedSequencer, analytics: RunningAnalytics) -> None:
    call = analytics.watch("S01")
    assert [(await call.read()).WhichOneof("response") for _ in range(3)] == ["opened", "snapshot", "current"]
    await analytics.service.drain()
    while (response := await call.read()).WhichOneof("response") == "metrics":
        pass
    assert response.going_away.reason == "analytics is stopping"
    assert await call.read() == EOF


async def test_the_grammar_of_the_two_way_stream(analytics: RunningAnalytics) -> None:
    opening = Request(open=analytics_pb2.WatchMetricsRequest(symbols=["S01"]))
    call = analytics.stub.SubscribeMetrics()
    await call.write(opening)
    assert [(await call.read()).WhichOneof("response") for _ in range(3)] == ["opened", "snapshot", "current"]
    await call.write(Request(ack=stream_pb2.StreamAck()))
    await call.write(Request(cancel=stream_pb2.StreamCancel()))
    assert await call.read() == EOF
    assert await call.code() is grpc.StatusCode.OK
    for requests, reason in (
        ([Request(ack=stream_pb2.StreamAck())], "OPEN_EXPECTED"),
        ([opening, opening], "OPEN_REPEATED"),
        ([opening, Request()], "INVALID_REQUEST"),
    ):
        call = analytics.stub.SubscribeMetrics()
        for request in requests:
            await call.write(request)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while True:
                await call.read()
        assert refusal(caught.value).reason == reason


async def test_a_sequencer_that_goes_and_comes_back(sequencer: ScriptedSequencer, analytics: RunningAnalytics) -> None:
    await analytics.until_at(sequencer)
    await sequencer.die()
    async with asyncio.timeout(WAIT_SECONDS):
        while not analytics.service.copy.unhealthy_reason:
            await asyncio.sleep(POLL_SECONDS)
    # It goes on with what it has.
    assert (await analytics.rvol("S01")).volume_today == 100
    await sequencer.start()
    sequencer.trade({"S01": 108.0})
    await analytics.until_at(sequencer)
    assert (await analytics.rvol("S01")).volume_today == 200
    # Another one, whose symbols have other ids.
    await sequencer.die()
    tape = Tape(["NEW", *SYMBOLS], epoch=EPOCH + 60)
    await sequencer.start(tape)
    sequencer.send(*tape.opening())
    sequencer.trade({"NEW": 7.0})
    await analytics.until_at(sequencer)
    assert (await analytics.intraday("NEW")).high == 7.0
    assert not (await analytics.rvol("S01")).HasField("volume_today")
