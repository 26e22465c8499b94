"""Two data_ingest as processes, one of which leads, at a real polygon_ws, with a reader that follows whoever leads."""

import asyncio
import contextlib
import math
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import grpc.aio
from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc, standby_pb2, standby_pb2_grpc

from fastcore.market import Market
from services.kit.alerts.encoding import AlertEncoder
from services.kit.lists.definitions import load_lists
from services.kit.rpc.channel import open_channel
from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.frames import Frame
from services.kit.rpc.market_copy import WATERMARK
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic
from services.kit.runtime.settings import Address, Settings
from services.market_session.service import MarketSession
from tests.support.feed import RunningFeed, message, running_feed, trade
from tests.support.mesh import free_ports
from tests.support.running_replay import serving
from tests.support.scripted_day import ScriptedDay, ms_at
from tests.support.stores import Stores
from tests.support.vendor_server import VendorServer

SNAPSHOT = "/v2/snapshot/locale/us/markets/stocks/tickers"
NOW = "/v1/marketstatus/now"
# Later than all trades here.
VENDOR_TIME = "2026-03-10T15:30:00-04:00"
SYMBOLS = [f"S{index}" for index in range(30)]
NAMES = ("a", "b")
WAIT_SECONDS = 60


class Copy:
    """The sink of a FrameReader: a market, and when frames came."""

    def __init__(self) -> None:
        self.market: Market | None = None
        self.position: Position | None = None
        self.loads: list[Position] = []
        # The longest time between two frames, and when the newest was applied.
        self.longest_seconds = 0.0
        self.applied_at = monotonic()
        # Of all frames that were applied, encoded, by position.
        self.alerts: dict[Position, bytes] = {}
        self._encoder = AlertEncoder()
        # By epoch, when its first frame was applied.
        self.epochs: dict[int, float] = {}
        self.unhealthy_reason = ""

    def apply(self, frame: Frame) -> None:
        if frame.begins_market:
            self.market = Market(load_lists(), frame.position.epoch)
        assert self.market is not None
        self.market.apply(frame.encoded)
        if frame.kind == WATERMARK:
            for event, encoded in self._encoder.encode(self.market):
                self.alerts[Position(self.market.epoch, event.sequence)] = encoded
        self._moved(frame.position)

    def load(self, data: bytes, position: Position) -> None:
        self.market = Market.from_bytes(load_lists(), data)
        self.loads.append(position)
        self._moved(position)

    def forget(self) -> None:
        raise AssertionError(f"a frame after {self.position} could not be applied")

    def set_unhealthy_reason(self, reason: str) -> None:
        self.unhealthy_reason = reason

    @property
    def trades(self) -> int:
        """All trades in the market."""
        if self.market is None:
            return 0
        self.market.state.refresh()
        return int(sum(count for count in self.market.state.column("trades_today") if not math.isnan(count)))

    def _moved(self, position: Position) -> None:
        now = monotonic()
        self.longest_seconds = max(self.longest_seconds, now - self.applied_at)
        self.applied_at = now
        self.position = position
        self.epochs.setdefault(position.epoch, now)


