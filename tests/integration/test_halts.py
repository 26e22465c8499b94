"""The trade-halt feed of a real HTTP server through the real sequencer, to the list `halts` and beyond a kill -9."""

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tradeul.v1 import data_ingest_pb2_grpc, scanner_pb2

from services.data_ingest.feed import halts_follower
from services.kit.rpc.channel import open_channel
from services.kit.runtime.settings import Settings
from services.market_session.service import MarketSession
from tests.integration.test_journal import NOW, SNAPSHOT, VENDOR_TIME, Sequencer
from tests.support.halt_document import HaltServer, halt_document, halt_item
from tests.support.mesh import free_ports
from tests.support.running_replay import serving
from tests.support.running_scanner import ListReader, running_scanner
from tests.support.running_sequencer import FrameReader, running_sequencer
from tests.support.scripted_day import ScriptedDay, ms_at
from tests.support.scripted_polygon_ws import MS, ScriptedPolygonWs
from tests.support.vendor_server import VendorServer

TODAY = "03/10/2026"

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def vendor_time() -> list[str]:
    """The vendor's time, where it is not 04:00."""
    return []


@pytest.fixture
async def vendor(vendor_time: list[str]) -> AsyncIterator[VendorServer]:
    day = ScriptedDay(1, symbols=6)

    def rest(path: str, query: dict[str, str]) -> Any:
        if path == SNAPSHOT:
            return {"status": "OK", "tickers": []}
        answer = day.rest(path, query)
        return {**answer, "serverTime": vendor_time[0]} if path == NOW and vendor_time else answer

    async with VendorServer(rest) as server:
        yield server


@pytest.fixture
async def feed() -> AsyncIterator[ScriptedPolygonWs]:
    async with ScriptedPolygonWs() as server:
        yield server


@pytest.fixture
async def halts() -> AsyncIterator[HaltServer]:
    async with HaltServer() as server:
        yield server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feed's minutes are short."""
    monkeypatch.setattr(halts_follower, "OPEN_SECONDS", 0.05)


async def until_answers(halts: HaltServer, *wanted: int) -> None:
    """Waits until the newest requests got these."""
    async with asyncio.timeout(60):
        while tuple(halts.answers[-len(wanted) :]) != wanted:
            await asyncio.sleep(0.02)


async def until_row(reader: ListReader, symbol: str, **fields: Any) -> scanner_pb2.WatchListResponse:
    """Reads on until the list shows a symbol with these."""
    async with asyncio.timeout(60):
        while True:
            response = await reader.read()
            for row in reader.copy.rows():
                if row.symbol == symbol and all(getattr(row, name) == value for name, value in fields.items()):
                    return response


@pytest.mark.usefixtures("quick")
async def test_a_halt_of_the_nyse_reaches_the_list(
    vendor: VendorServer, feed: ScriptedPolygonWs, halts: HaltServer, tmp_path: Path
) -> None:
    environment = {"TRADEUL_HALTS_URL": halts.url}
    halts.body = halt_document(
        [halt_item("BRK B", TODAY, "10:00:30.5", "T1"), halt_item("NOBODY", TODAY, "10:00:00"), halt_item("X", "", "")]
    )
    async with (
        running_sequencer(vendor, feed, tmp_path, environment=environment) as sequencer,
        running_scanner(sequencer) as scanner,  # type: ignore[arg-type]
    ):
        watched = scanner.watch("halts")
        feed.trades(("BRK.B", "10:00:00", 475.0), ("AAPL", "10:01:00", 230.0))
        await until_row(watched, "BRK.B", halt_reason="T1", halted=True, halts_today=1.0)
        (row,) = (await scanner.get("halts")).rows
        assert row.halted_at.ToNanoseconds() == ms_at("10:00:30") * MS + 500_000_000
        assert not row.HasField("resumes_at")
        # It has not changed, and is not sent again.
        await until_answers(halts, 304, 304)
        assert halts.seen[-1] is not None
        status = await sequencer.until(lambda status: status.rejected.get("halt_unknown_symbol"))
        # BRK B may have been listed before it was known.
        assert status.rejected["halt_unknown_symbol"] in (1, 2)
        assert status.rejected["halt_date"] == 1
        assert sequencer.service.parts.sequencer.market.state.halted_count == 1
        assert sequencer.service.parts.sequencer.frames["halts"] == 1
        # Whatever the feed is, the service goes on.
        for body, code in ((b"<html/>", 200), (b"\x00" * 100_000, 200), (halts.body, 503)):
            halts.body, halts.status = body, code
            count = len(halts.answers)
            async with asyncio.timeout(60):
                while len(halts.answers) < count + 2:
                    await asyncio.sleep(0.02)
        halts.body = halt_document([halt_item("BRK B", TODAY, "10:00:30.5", "T3", "10:30:00")])
        halts.status = 200
        await until_row(watched, "BRK.B", halt_reason="T3", halted=True)
        (row,) = (await scanner.get("halts")).rows
        assert row.resumes_at.ToNanoseconds() == ms_at("10:30:00") * MS
        # Time passes with another symbol's trade: the halt ends without a word.
        feed.trades(("AAPL", "10:30:00", 231.0))
        async with asyncio.timeout(60):
            while (await scanner.get("halts")).rows:
                await watched.read()
        watched.call.cancel()


