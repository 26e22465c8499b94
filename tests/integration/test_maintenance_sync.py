"""What the tasks write reaches a running mesh without a restart, and Redis."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc

from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from services.kit.stores.notifications import REFERENCE_DATA
from services.kit.stores.redis import open_redis
from services.scanner.service import ScannerService
from tests.support.running_maintenance import (
    WAIT_SECONDS,
    Message,
    Replica,
    SetClock,
    empty,
    running_calendar,
    running_historical,
    running_replica,
    settings_of,
)
from tests.support.running_sequencer import running_sequencer
from tests.support.scripted_day import DAY
from tests.support.scripted_polygon_ws import ScriptedPolygonWs
from tests.support.split_market import SplitMarket
from tests.support.stores import Stores, module_stores
from tests.support.vendor_server import VendorServer

pytestmark = pytest.mark.timeout(240)

# In the morning of the day; everything of the day before is over.
NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@contextlib.asynccontextmanager
async def clients(stores: Stores) -> AsyncIterator[tuple[asyncpg.Connection, Redis]]:
    database = await asyncpg.connect(stores.database_url)
    redis = await open_redis(stores.redis_url)
    try:
        yield database, redis
    finally:
        await database.close()
        await redis.aclose()


@contextlib.asynccontextmanager
async def scanner_of(data_ingest: str) -> AsyncIterator[Callable[[str], Any]]:
    """A scanner that follows it; asks for a symbol's row."""
    environment = {
        "TRADEUL_SCANNER_ADDRESS": "127.0.0.1:0",
        "TRADEUL_DATA_INGEST_ADDRESS": data_ingest,
        "TRADEUL_METRICS_PORT_OFFSET": "0",
    }
    host = Host(ScannerService(Settings.load(environment)))
    await host.start()
    channel = open_channel(f"127.0.0.1:{host.port}")
    stub = scanner_pb2_grpc.ScannerServiceStub(channel)

    async def row(symbol: str) -> Any:
        return await stub.GetTickerRow(scanner_pb2.GetTickerRowRequest(symbol=symbol), wait_for_ready=True)

    try:
        yield row
    finally:
        await channel.close(None)
        await host.stop()


async def until(row: Callable[[str], Any], symbol: str, enough: Callable[[Any], bool]) -> Any:
    async with asyncio.timeout(WAIT_SECONDS):
        while True:
            with contextlib.suppress(Exception):
                if enough(found := await row(symbol)):
                    return found
            await asyncio.sleep(0.05)


async def succeeded(replica: Replica, task: str, day: date) -> Message:
    run = await replica.ended((await replica.run_task(task, str(day))).id)
    assert run.state == Message.SUCCEEDED, run
    return run


