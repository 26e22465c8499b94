"""A day played again: the same at any speed, stopped where it was to stop, whole again after a crash."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from tradeul.v1 import polygon_ws_pb2, polygon_ws_pb2_grpc

from services.data_ingest import startup
from services.kit.rpc.channel import open_channel
from services.kit.runtime.errors import StartError
from services.kit.runtime.settings import Settings
from services.market_session.service import MarketSession
from services.replay.service import Replay
from services.scanner.service import ScannerService
from tests.support.flat_trades import (
    BAR_COLUMNS,
    TRADE_COLUMNS,
    ns_at,
    random_trades,
    trade_row,
    vendor_file,
    write_rows,
)
from tests.support.mesh import free_ports
from tests.support.running_replay import (
    Recorder,
    RunningReplay,
    ScriptedReference,
    environment_of,
    running_replay,
    sequencer_status,
    serving,
)
from tests.support.scripted_day import ScriptedDay
from tests.support.stores import running_stores
from tests.support.vendor_server import VendorServer

SNAPSHOT = "/v2/snapshot/locale/us/markets/stocks/tickers"
NOW = "/v1/marketstatus/now"
END = ns_at("09:34:00")

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def vendor() -> AsyncIterator[VendorServer]:
    day = ScriptedDay(1, symbols=6)

    def rest(path: str, query: dict[str, str]) -> object:
        # Today's market has no place in a replay.
        assert path not in (SNAPSHOT, NOW), path
        return day.rest(path, query)

    async with VendorServer(rest) as server:
        yield server


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vendor_file(tmp_path_factory.mktemp("flat") / "2025-11-24.csv.gz", random_trades(3, 50, 30_000))


@pytest.fixture
def same_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs between two replays is the number of the epoch, and nothing else."""

    async def epoch(_: Path, after: int = 0) -> int:
        return 1_764_000_000

    monkeypatch.setattr(startup, "next_epoch", epoch)


async def played(vendor: VendorServer, data_dir: Path, file: Path, seed: int, **settings: str) -> RunningReplay:
    """The day from its beginning to its end."""
    async with running_replay(environment_of(vendor, data_dir, file, **settings), ScriptedReference(seed)) as running:
        await running.until_time(int(running.replay.day.arrival_ns[-1]))
    return running


@pytest.mark.usefixtures("same_epoch")
async def test_two_replays_are_the_same_byte_for_byte(vendor: VendorServer, tmp_path: Path, file: Path) -> None:
    fast = await played(vendor, tmp_path, file, 1, TRADEUL_REPLAY_SPEED="max")
    paced = await played(vendor, tmp_path, file, 2, TRADEUL_REPLAY_SPEED="1000")
    assert sum(len(updates) for updates in fast.recorder.updates.values()) > 1000
    assert {"gappers_up", "winners", "new_highs", "high_volume", "filtered"} <= fast.recorder.updates.keys()
    assert fast.recorder.updates == paced.recorder.updates
    assert fast.data_ingest.parts.sequencer.market.hash() == paced.data_ingest.parts.sequencer.market.hash()
    # No reader lost its place: every change was published.
    assert fast.recorder.replaced_times == paced.recorder.replaced_times == 0
    assert fast.data_ingest.parts.feed.admission.accepted["trades"] == fast.replay.day.manifest.rows


async def test_until_stops_the_day_and_questions_are_answered(vendor: VendorServer, tmp_path: Path, file: Path) -> None:
    until = "2025-11-24T09:31:30"
    environment = environment_of(vendor, tmp_path, file, TRADEUL_REPLAY_SPEED="max", TRADEUL_REPLAY_UNTIL=until)
    async with running_replay(environment, ScriptedReference(1)) as running:
        await running.until_time(ns_at("09:31:30"))
        assert running.data_ingest.parts.sequencer.now_ns == ns_at("09:31:30")
        times = running.replay.day.columns["time_ns"]
        assert running.data_ingest.parts.feed.admission.accepted["trades"] == int((times <= ns_at("09:31:30")).sum())
        assert running.rows("filtered")
        assert running.list("filtered").timestamp.ToNanoseconds() == ns_at("09:31:30")
        async with asyncio.timeout(60):
            while "stands where it was to stop, at 09:31:30" not in (await feed_status(running)).detail:
                await asyncio.sleep(0.01)
        assert running.data_ingest.unhealthy_reason is None
        assert running.data_ingest.parts.sequencer.day.date.isoformat() == "2025-11-24"


