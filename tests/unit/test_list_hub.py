"""A watermark's lists go out first; its alerts, and whoever records what changed, come next, before another frame."""

import asyncio
from collections.abc import Callable

import pytest
from tradeul.v1 import scanner_pb2

from fastcore.alert_rules import AlertRule
from fastcore.filters import compile_filter, compile_order
from fastcore.market import Market
from fastcore.ranked_list import ListUpdate
from services.kit.lists.definitions import load_lists
from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.frames import Frame, FrameError, next_frame
from services.kit.rpc.market_copy import WATERMARK
from services.kit.rpc.ring import Position
from services.scanner.core import ScannerCore
from services.scanner.list_hub import ListHub
from services.scanner.list_stream import ListSubscription
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.tape import EPOCH, Tape, a_list, apply_next

UP = AlertRule("up", "Up", "grows(price)")
SPECS = [a_list()]


class Listener:
    """Keeps, by watermark, the lists that had changed and the alerts that there were."""

    def __init__(self, core: ScannerCore) -> None:
        self.seen: list[tuple[int, list[str], list[str]]] = []
        self._core = core

    def frame_applied(self, frame: Frame, updates: list[ListUpdate]) -> None:
        if frame.kind == WATERMARK:
            market = self._core.market
            changed = [update.list for update in updates]
            self.seen.append((market.sequence, changed, [event.symbol for event in market.alert_events]))

    def market_replaced(self) -> None:
        pass


def hub_of(tape: Tape) -> tuple[ListHub, Listener]:
    hub = ListHub(ScannerCore(SPECS), measures_lag=False)
    apply_next(hub, *tape.opening(), tape.alert_rules(UP), tape.trades({"A": 101.0}), tape.watermark())
    hub.settle()
    listener = Listener(hub.core)
    hub.listeners.append(listener)
    return hub, listener


async def delta_symbols(subscription: ListSubscription, got: list[str]) -> None:
    async for message in subscription.messages():
        response = scanner_pb2.WatchListResponse.FromString(message)
        got += [change.symbol for change in response.delta.deltas]


async def test_alerts_and_listeners_come_after_the_lists() -> None:
    tape = Tape(["A", "B"])
    hub, listener = hub_of(tape)
    before = hub.core.list_position("risers")
    apply_next(hub, tape.trades({"A": 102.0}), tape.watermark())
    assert hub.core.list_position("risers").sequence == before.sequence + 1
    assert (listener.seen, hub.core.market.alert_events) == ([], [])
    hub.settle()
    assert listener.seen == [(tape.sequence, ["risers"], ["A"])]
    hub.settle()
    assert len(listener.seen) == 1


async def test_nothing_is_left_out_when_more_follows_at_once() -> None:
    tape = Tape(["A", "B"])
    hub, listener = hub_of(tape)
    first = tape.sequence
    apply_next(hub, tape.trades({"A": 102.0}), tape.watermark(), tape.trades({"B": 103.0}), tape.watermark(1))
    assert listener.seen == [(first + 2, ["risers"], ["A"])]
    hub.load(hub_market(tape).to_bytes(), Position(EPOCH, tape.sequence))
    assert listener.seen[1:] == [(first + 4, ["risers"], [])]
    # In another epoch, too.
    apply_next(hub, tape.trades({"A": 109.0}), tape.watermark(1))
    apply_next(hub, *Tape(["A"], epoch=EPOCH + 1).opening())
    assert listener.seen[2:] == [(tape.sequence, ["risers"], ["A"])]


def hub_market(tape: Tape) -> Market:
    """Another market at the tape's position."""
    market = Market(SPECS, EPOCH)
    again = Tape(tape.symbols)
    for frame in (*again.opening(), again.alert_rules(UP), again.trades({"A": 5.0})):
        market.apply(frame)
    while market.sequence < tape.sequence:
        market.apply(again.watermark())
    return market