class TwoSequencers:
    """`a` and `b`; each is started again by start()."""

    def __init__(
        self, common: dict[str, str], data_dir: Path, stores: Stores, own: Mapping[str, Mapping[str, str]]
    ) -> None:
        ports = free_ports(len(NAMES))
        self.addresses = {name: f"127.0.0.1:{port}" for name, port in zip(NAMES, ports, strict=True)}
        self.stores = stores
        self.environments = {
            name: {
                **common,
                **stores.environment(),
                "TRADEUL_DATA_DIR": str(data_dir / name),
                "TRADEUL_DATA_INGEST_ADDRESS": address,
                "TRADEUL_SEQUENCERS": ",".join(self.addresses.values()),
                **own.get(name, {}),
            }
            for name, address in self.addresses.items()
        }
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self._data_dir = data_dir

    @property
    def reader_addresses(self) -> list[Address]:
        return [Address.parse(each) for each in self.addresses.values()]

    async def start(self, name: str) -> None:
        log = (self._data_dir / f"{name}.log").open("ab")
        self.processes[name] = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.cli.main", "serve", "data_ingest"),
            env={**os.environ, **self.environments[name]},
            stdout=log,
            stderr=log,
        )
        log.close()

    def log(self, name: str) -> str:
        return (self._data_dir / f"{name}.log").read_text()

    def send(self, name: str, how: signal.Signals) -> None:
        self.processes[name].send_signal(how)

    async def until_ended(self, name: str) -> int:
        async with asyncio.timeout(WAIT_SECONDS):
            return await self.processes[name].wait()

    async def end(self) -> None:
        for process in self.processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            await process.wait()

    async def until_log(self, name: str, text: str, after: int = 0) -> None:
        """Waits for a line in its log, `after` so many bytes of it."""
        async with asyncio.timeout(WAIT_SECONDS):
            while text not in self.log(name)[after:]:
                await asyncio.sleep(0.02)

    async def status(self, name: str) -> data_ingest_pb2.SequencerStatus:
        """Raises AioRpcError when it does not lead."""
        async with open_channel(self.addresses[name]) as channel:
            stub: Any = data_ingest_pb2_grpc.DataIngestServiceStub(channel)
            request = data_ingest_pb2.GetSequencerStatusRequest()
            status: data_ingest_pb2.SequencerStatus = await stub.GetSequencerStatus(request, timeout=3)
            return status

    async def until_leads(self, name: str) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await self.status(name)
                    return
                await asyncio.sleep(0.02)

    async def until_stands_by(self, name: str, after: int = 0) -> None:
        await self.until_log(name, "stands by", after)

    async def until_follows(self, name: str, position: Position) -> None:
        """Waits until the copy of the one that stands by has this frame."""
        async with open_channel(self.addresses[name]) as channel, asyncio.timeout(WAIT_SECONDS):
            stub: Any = standby_pb2_grpc.StandbyServiceStub(channel)
            while True:
                # It may not listen yet.
                role = await stub.GetSequencerRole(standby_pb2.GetSequencerRoleRequest(), wait_for_ready=True)
                if role.HasField("position") and Position(role.position.epoch, role.position.sequence) >= position:
                    return
                await asyncio.sleep(0.02)

    async def lease(self, statement: str) -> None:
        """Runs a statement on the row of the lease."""
        connection = await asyncpg.connect(self.stores.database_url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


class Tape:
    """Trades for the feed, and what they come to."""

    def __init__(self, vendor: VendorServer, feed: RunningFeed, seed: int = 11) -> None:
        self.sent = 0
        self.volumes: Counter[str] = Counter()
        self.highs: dict[str, float] = {}
        self._vendor = vendor
        self._feed = feed
        # When each trade was sent, by monotonic seconds.
        self.sent_at: list[float] = []
        self._rng = random.Random(seed)
        self._start_ms = ms_at("10:00:00")
        self._is_stopped = False

    def stop(self) -> None:
        self._is_stopped = True

    async def run(self) -> None:
        """Sends some thousand trades a second, until stop()."""
        while not self._is_stopped:
            trades = [self._next() for _ in range(10)]
            self.sent_at += [monotonic()] * len(trades)
            await self._vendor.send(message(*trades))
            await asyncio.sleep(0.005)

    def seconds_since_sent(self, count: int) -> float:
        """How long ago the newest of the first `count` trades was sent."""
        return monotonic() - self.sent_at[count - 1]

    async def until_decoded(self) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while self._feed.service.buffer.decoder.totals["trades"] < self.sent:
                await asyncio.sleep(0.01)

    def check(self, market: Market) -> None:
        """Every symbol has all trades, each once."""
        market.state.refresh()
        state = market.state
        counts = [count for count in state.column("trades_today") if not math.isnan(count)]
        assert sum(counts) == self.sent, f"expected {self.sent} trades, was {sum(counts)}"
        volumes, highs = state.column("volume_today"), state.column("intraday_high")
        for symbol, volume in self.volumes.items():
            symbol_id = state.symbol_id(symbol)
            assert (volumes[symbol_id], highs[symbol_id]) == (volume, self.highs[symbol]), symbol

    def _next(self) -> dict[str, Any]:
        self.sent += 1
        symbol, shares = self._rng.choice(SYMBOLS), self._rng.randint(1, 5) * 100
        price = round(self._rng.uniform(20, 24), 2)
        self.volumes[symbol] += shares
        self.highs[symbol] = max(price, self.highs.get(symbol, 0.0))
        return trade(symbol, self.sent, p=price, s=shares, t=self._start_ms + self.sent)


async def settle(tape: Tape, copy: Copy, feed: RunningFeed) -> None:
    """Stops the tape, and waits until the copy has all trades, each once, and polygon_ws was told so."""
    tape.stop()
    await tape.until_decoded()
    await until(lambda: copy.trades >= tape.sent)
    assert copy.market is not None
    tape.check(copy.market)
    await until(lambda: feed.service.buffer.held_batches == 0)


@contextlib.asynccontextmanager
async def two_sequencers(
    tmp_path: Path, stores: Stores, own: Mapping[str, Mapping[str, str]] | None = None
) -> AsyncIterator[tuple[TwoSequencers, Tape, Copy, RunningFeed]]:
    """`a` leads and `b` stands by when it begins; the copy follows. `own`: settings of one of them."""
    day = ScriptedDay(1, symbols=6)

    def rest(path: str, query: dict[str, str]) -> Any:
        if path == SNAPSHOT:
            # Only trades say what was traded.
            return {"status": "OK", "tickers": []}
        answer = day.rest(path, query)
        return {**answer, "serverTime": VENDOR_TIME} if path == NOW else answer

    async with contextlib.AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(VendorServer(rest))
        feed = await stack.enter_async_context(running_feed(vendor))
        common = {
            **vendor.environment,
            "TRADEUL_CLOCK": "feed",
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            "TRADEUL_POLYGON_WS_ADDRESS": f"127.0.0.1:{feed.host.port}",
            "TRADEUL_MARKET_SESSION_ADDRESS": "127.0.0.1:0",
        }
        session = await stack.enter_async_context(serving(MarketSession(Settings.load(common))))
        common["TRADEUL_MARKET_SESSION_ADDRESS"] = f"127.0.0.1:{session.port}"
        await vendor.joined()
        two = TwoSequencers(common, tmp_path, stores, own or {})
        stack.push_async_callback(two.end)
        await two.start("a")
        await two.until_leads("a")
        await two.start("b")
        await two.until_stands_by("b")
        copy = Copy()
        reading = asyncio.create_task(FrameReader(two.reader_addresses, copy, "test").run())
        tape = Tape(vendor, feed)
        sending = asyncio.create_task(tape.run())
        try:
            await until(lambda: copy.market is not None)
            yield two, tape, copy, feed
        finally:
            for task in (sending, reading):
                task.cancel()
            ended = await asyncio.gather(sending, reading, return_exceptions=True)
            assert all(each is None or isinstance(each, asyncio.CancelledError) for each in ended), ended


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not is_so():
            await asyncio.sleep(0.005)
