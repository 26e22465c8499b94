"""The scanner's stored results in a real PostgreSQL: complete, once, and never in the way of the lists."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from prometheus_client import REGISTRY

from services.cli.local.embedded import postgres_url
from services.scanner.record_spool import RecordSpool
from services.scanner.scan_results import ScanRecorder, ScanWriter
from tests.support.running_scanner import running_scanner
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer
from tests.support.stores import Stores, module_stores, running_stores
from tests.support.tape import Tape, at
from tests.unit.test_scan_results import Replica

SYMBOLS = [f"S{i:02}" for i in range(20)]
COUNT = "SELECT count(*) FROM scan_results"


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def database(stores: Stores) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stores.database_url)
    await connection.execute("TRUNCATE scan_results")
    yield connection
    await connection.close()


@contextlib.asynccontextmanager
async def writing(url: str, recorder: ScanRecorder, directory: Path) -> AsyncIterator[None]:
    """Writes; what waits in memory for a database that is away goes to disk at once."""
    writer = ScanWriter(url, recorder, RecordSpool(directory), write_every=0.01, spill_bytes=1)
    task = asyncio.create_task(writer.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await writer.close()


async def until_rows(database: asyncpg.Connection, count: int) -> list[Any]:
    async with asyncio.timeout(60):
        while await database.fetchval(COUNT) < count:
            await asyncio.sleep(POLL_SECONDS)
    return list(await database.fetch("SELECT * FROM scan_results ORDER BY time, list, rank"))


def counter(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_two_scanners_store_entries_and_minutes_once(stores: Stores, database: asyncpg.Connection) -> None:
    tape = Tape(SYMBOLS, clock="09:59:50")
    async with ScriptedSequencer(tape) as sequencer:
        sequencer.send(*tape.opening())
        environment = stores.environment()
        async with running_scanner(sequencer, environment) as one, running_scanner(sequencer, environment) as two:
            sequencer.trade({"S01": 104.0, "S02": 95.0})
            sequencer.send(tape.watermark(20))
            for scanner in (one, two):
                await scanner.until_at(sequencer)
    rows = await until_rows(database, 1)
    entries = {(row["list"], row["symbol"]) for row in rows if row["is_entry"]}
    minutes = {(row["list"], row["symbol"]) for row in rows if not row["is_entry"]}
    assert entries == minutes >= {("gappers_up", "S01"), ("gappers_down", "S02"), ("filtered", "S01")}
    assert len(rows) == len(entries) + len(minutes)
    assert {row["time"].timestamp() for row in rows if not row["is_entry"]} == {at("10:00:00") / 1e9}
    (first,) = (row for row in rows if row["is_entry"] and row["list"] == "gappers_up")
    assert (first["session"], first["rank"], first["price"], first["gap_percent"]) == ("MARKET_OPEN", 1, 104.0, 4.0)


async def test_a_cut_connection_loses_and_repeats_nothing(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path
) -> None:
    tape, replica = Tape(SYMBOLS), Replica()
    replica.apply(*tape.opening())
    failures = counter("tradeul_scan_write_failures_total")
    async with writing(stores.database_url, replica.recorder, tmp_path):
        for number, symbol in enumerate(SYMBOLS, 1):
            replica.apply(tape.trades({symbol: 101.0}), tape.watermark())
            await until_rows(database, number)
            if number % 5 == 0:
                await database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database()"
                )
    rows = await until_rows(database, len(SYMBOLS))
    assert [row["symbol"] for row in rows] == SYMBOLS
    assert counter("tradeul_scan_write_failures_total") > failures


async def test_what_came_while_the_database_was_away_waits_on_disk_and_is_stored_once(tmp_path: Path) -> None:
    tape, replica, on_disk = Tape(SYMBOLS), Replica(), tmp_path / "records"
    replica.apply(*tape.opening())
    dropped = counter("tradeul_scan_records_dropped_total", reason="full")
    async with asyncio.timeout(60), writing(postgres_url(tmp_path), replica.recorder, on_disk):
        for number, symbol in enumerate(SYMBOLS):
            failures = counter("tradeul_scan_write_failures_total")
            replica.apply(tape.trades({symbol: 101.0}), tape.watermark())
            # The first is tried again and again, in memory.
            while number < 4 and (
                counter("tradeul_scan_write_failures_total") == failures
                or counter("tradeul_scan_records_on_disk") < number
            ):
                await asyncio.sleep(POLL_SECONDS)
        async with running_stores(tmp_path) as stores:
            connection = await asyncpg.connect(stores.database_url)
            rows = await until_rows(connection, len(SYMBOLS))
            assert sorted(row["symbol"] for row in rows) == SYMBOLS
            while list(on_disk.iterdir()):
                await asyncio.sleep(POLL_SECONDS)
            await connection.close()
    assert counter("tradeul_scan_records_on_disk") == 0
    assert counter("tradeul_scan_records_dropped_total", reason="full") == dropped


async def test_what_a_scanner_could_not_store_before_it_stopped_the_next_one_stores(tmp_path: Path) -> None:
    tape, replica, on_disk = Tape(SYMBOLS), Replica(), tmp_path / "records"
    replica.apply(*tape.opening(), tape.trades(dict.fromkeys(SYMBOLS, 101.0)), tape.watermark())
    lost = counter("tradeul_scan_records_dropped_total", reason="stopping")
    async with asyncio.timeout(60):
        async with writing(postgres_url(tmp_path), replica.recorder, on_disk):
            pass
        assert counter("tradeul_scan_records_dropped_total", reason="stopping") == lost
        async with running_stores(tmp_path) as stores, writing(stores.database_url, Replica().recorder, on_disk):
            connection = await asyncpg.connect(stores.database_url)
            assert sorted(row["symbol"] for row in await until_rows(connection, len(SYMBOLS))) == SYMBOLS
            await connection.close()


async def test_rows_that_cannot_be_stored_are_counted_and_the_rest_goes_on(
    stores: Stores, database: asyncpg.Connection, tmp_path: Path
) -> None:
    await database.execute("ALTER TABLE scan_results ADD CONSTRAINT no_s00 CHECK (symbol <> 'S00')")
    dropped = counter("tradeul_scan_records_dropped_total", reason="unusable")
    try:
        tape, replica = Tape(SYMBOLS), Replica()
        replica.apply(*tape.opening(), tape.trades({"S00": 101.0}), tape.watermark())
        async with writing(stores.database_url, replica.recorder, tmp_path):
            while counter("tradeul_scan_records_dropped_total", reason="unusable") == dropped:
                await asyncio.sleep(POLL_SECONDS)
            replica.apply(tape.trades({"S01": 101.0}), tape.watermark())
            assert [row["symbol"] for row in await until_rows(database, 1)] == ["S01"]
    finally:
        await database.execute("ALTER TABLE scan_results DROP CONSTRAINT no_s00")


async def test_without_database_and_disk_a_scanner_stops_in_time_and_counts_what_is_lost(tmp_path: Path) -> None:
    tape, replica = Tape(SYMBOLS), Replica()
    replica.apply(*tape.opening(), tape.trades({"S01": 101.0}), tape.watermark())
    lost = counter("tradeul_scan_records_dropped_total", reason="stopping")
    (tmp_path / "file").touch()
    async with asyncio.timeout(60), writing(postgres_url(tmp_path), replica.recorder, tmp_path / "file" / "records"):
        await asyncio.sleep(POLL_SECONDS)
    assert counter("tradeul_scan_records_dropped_total", reason="stopping") == lost + 1