async def test_a_subscriber_is_written_to_before_the_alerts_are_looked_for() -> None:
    tape = Tape(["A", "B"])
    hub = ListHub(ScannerCore(load_lists()), measures_lag=False)
    got: list[str] = []
    # By the position of the stream.
    at_settling: dict[int, list[str]] = {}

    def settle() -> None:
        if hub.position is not None:
            at_settling.setdefault(hub.position.sequence, list(got))
        hub.settle()

    async with ScriptedSequencer(tape) as sequencer:
        sequencer.send(*tape.opening(), tape.trades({"A": 101.0}), tape.watermark())
        reading = asyncio.create_task(FrameReader(f"127.0.0.1:{sequencer.port}", hub, "test", settle=settle).run())
        async with asyncio.timeout(20):
            await hub.until_current()
            with hub.list_subscription("gappers_up", None, 0) as subscription:
                watching = asyncio.create_task(delta_symbols(subscription, got))
                sequencer.trade({"B": 150.0}, seconds=1)
                while tape.sequence not in at_settling:
                    await asyncio.sleep(0.01)
        for task in (reading, watching):
            task.cancel()
        await asyncio.gather(reading, watching, return_exceptions=True)
    assert at_settling[tape.sequence] == ["B"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_reader_that_is_cancelled_settles_what_it_has_applied(fails: bool) -> None:
    tape = Tape(["A", "B"])
    hub = ListHub(ScannerCore(load_lists()), measures_lag=False)

    def settle() -> None:
        hub.settle()
        if fails and reading.cancelling():
            raise FrameError("a defect")

    async with ScriptedSequencer(tape) as sequencer, asyncio.timeout(20):
        sequencer.send(*tape.opening(), tape.alert_rules(UP), tape.trades({"A": 101.0}), tape.watermark())
        reading = asyncio.create_task(FrameReader(f"127.0.0.1:{sequencer.port}", hub, "test", settle=settle).run())
        await hub.until_current()
        listener = Listener(hub.core)
        hub.listeners.append(listener)
        with hub.list_subscription("new_highs", None, 0) as subscription:
            messages = subscription.messages()
            while scanner_pb2.WatchListResponse.FromString(await anext(messages)).WhichOneof("response") != "current":
                pass
            sequencer.trade({"A": 150.0}, seconds=1)
            # Before the turn in which the hub settles.
            await anext(messages)
            assert listener.seen == []
            reading.cancel()
            await asyncio.wait([reading])
            assert reading.cancelled()
            await messages.aclose()
    assert [symbols for _, _, symbols in listener.seen] == [["A"]]


def test_a_market_whose_alerts_were_not_looked_for_cannot_go_on() -> None:
    tape, twin_tape = Tape(["A", "B"]), Tape(["A", "B"])
    market, twin = Market(SPECS, EPOCH), Market(SPECS, EPOCH)
    for a_tape, each in ((tape, market), (twin_tape, twin)):
        for frame in (*a_tape.opening(), a_tape.alert_rules(UP), a_tape.trades({"A": 101.0}), a_tape.watermark()):
            each.apply(frame)
    for frame in (tape.trades({"A": 102.0}), tape.watermark()):
        market.take(frame)
    following = tape.trades({"A": 103.0})
    uses: list[Callable[[], object]] = [lambda: market.take(following), market.to_bytes, market.hash]
    for use in uses:
        with pytest.raises(ValueError, match=rf"expected refresh\(\) first, .* at {EPOCH}/8"):
            use()
    for frame in (twin_tape.trades({"A": 102.0}), twin_tape.watermark()):
        expected = twin.apply(frame)
    updates = market.refresh_lists()
    assert [update.message for update in updates] == [update.message for update in expected]
    for use in (*uses, market.refresh_lists):
        with pytest.raises(ValueError, match=rf"expected refresh_alerts\(\) first, .* at {EPOCH}/8"):
            use()
    # Reading it changes nothing.
    market.query(compile_filter("price > 1"), compile_order("price desc"), 10)
    assert (market.alert_events, market.alert_sequence) == ([], twin.alert_sequence - 1)
    market.refresh_alerts()
    market.refresh_alerts()
    assert [event.symbol for event in market.alert_events] == [event.symbol for event in twin.alert_events] == ["A"]
    assert market.hash() == twin.hash()


async def test_alerts_that_cannot_be_found_end_the_copy_as_a_frame_does(monkeypatch: pytest.MonkeyPatch) -> None:
    tape = Tape(["A"])
    hub, listener = hub_of(tape)

    class Broken(Market):
        def refresh_alerts(self) -> None:
            raise ValueError("broken")

    monkeypatch.setattr(hub.core, "_market", Broken(SPECS, EPOCH))
    frame = next_frame(memoryview(Tape(["A"]).watermark()), None)
    hub.frame_applied(frame, [])
    with pytest.raises(FrameError, match=r"alerts of frame .* cannot be found: broken"):
        hub.settle()
    assert listener.seen == []
