"""BarService: bars with their symbols' names, for watchers that may be slow."""

import asyncio
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from tradeul.v1 import bars_pb2, market_data_pb2

from fastcore.alert_book import AlertEvent
from fastcore.alert_rules import AlertRule
from fastcore.prepared_buffer import PreparedBuffer
from services.data_ingest.stream import bar_stream
from services.data_ingest.stream.bar_stream import BarStream
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.rpc import sequencers
from services.kit.runtime.errors import ServiceError

NO_CONTEXT: Any = None


class NoMarket:
    """A market copy that takes everything."""

    state = SimpleNamespace(now_ns=0, session=1, symbols=[])
    epoch, sequence = 7, 0
    alert_events: ClassVar[list[AlertEvent]] = []
    alert_rules: ClassVar[list[AlertRule]] = []
    list_filters_message = alert_rules_message = b""

    def take(self, frame: memoryview) -> bool:
        return False

    def refresh(self) -> None:
        raise AssertionError("no watermark was taken")

    def hash(self) -> int:
        return 0

    def to_bytes(self, with_baselines: bool = True) -> bytes:
        return b""

    def expected_size(self, with_baselines: bool = True) -> int:
        return 0

    def write_to(self, buffer: PreparedBuffer, with_baselines: bool = True) -> memoryview:
        return memoryview(buffer)


class Setting:
    def __init__(self, heartbeat_seconds: float = 60.0) -> None:
        self.sequencer = Sequencer(7, NoMarket())
        self.stream = BarStream(self.sequencer, heartbeat_seconds)

    def bars(self, *closes: float) -> None:
        ids = self.sequencer.add_symbols([f"S{i}" for i in range(len(closes))])
        batch = market_data_pb2.BarBatch(span=market_data_pb2.SECOND, symbol_id=ids, close=closes)
        self.sequencer.add_events("bars", batch.SerializeToString())

    def watch(self) -> "Watch":
        return Watch(self.stream)


class Watch:
    def __init__(self, stream: BarStream) -> None:
        self._messages = aiter(stream.WatchBars(bars_pb2.WatchBarsRequest(watcher="test"), NO_CONTEXT))

    async def read(self) -> bars_pb2.WatchBarsResponse:
        async with asyncio.timeout(10):
            return bars_pb2.WatchBarsResponse.FromString(await anext(self._messages))

    def waiting(self) -> "asyncio.Task[bars_pb2.WatchBarsResponse]":
        return asyncio.create_task(self.read())


async def begun(task: "asyncio.Task[Any]") -> None:
    """Lets a reading task get as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()


async def test_a_watcher_gets_the_names_and_then_every_bar() -> None:
    setting = Setting()
    setting.bars(1.0, 2.0)
    watch = setting.watch()
    names = (await watch.read()).symbols
    assert (names.first_id, list(names.symbols)) == (0, ["S0", "S1"])
    reading = watch.waiting()
    await begun(reading)
    setting.sequencer.add_watermark(1)
    setting.bars(3.0)
    assert list((await reading).bars.close) == [3.0]


async def test_new_symbols_are_named_before_their_bars() -> None:
    setting = Setting()
    watch = setting.watch()
    reading = watch.waiting()
    await begun(reading)
    setting.bars(1.0)
    assert list((await reading).symbols.symbols) == ["S0"]
    setting.bars(1.5, 2.5)
    names = (await watch.read()).symbols
    assert (names.first_id, list(names.symbols)) == (1, ["S1"])
    assert [list((await watch.read()).bars.close) for _ in range(2)] == [[1.0], [1.5, 2.5]]


async def test_a_slow_watcher_misses_the_oldest_bars_and_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_stream, "MAX_WAITING", 3)
    setting = Setting()
    watch = setting.watch()
    reading = watch.waiting()
    await begun(reading)
    for close in range(10):
        setting.bars(float(close), *([0.0] * close))
    assert len((await reading).symbols.symbols) == 10
    assert [(await watch.read()).bars.close[0] for _ in range(3)] == [7.0, 8.0, 9.0]


async def test_quiet_streams_send_heartbeats_and_going_away_comes_last() -> None:
    setting = Setting(heartbeat_seconds=0.01)
    watch = setting.watch()
    assert (await watch.read()).WhichOneof("response") == "heartbeat"
    setting.stream.close("stopping")
    assert (await watch.read()).going_away.reason == "stopping"
    with pytest.raises(StopAsyncIteration):
        await watch.read()


def test_a_watcher_leaves_a_sequencer_that_stands_still_as_soon_as_readers_of_frames_do() -> None:
    assert 1.5 * bar_stream.HEARTBEAT_SECONDS < sequencers.SILENCE_SECONDS


async def test_a_name_without_end_is_refused() -> None:
    request = bars_pb2.WatchBarsRequest(watcher="x" * 101)
    with pytest.raises(ServiceError, match="at most 100"):
        await anext(aiter(Setting().stream.WatchBars(request, NO_CONTEXT)))