async def test_every_task_reaches_the_scanner_without_a_restart(stores: Stores, tmp_path: Path) -> None:
    market = SplitMarket(5, days=34)
    await empty(stores)
    eve = market.history[-1]
    async with clients(stores) as (database, redis), VendorServer(market.rest) as vendor, ScriptedPolygonWs() as feed:
        async with (
            running_calendar() as calendar,
            running_sequencer(vendor, feed, tmp_path, stores) as sequencer,
            scanner_of(sequencer.address) as row,
        ):
            # What the vendor says is there without the stores.
            symbol = market.by_name["SA"]
            expected = symbol.reference(market.history)
            loaded = await until(row, "SA", lambda row: row.HasField("atr"))
            assert loaded.atr == pytest.approx(expected["ATR"]) and not loaded.HasField("beta")
            settings = settings_of(stores, calendar, vendor.environment)
            async with (
                running_historical(settings) as port,
                running_replica(
                    {**settings, "TRADEUL_HISTORICAL_ADDRESS": f"127.0.0.1:{port}"}, SetClock(NOW), catch_up=False
                ) as replica,
            ):
                run = await succeeded(replica, "load_ohlc", eve)
                assert run.counts["ohlc_rows"] > 0 and run.failed_count > 0
                run = await succeeded(replica, "calculate_atr", eve)
                assert run.counts["atr"] == len(market.symbols)
                run = await succeeded(replica, "load_volume_slots", eve)
                assert run.failed_count == 0
                run = await succeeded(replica, "enrich_metadata", DAY)
                assert run.counts["averages"] == len(market.symbols)
                # By other hands: the loaders' values are those that were there.
                await database.execute("UPDATE ticker_metadata SET beta = 1.25, sector = 'Energy' WHERE symbol = 'SA'")
                await database.execute("UPDATE ticker_atr SET atr = 8.0 WHERE symbol = 'SA'")
                await database.execute("UPDATE volume_slots SET days = 17 WHERE symbol = 'SA'")
                await database.execute("UPDATE daily_ohlc SET close = low WHERE symbol = 'SA' AND date = $1", eve)
                for kind in ("metadata", "atr", "baselines", "daily"):
                    notice = json.dumps({"kind": kind, "date": str(eve)})
                    await database.execute("SELECT pg_notify($1, $2)", REFERENCE_DATA, notice)
                await database.execute("SELECT pg_notify($1, 'no notice')", REFERENCE_DATA)
                factor = symbol.factor(eve)
                changed = await until(
                    row, "SA", lambda row: row.beta == 1.25 and row.atr == pytest.approx(8.0 / factor)
                )
                assert changed.sector == "Energy" and changed.company_name == "SA Inc."
                low = symbol.raw[eve][2] / factor
                await until(row, "SA", lambda row: row.prev_close == pytest.approx(low))
                # The others have what they had.
                other = await row("SB")
                theirs = market.by_name["SB"].reference(market.history)
                assert other.prev_close == pytest.approx(theirs["PREV_CLOSE"])
                assert other.atr == pytest.approx(theirs["ATR"]) and not other.HasField("beta")
                assert await sequencer.until(lambda status: status.rejected.get("reference_notice"))
                assert sequencer.service.parts.reference.holdings.counts()["baseline"] == len(market.symbols)
                # And Redis has it all, in today's shares, without waiting for its time.
                await succeeded(replica, "sync_redis", DAY)
                metadata = json.loads(str(await redis.get("ticker:metadata:SA")))
                assert (metadata["beta"], metadata["sector"]) == (1.25, "Energy")
                assert metadata["avg_volume_30d"] == pytest.approx(expected["AVG_VOLUME_30D"])
                assert json.loads(str(await redis.get("ticker:atr:SA")))["atr"] == pytest.approx(8.0 / factor)
                curve = [float(str(await redis.get(f"volume_slot:SB:{slot}"))) for slot in (0, 100, 191)]
                baseline = market.by_name["SB"].baseline(market.history)
                assert curve == pytest.approx([baseline[slot] for slot in (0, 100, 191)])
                assert 0 < await redis.ttl("volume_slot:SB:191") <= 7 * 86_400


async def test_redis_that_lost_everything_gets_it_again(stores: Stores) -> None:
    market = SplitMarket(6)
    await empty(stores)
    rows = [("ONE", "One Inc.", 1.5), ("TWO", None, None)]
    async with (
        clients(stores) as (database, redis),
        VendorServer(market.rest) as vendor,
        running_calendar() as calendar,
    ):
        await redis.flushall()
        await database.executemany(
            "INSERT INTO ticker_metadata (symbol, company_name, market_cap) VALUES ($1, $2, $3)", rows
        )
        settings = settings_of(stores, calendar, vendor.environment)
        async with running_replica(settings, SetClock(NOW), catch_up=False) as replica:
            counts = [dict((await succeeded(replica, "sync_redis", DAY)).counts).get("metadata", 0) for _ in range(2)]
            assert counts == [2, 0]
            keys = ["market:source", "ticker:metadata:ONE", "ticker:metadata:TWO"]
            await redis.flushall()
            # By itself, long before its time.
            async with asyncio.timeout(WAIT_SECONDS):
                while await redis.exists(*keys) < len(keys):
                    await asyncio.sleep(0.05)
            # The keys are there before the run that writes them has ended; another is refused until then.
            runs = await replica.until(lambda runs: runs[0].state != Message.RUNNING, "sync_redis")
            assert len(runs) == 3 and runs[0].state == Message.SUCCEEDED
            # One more changes, one is no more.
            await database.execute("UPDATE ticker_metadata SET market_cap = 3 WHERE symbol = 'ONE'")
            await database.execute("DELETE FROM ticker_metadata WHERE symbol = 'TWO'")
            assert (await succeeded(replica, "sync_redis", DAY)).counts["metadata"] == 1
            assert json.loads(str(await redis.get("ticker:metadata:ONE")))["market_cap"] == 3
            assert await redis.exists("ticker:metadata:TWO") == 0
            # Before its keys expire everything is written again.
            await redis.delete("ticker:metadata:ONE")
            assert (await succeeded(replica, "sync_redis", date(2026, 3, 13))).counts["metadata"] == 1


