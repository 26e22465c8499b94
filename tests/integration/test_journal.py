"""kill -9 of the real sequencer: the stream goes on where it was, and no reader, no trade notices."""

import asyncio
import math
import os
import random
import resource
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self

import grpc.aio
import pytest
from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc

from services.kit.rpc.channel import open_channel
from services.kit.runtime.settings import Settings
from services.market_session.service import MarketSession
from tests.support.mesh import free_ports
from tests.support.running_replay import serving
from tests.support.running_sequencer import FrameReader
from tests.support.scripted_day import ScriptedDay
from tests.support.scripted_polygon_ws import ScriptedPolygonWs
from tests.support.vendor_server import VendorServer

SNAPSHOT = "/v2/snapshot/locale/us/markets/stocks/tickers"
NOW = "/v1/marketstatus/now"
# Later than all trades here.
VENDOR_TIME = "2026-03-10T15:30:00-04:00"
SYMBOLS = [f"S{index}" for index in range(30)]
BATCH_TRADES = 20

pytestmark = pytest.mark.timeout(180)


class Sequencer:
    """data_ingest as a process that can be killed and started again; its readers come back to it."""

    def __init__(self, environment: dict[str, str], port: int) -> None:
        self.environment = environment
        self.address = f"127.0.0.1:{port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli.main", "serve", "data_ingest"),
            env={**os.environ, **self.environment},
        )

    async def end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        await self._process.wait()

    def limit_files(self, size: int) -> None:
        """No file of it may become larger: as on a full disk, writes fail."""
        assert self._process is not None
        _, most = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (size, most))

    async def status(self) -> data_ingest_pb2.SequencerStatus:
        async with open_channel(self.address) as channel:
            stub: Any = data_ingest_pb2_grpc.DataIngestServiceStub(channel)
            request = data_ingest_pb2.GetSequencerStatusRequest()
            status: data_ingest_pb2.SequencerStatus = await stub.GetSequencerStatus(request, wait_for_ready=True)
            return status


class LastingReader:
    """A copy of the market that resumes, whatever becomes of its streams."""

    def __init__(self, address: str) -> None:
        self.resets: list[str] = []
        self.reader: FrameReader | None = None
        self._address = address
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @property
    def position(self) -> tuple[int, int] | None:
        return self.reader.position if self.reader is not None else None

    async def _follow(self) -> None:
        async with open_channel(self._address) as channel:
            stub: Any = data_ingest_pb2_grpc.DataIngestServiceStub(channel)
            while True:
                before = self.reader
                self.reader = FrameReader(stub, before.position if before is not None else None)
                self.reader.market = before.market if before is not None else None
                try:
                    async with self.reader as reader:
                        while await reader.read() is not None:
                            self.resets += reader.resets
                            reader.resets.clear()
                except grpc.aio.AioRpcError:
                    pass
                await asyncio.sleep(0.05)


@pytest.fixture
async def vendor() -> AsyncIterator[VendorServer]:
    day = ScriptedDay(1, symbols=6)

    def rest(path: str, query: dict[str, str]) -> Any:
        if path == SNAPSHOT:
            # Only trades say what was traded.
            return {"status": "OK", "tickers": []}
        answer = day.rest(path, query)
        return {**answer, "serverTime": VENDOR_TIME} if path == NOW else answer

    async with VendorServer(rest) as server:
        yield server


@pytest.fixture
async def feed() -> AsyncIterator[ScriptedPolygonWs]:
    async with ScriptedPolygonWs() as server:
        yield server


@pytest.fixture
async def sequencer(vendor: VendorServer, feed: ScriptedPolygonWs, tmp_path: Path) -> AsyncIterator[Sequencer]:
    (port,) = free_ports(1)
    common = {
        **vendor.environment,
        "TRADEUL_CLOCK": "feed",
        "TRADEUL_DATA_DIR": str(tmp_path),
        "TRADEUL_METRICS_PORT_OFFSET": "0",
        "TRADEUL_POLYGON_WS_ADDRESS": f"127.0.0.1:{feed.port}",
        "TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{port}",
    }
    calendar = MarketSession(Settings.load({**common, "TRADEUL_MARKET_SESSION_ADDRESS": "127.0.0.1:0"}))
    async with serving(calendar) as host:
        running = Sequencer({**common, "TRADEUL_MARKET_SESSION_ADDRESS": f"127.0.0.1:{host.port}"}, port)
        await running.start()
        try:
            yield running
        finally:
            await running.end(signal.SIGTERM)


