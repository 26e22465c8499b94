"""A day played again through the real pieces in this process: replay -> data_ingest -> scanner."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tradeul.v1 import data_ingest_pb2_grpc

from fastcore.ranked_list import ListUpdate
from services.data_ingest.reference import HistoryDays, ReferenceBatch
from services.data_ingest.reference.batch import Baselines
from services.data_ingest.service import DataIngest
from services.kit.rpc.channel import open_channel
from services.kit.rpc.frames import Frame
from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from services.market_session.service import MarketSession
from services.replay.service import Replay
from services.scanner.service import ScannerService
from tests.support.flat_trades import DAY
from tests.support.scripted_polygon_ws import POLL_SECONDS
from tests.support.vendor_server import VendorServer

WAIT_SECONDS = 60


class ScriptedReference:
    """Reference data of S000 to S0NN, in pieces and an order that differ with `seed`; nothing before `opened`."""

    def __init__(self, seed: int, symbols: int = 60) -> None:
        self.set_aside: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.opened = asyncio.Event()
        self.asked: list[Sequence[str] | None] = []
        self._chance = random.Random(seed)
        self._symbols = [f"S{number:03d}" for number in range(symbols)]

    async def load(
        self, day: Any, symbols: Sequence[str] | None = None, days: HistoryDays | None = None, kinds: Any = None
    ) -> AsyncIterator[ReferenceBatch]:
        assert day == DAY
        assert days is not None and max(days.before) < DAY
        self.asked.append(symbols)
        await self.opened.wait()
        if symbols is not None:
            return
        values = random.Random(5)
        closes = {symbol: round(values.uniform(2, 200), 2) for symbol in self._symbols}
        batches = [ReferenceBatch([symbol], {"prev_close": np.array([close])}) for symbol, close in closes.items()]
        batches += [ReferenceBatch([symbol], {"atr": np.array([close / 50])}) for symbol, close in closes.items()]
        for symbol in self._symbols:
            volume = np.cumsum([[values.uniform(100, 5000) for _ in range(192)]], axis=1)
            slots = Baselines(np.array([30], np.uint32), volume, volume / 100, volume / 500)
            batches.append(ReferenceBatch([symbol], baselines=slots))
        self._chance.shuffle(batches)
        for batch in batches:
            yield batch


class Recorder:
    """What the scanner published, list by list."""

    def __init__(self) -> None:
        self.updates: dict[str, list[bytes]] = {}
        self.replaced_times = 0

    def frame_applied(self, _: Frame, updates: list[ListUpdate]) -> None:
        for update in updates:
            self.updates.setdefault(update.list, []).append(bytes(update.delta))

    def market_replaced(self) -> None:
        self.replaced_times += 1


class RunningReplay:
    """The pieces, and what the scanner published."""

    def __init__(self, replay: Replay, data_ingest: DataIngest, scanner: ScannerService, recorder: Recorder) -> None:
        self.replay = replay
        self.data_ingest = data_ingest
        self.scanner = scanner
        self.recorder = recorder

    async def until_time(self, time_ns: int) -> None:
        """Waits until the lists stand as at that time, and the alerts have been found."""
        hub, sequencer = self.scanner.hub, self.data_ingest.parts.sequencer
        async with asyncio.timeout(WAIT_SECONDS):
            while not (self._now_ns() >= time_ns and hub.position == sequencer.position and hub.is_settled):
                await asyncio.sleep(POLL_SECONDS)

    def rows(self, name: str) -> list[tuple[str, float]]:
        """Symbol and price of a list's rows."""
        answer = self.list(name)
        return [(row.symbol, row.price) for row in answer.rows]

    def list(self, name: str) -> Any:
        from tradeul.v1 import scanner_pb2

        return scanner_pb2.RankedList.FromString(self.scanner.hub.core.market.snapshot(name))

    def _now_ns(self) -> int:
        core = self.scanner.hub.core
        return core.market.state.now_ns if core.is_loaded else 0


def environment_of(vendor: VendorServer, data_dir: Path, file: Path | None = None, **more: str) -> dict[str, str]:
    return {
        **vendor.environment,
        "TRADEUL_DATA_DIR": str(data_dir),
        "TRADEUL_METRICS_PORT_OFFSET": "0",
        "TRADEUL_REPLAY_DATE": str(DAY),
        "TRADEUL_REPLAY_FILE": str(file or ""),
        **more,
    }


@contextlib.asynccontextmanager
async def serving(service: Any) -> AsyncIterator[Host]:
    host = Host(service)
    await host.start()
    try:
        yield host
    finally:
        await host.stop()


@contextlib.asynccontextmanager
async def running_replay(environment: Mapping[str, str], reference: ScriptedReference) -> AsyncIterator[RunningReplay]:
    """The day begins once all of them serve."""
    common = dict(environment)
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str, kind: type[Any], *more: Any) -> Any:
            settings = Settings.load({**common, f"TRADEUL_{name}_ADDRESS": "127.0.0.1:0"})
            service = kind(settings, *more)
            host = await stack.enter_async_context(serving(service))
            common[f"TRADEUL_{name}_ADDRESS"] = f"127.0.0.1:{host.port}"
            return service

        replay = await start("POLYGON_WS", Replay)
        await start("MARKET_SESSION", MarketSession)
        data_ingest = await start("DATA_INGEST", DataIngest, reference)
        scanner = await start("SCANNER", ScannerService)
        recorder = Recorder()
        scanner.hub.listeners.append(recorder)
        reference.opened.set()
        yield RunningReplay(replay, data_ingest, scanner, recorder)


async def sequencer_status(address: str) -> Any:
    from tradeul.v1 import data_ingest_pb2

    async with open_channel(address) as channel:
        stub: Any = data_ingest_pb2_grpc.DataIngestServiceStub(channel)
        return await stub.GetSequencerStatus(data_ingest_pb2.GetSequencerStatusRequest(), wait_for_ready=True)