async def test_nothing_is_asked_without_an_address(
    vendor: VendorServer, feed: ScriptedPolygonWs, halts: HaltServer, tmp_path: Path
) -> None:
    environment = {"TRADEUL_HALTS_URL": ""}
    async with running_sequencer(vendor, feed, tmp_path, environment=environment) as sequencer:
        feed.trades(("AAPL", "10:00:00", 230.0))
        await sequencer.until(lambda status: status.trades == 1)
        assert halts.answers == []


async def test_halts_outlive_a_sequencer_that_is_killed(
    vendor: VendorServer, vendor_time: list[str], feed: ScriptedPolygonWs, halts: HaltServer, tmp_path: Path
) -> None:
    vendor_time.append(VENDOR_TIME)
    (port,) = free_ports(1)
    environment = {
        **vendor.environment,
        "TRADEUL_CLOCK": "feed",
        "TRADEUL_DATA_DIR": str(tmp_path),
        "TRADEUL_METRICS_PORT_OFFSET": "0",
        "TRADEUL_POLYGON_WS_ADDRESS": f"127.0.0.1:{feed.port}",
        "TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{port}",
        "TRADEUL_HALTS_URL": halts.url,
    }
    halts.body = halt_document([halt_item("AAPL", TODAY, "10:00:30", "T1", "15:40:00")])
    calendar = MarketSession(Settings.load({**environment, "TRADEUL_MARKET_SESSION_ADDRESS": "127.0.0.1:0"}))
    async with serving(calendar) as host, open_channel(f"127.0.0.1:{port}") as channel:
        sequencer = Sequencer({**environment, "TRADEUL_MARKET_SESSION_ADDRESS": f"127.0.0.1:{host.port}"}, port)
        await sequencer.start()
        try:
            await sequencer.status()
            feed.trades(("AAPL", "10:00:00", 230.0), ("MSFT", "10:01:00", 420.0))
            before = await halted_row(channel, "AAPL")
            assert (before["halt_reason"], before["halts_today"]) == ("T1", 1.0)
            # From now on nobody says it again.
            halts.status = 503
            connections = len(feed.subscribers)
            await sequencer.end(signal.SIGKILL)
            await sequencer.start()
            await feed.until_connections(connections + 1)
            await sequencer.status()
            after = await halted_row(channel, "AAPL")
            names = ("halted", "halt_reason", "halted_at", "resumes_at", "halts_today")
            assert {name: after[name] for name in names} == {name: before[name] for name in names}
        finally:
            await sequencer.end(signal.SIGTERM)


async def halted_row(channel: Any, symbol: str) -> dict[str, Any]:
    """The row of a newcomer's copy once the symbol is halted there."""
    async with asyncio.timeout(60):
        async with FrameReader(data_ingest_pb2_grpc.DataIngestServiceStub(channel)) as reader:
            await reader.until_kind("current")
            state: Any = reader.market.state if reader.market is not None else None
            while True:
                state.refresh()
                if state.symbol_id(symbol) >= 0 and (row := state.row(symbol)).get("halted"):
                    return dict(row)
                assert await reader.read() is not None