async def send(feed: ScriptedPolygonWs, rng: random.Random) -> None:
    """Trades until cancelled, some hundreds of batches a second."""
    second = 0
    while True:
        second = min(second + 1, 5 * 3600)
        clock = f"{10 + second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
        feed.trades(*((rng.choice(SYMBOLS), clock, round(rng.uniform(1, 100), 2)) for _ in range(BATCH_TRADES)))
        # What was acknowledged is forgotten, as the real one does.
        feed.forget_before(max((each.acknowledged for each in feed.subscribers), default=0) + 1)
        await asyncio.sleep(0.003)


async def test_nobody_notices_a_sequencer_that_is_killed(sequencer: Sequencer, feed: ScriptedPolygonWs) -> None:
    rng = random.Random(11)
    first = await sequencer.status()
    async with LastingReader(sequencer.address) as reader:
        sending = asyncio.create_task(send(feed, rng))
        for how in (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            connections = len(feed.subscribers)
            await asyncio.sleep(rng.uniform(0.5, 1.5))
            await sequencer.end(how)
            asked_for = max(each.acknowledged for each in feed.subscribers)
            await sequencer.start()
            await feed.until_connections(connections + 1)
            asked = feed.subscribers[-1].asked
            # What polygon_ws was told is in the stream, is.
            assert asked is not None and asked[1] >= asked_for
            came_back_at = (await sequencer.status()).position.sequence
            async with asyncio.timeout(60):
                while reader.position is None or reader.position[1] < came_back_at:
                    await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await feed.until_acknowledged(feed.newest)
        async with asyncio.timeout(60):
            while True:
                status = await sequencer.status()
                if reader.position == (status.position.epoch, status.position.sequence):
                    break
                await asyncio.sleep(0.05)
        assert status.position.epoch == first.position.epoch
        assert reader.resets == []
        assert reader.reader is not None
        market = reader.reader.market
        assert market is not None
        market.state.refresh()
        # The vendor's reference data name symbols that have not traded.
        trades = [count for count in market.state.column("trades_today") if not math.isnan(count)]
        assert sum(trades) == BATCH_TRADES * feed.newest
        # The copy that lived through it all is the one that a newcomer gets.
        async with open_channel(sequencer.address) as channel:
            async with FrameReader(data_ingest_pb2_grpc.DataIngestServiceStub(channel)) as newcomer:
                await newcomer.until_kind("current")
                assert newcomer.market is not None
                # The stream goes on with a watermark now and then.
                while newcomer.position != reader.position:
                    assert newcomer.position is not None and reader.position is not None
                    if newcomer.position < reader.position:
                        assert await newcomer.read() is not None
                    else:
                        await asyncio.sleep(0.05)
                assert newcomer.market.hash() == market.hash()


async def test_a_full_disk_stops_nothing_and_is_said(sequencer: Sequencer, feed: ScriptedPolygonWs) -> None:
    before = await sequencer.status()
    assert before.warnings == []
    sequencer.limit_files(0)
    sending = asyncio.create_task(send(feed, random.Random(12)))
    async with asyncio.timeout(60):
        while (status := await sequencer.status()).warnings == []:
            await asyncio.sleep(0.05)
    assert status.warnings == ["the journal is not kept: a restart would begin a new epoch"]
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await feed.until_acknowledged(feed.newest)
    after = await sequencer.status()
    assert after.position.epoch == before.position.epoch and after.position.sequence > status.position.sequence


async def test_a_second_sequencer_on_the_same_journal_refuses_to_start(sequencer: Sequencer, tmp_path: Path) -> None:
    """Two of them would give the same numbers to different frames."""
    await sequencer.status()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.cli.main", "serve", "data_ingest"),
        env={**os.environ, **sequencer.environment, "TRADEUL_DATA_INGEST_ADDRESS": "127.0.0.1:0"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode
    assert f"another data_ingest writes its journal to {tmp_path / 'vendor' / 'journal'}" in errors.decode()