async def test_housekeeping_goes_by_the_markets_clock(stores: Stores) -> None:
    """A simulated day of years ago stays, whatever the wall says, and whatever day a run by hand is about."""
    # The market's evening of the next day.
    now = datetime(2019, 11, 26, 1, tzinfo=UTC)
    day = datetime(2019, 11, 25, 15, tzinfo=UTC)
    await empty(stores)
    counts = (
        "SELECT (SELECT count(*) FROM aggregates_1min), (SELECT count(*) FROM scan_results), count(*) FROM slot_days"
    )
    async with (
        clients(stores) as (database, _),
        VendorServer(SplitMarket(7).rest) as vendor,
        running_calendar() as calendar,
    ):
        await database.execute("TRUNCATE aggregates_1min, scan_results, slot_days")
        await database.execute(
            "INSERT INTO aggregates_1min (time, symbol, open, high, low, close, volume)"
            " VALUES ($1, 'ONE', 1, 1, 1, 1, 1)",
            day,
        )
        await database.execute(
            "INSERT INTO scan_results (time, symbol, list, session, rank, is_entry)"
            " VALUES ($1, 'ONE', 'winners', 'MARKET_OPEN', 1, TRUE)",
            day,
        )
        await database.execute("INSERT INTO slot_days VALUES ($1, 'ONE', '', '', '')", day.date())
        settings = settings_of(stores, calendar, vendor.environment)
        async with running_replica(settings, SetClock(now), catch_up=False) as replica:
            for about in (date(2019, 11, 25), date(2026, 11, 25)):
                await succeeded(replica, "housekeeping", about)
                assert tuple(await database.fetchrow(counts)) == (1, 1, 1)
        # A year later by the market's clock; scan results are kept for ever.
        settings["TRADEUL_KEEP_SCAN_RESULTS"] = "0"
        async with running_replica(settings, SetClock(now.replace(year=2020)), catch_up=False) as replica:
            await succeeded(replica, "housekeeping", date(2020, 11, 25))
            assert tuple(await database.fetchrow(counts)) == (0, 1, 0)
        await database.execute("TRUNCATE scan_results")


async def test_housekeeping_is_the_schemas(stores: Stores) -> None:
    market = SplitMarket(7)
    await empty(stores)
    async with clients(stores) as (database, _), VendorServer(market.rest) as vendor, running_calendar() as calendar:
        await database.execute(
            "INSERT INTO aggregates_1min (time, symbol, open, high, low, close, volume)"
            " SELECT moment, 'ONE', 1, 1, 1, 1, 1 FROM unnest($1::timestamptz[]) AS moment",
            [datetime(2025, 10, 1, 15, tzinfo=UTC), datetime(2026, 3, 9, 15, tzinfo=UTC)],
        )
        await database.execute(
            "INSERT INTO maintenance_runs (task, trading_date, state, holder, lease_until, ended_at)"
            " VALUES ('sync_redis', '2026-01-01', 'SUCCEEDED', 'x', now(), now() - interval '8 days'),"
            " ('load_ohlc', '2026-01-01', 'SUCCEEDED', 'x', now(), now() - interval '8 days')"
        )
        await database.execute(
            "INSERT INTO webhook_attempts (webhook_id, message_id, time, attempt, outcome, duration_ms, alerts)"
            " SELECT 'wh_a', 'msg_a', now() - make_interval(days => age), 1, 'DELIVERED', 5, 1"
            " FROM unnest(ARRAY[0, 6, 8, 9]) AS age"
        )
        settings = settings_of(stores, calendar, vendor.environment)
        async with running_replica(settings, SetClock(NOW), catch_up=False) as replica:
            run = await succeeded(replica, "housekeeping", DAY)
            assert run.counts["maintenance_runs: rows deleted"] == 1
            assert run.counts["webhook_attempts: rows deleted"] == 2
            assert [each.task for each in await replica.runs()] == ["housekeeping", "load_ohlc"]
        times = [record["time"] for record in await database.fetch("SELECT time FROM aggregates_1min")]
        assert times == [datetime(2026, 3, 9, 15, tzinfo=UTC)]
