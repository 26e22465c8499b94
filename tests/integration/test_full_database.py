"""A PostgreSQL whose own disk is full, while all others have room: named, waited for, and nothing stored twice."""

import asyncio
import contextlib
from pathlib import Path

import asyncpg
import pytest

from services.data_ingest import store_health
from services.data_ingest.store_health import DatabaseProbe
from services.scanner.record_spool import RecordSpool
from services.scanner.scan_results import ScanWriter
from tests.integration.test_scan_writer import SYMBOLS, counter, until_rows
from tests.support.scripted_sequencer import POLL_SECONDS
from tests.support.small_disk import NEEDS_ROOT, fill, make_room, small_disk
from tests.support.stores import running_stores
from tests.support.tape import Tape
from tests.unit.test_scan_results import Replica

DISK_BYTES = 192 << 20
FULL = "No space left on device"


async def test_a_full_disk_is_named_and_what_waits_is_stored_once_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_health, "PROBE_SECONDS", 0.05)
    disk = tmp_path / "postgres"
    with small_disk(disk, DISK_BYTES) as is_mounted:
        if not is_mounted:
            pytest.skip(NEEDS_ROOT)
        async with contextlib.AsyncExitStack() as stack, asyncio.timeout(120):
            stores = await stack.enter_async_context(running_stores(tmp_path))
            database = await asyncpg.connect(stores.database_url)
            await database.execute("INSERT INTO market_source (market) VALUES ('simulator') ON CONFLICT DO NOTHING")
            probe = DatabaseProbe(stores.database_url)
            tape, replica = Tape(SYMBOLS), Replica()
            replica.apply(*tape.opening())
            spool = RecordSpool(tmp_path / "records")
            writer = ScanWriter(stores.database_url, replica.recorder, spool, write_every=0.01, spill_bytes=1)
            tasks = [asyncio.create_task(probe.run()), asyncio.create_task(writer.run())]
            try:
                for number, symbol in enumerate(SYMBOLS):
                    failures = counter("tradeul_scan_write_failures_total")
                    replica.apply(tape.trades({symbol: 101.0}), tape.watermark())
                    if number == 2:
                        await until_rows(database, number)
                        assert probe.state.warning is None
                        await asyncio.to_thread(fill, disk)
                        while FULL not in (probe.state.warning or ""):
                            await asyncio.sleep(POLL_SECONDS)
                    elif number in (3, 4):
                        while counter("tradeul_scan_write_failures_total") == failures:
                            await asyncio.sleep(POLL_SECONDS)
                assert counter("tradeul_scan_records_on_disk") > 0
                make_room(disk)
                rows = await until_rows(database, len(SYMBOLS))
                assert sorted(row["symbol"] for row in rows) == SYMBOLS
                while probe.state.warning is not None or counter("tradeul_scan_records_on_disk"):
                    await asyncio.sleep(POLL_SECONDS)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await writer.close()
                await database.close()