async def feed_status(running: RunningReplay) -> polygon_ws_pb2.FeedStatus:
    async with open_channel(str(running.scanner.settings.address("polygon_ws"))) as channel:
        stub: Any = polygon_ws_pb2_grpc.PolygonWsServiceStub(channel)
        status: polygon_ws_pb2.FeedStatus = await stub.GetFeedStatus(polygon_ws_pb2.GetFeedStatusRequest())
        return status


async def test_a_replay_says_what_it_waits_for_and_when_it_is_over(
    vendor: VendorServer, tmp_path: Path, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = ScriptedReference(1)
    # Not loaded until the test says so.
    reference.opened.set = lambda: None  # type: ignore[method-assign]
    environment = environment_of(vendor, tmp_path, file, TRADEUL_REPLAY_SPEED="max")
    async with running_replay(environment, reference) as running, asyncio.timeout(60):
        while "waits for the sequencer to load reference data" not in (await feed_status(running)).detail:
            await asyncio.sleep(0.01)
        asyncio.Event.set(reference.opened)
        while "is over, at 09:34:00" not in (await feed_status(running)).detail:
            await asyncio.sleep(0.01)
    output = capsys.readouterr().out
    assert output.index("reference data loaded, the replay begins") < output.index("the day begins")
    assert output.index("the day begins") < output.index("the replay is over")


async def test_start_is_reached_at_once_and_then_time_passes(vendor: VendorServer, tmp_path: Path, file: Path) -> None:
    start = "2025-11-24T09:32:00"
    environment = environment_of(vendor, tmp_path, file, TRADEUL_REPLAY_SPEED="0.001", TRADEUL_REPLAY_START=start)
    async with running_replay(environment, ScriptedReference(1)) as running:
        # Two and a half minutes of the day, at a thousandth of its speed.
        await running.until_time(ns_at("09:31:59.8"))
        assert running.data_ingest.parts.sequencer.now_ns < ns_at("09:32:02")


async def test_reference_data_of_the_files_own_symbols_are_asked_for(vendor: VendorServer, tmp_path: Path) -> None:
    rows = [trade_row(symbol, ns_at("09:30:00"), 5) for symbol in ("S001", "GONE")]
    file = write_rows(tmp_path / "2025-11-24.csv.gz", TRADE_COLUMNS, rows)
    reference = ScriptedReference(1)
    async with running_replay(environment_of(vendor, tmp_path, file), reference) as running:
        await running.until_time(ns_at("09:30:00"))
        assert reference.asked == [None, ["GONE"]]
        # Nobody knows it; its trade makes it a symbol.
        assert running.data_ingest.parts.sequencer.symbols.texts[-1] == "GONE"
        assert running.data_ingest.parts.reference.holdings.counts()["prev_close"] == 60


async def test_minute_bars_fill_lists(vendor: VendorServer, tmp_path: Path) -> None:
    rows = [
        f"S{symbol:03d},50000,{10 + symbol},{10 + symbol + minute},{12 + symbol + minute},{9 + symbol},"
        f"{ns_at(f'09:{29 + minute}:00')},100"
        for symbol in range(10)
        for minute in range(4)
    ]
    file = write_rows(tmp_path / "2025-11-24.csv.gz", BAR_COLUMNS, rows)
    environment = environment_of(vendor, tmp_path, file, TRADEUL_REPLAY_SPEED="max")
    async with running_replay(environment, ScriptedReference(1)) as running:
        await running.until_time(ns_at("09:33:00"))
        found = {row.symbol: row for row in running.list("filtered").rows}
        assert len(found) == 10
        row = found["S003"]
        assert (row.price, row.volume_today, row.open) == (16, 200_000, 13)
        assert row.intraday_high == 18


async def test_stored_minute_bars_are_a_day(vendor: VendorServer, tmp_path: Path) -> None:
    async with running_stores(tmp_path / "stores") as stores:
        connection = await asyncpg.connect(stores.database_url)
        try:
            insert = "INSERT INTO aggregates_1min VALUES (to_timestamp($1), $2, 10, 12, 9, 11, 200000, $3, 500)"
            for clock in ("09:29:00", "09:30:00"):
                for symbol, vwap in (("S001", 10.5), ("S002", None)):
                    await connection.execute(insert, ns_at(clock) // 10**9, symbol, vwap)
            await connection.execute(insert, ns_at("09:30:00") // 10**9 - 86_400, "S003", 10.5)
        finally:
            await connection.close()
        environment = environment_of(
            vendor, tmp_path, TRADEUL_DATABASE_URL=stores.database_url, TRADEUL_REPLAY_SPEED="max"
        )
        async with running_replay(environment, ScriptedReference(1)) as running:
            await running.until_time(ns_at("09:31:00"))
            rows = {row.symbol: row for row in running.list("filtered").rows}
            assert rows.keys() == {"S001", "S002"}
            assert (rows["S001"].volume_today, rows["S001"].vwap) == (400_000, 10.5)
            assert rows["S002"].vwap == pytest.approx((12 + 9 + 11) / 3, abs=1e-6)
        environment = environment_of(
            vendor, tmp_path, TRADEUL_DATABASE_URL=stores.database_url, TRADEUL_REPLAY_DATE="2025-11-20"
        )
        with pytest.raises(StartError, match="no minute bars of that day"):
            await Replay(Settings.load(environment)).start()


async def test_bad_rows_are_counted_and_nothing_else_is_lost(vendor: VendorServer, tmp_path: Path) -> None:
    rows = [
        trade_row("S001", ns_at("09:30:00"), 5, trade_id=1),
        trade_row("S001", ns_at("09:30:01"), "x"),
        trade_row("S001", ns_at("09:30:02"), -5),
        trade_row("S001", ns_at("09:30:03"), 6, trade_id=1),
        trade_row("bad symbol", ns_at("09:30:04"), 6),
        trade_row("S001", ns_at("09:30:05"), 7, trade_id=2),
    ]
    file = write_rows(tmp_path / "2025-11-24.csv.gz", TRADE_COLUMNS, rows)
    environment = environment_of(vendor, tmp_path, file, TRADEUL_REPLAY_SPEED="max")
    async with running_replay(environment, ScriptedReference(1)) as running:
        await running.until_time(ns_at("09:30:05"))
        assert running.replay.day.manifest.set_aside == {"unreadable": 1}
        feed = running.data_ingest.parts.feed
        assert feed.admission.accepted["trades"] == 2
        assert {reason: count for reason, count in feed.rejected.items() if count} == {
            "price": 1,
            "duplicate": 1,
            "unknown_symbol": 1,
        }


async def test_a_killed_sequencer_gets_the_day_so_far_again(vendor: VendorServer, tmp_path: Path, file: Path) -> None:
    (port,) = free_ports(1)
    common = environment_of(
        vendor, tmp_path, file, TRADEUL_REPLAY_SPEED="60", TRADEUL_DATA_INGEST_ADDRESS=f"127.0.0.1:{port}"
    )
    async with contextlib.AsyncExitStack() as stack:
        replay = Replay(Settings.load({**common, "TRADEUL_POLYGON_WS_ADDRESS": "127.0.0.1:0"}))
        host = await stack.enter_async_context(serving(replay))
        common["TRADEUL_POLYGON_WS_ADDRESS"] = f"127.0.0.1:{host.port}"
        calendar = MarketSession(Settings.load({**common, "TRADEUL_MARKET_SESSION_ADDRESS": "127.0.0.1:0"}))
        host = await stack.enter_async_context(serving(calendar))
        common["TRADEUL_MARKET_SESSION_ADDRESS"] = f"127.0.0.1:{host.port}"

        async def start() -> asyncio.subprocess.Process:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.cli.main", "serve", "data_ingest"), env={**os.environ, **common}
            )
            return process

        process = await start()
        scanner = ScannerService(Settings.load({**common, "TRADEUL_SCANNER_ADDRESS": "127.0.0.1:0"}))
        await stack.enter_async_context(serving(scanner))
        recorder = Recorder()
        scanner.hub.listeners.append(recorder)
        running = RunningReplay(replay, None, scanner, recorder)  # type: ignore[arg-type]

        async def until(clock: str) -> None:
            async with asyncio.timeout(90):
                while (await sequencer_status(f"127.0.0.1:{port}")).event_time.ToNanoseconds() < ns_at(clock):
                    await asyncio.sleep(0.05)

        await until("09:30:30")
        first_epoch = (await sequencer_status(f"127.0.0.1:{port}")).position.epoch
        process.send_signal(signal.SIGKILL)
        await process.wait()
        process = await start()
        try:
            end = int(replay.day.arrival_ns[-1])
            async with asyncio.timeout(90):
                while (status := await sequencer_status(f"127.0.0.1:{port}")).event_time.ToNanoseconds() < end:
                    await asyncio.sleep(0.05)
            assert status.position.epoch > first_epoch
            # Every trade of the day, those before the crash too, and each once.
            assert status.trades == replay.day.manifest.rows
            async with asyncio.timeout(60):
                while scanner.hub.position != (status.position.epoch, status.position.sequence):
                    await asyncio.sleep(0.05)
            assert running.rows("filtered")
            assert recorder.replaced_times >= 1
        finally:
            process.terminate()
            await process.wait()
