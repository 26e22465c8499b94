"""A recorded day played again is the day: the same lists at the same event times, also from a killed recorder."""

import asyncio
import csv
import gzip
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.data_ingest import opening
from services.kit.flat_files import TRADES_KIND, file_name
from services.kit.frame_reader import FrameReader
from services.record.core import Recording
from tests.support.flat_trades import DAY, TRADE_COLUMNS, random_trades, write_rows
from tests.support.running_replay import RunningReplay, ScriptedReference, environment_of, running_replay
from tests.support.scripted_day import ScriptedDay
from tests.support.scripted_polygon_ws import POLL_SECONDS
from tests.support.vendor_server import VendorServer

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def vendor() -> AsyncIterator[VendorServer]:
    async with VendorServer(ScriptedDay(1, symbols=6).rest) as server:
        yield server


@pytest.fixture
def arrived(tmp_path: Path) -> Path:
    """A day as it arrived: every 200th trade comes a second to three minutes after it happened."""
    chance = random.Random(7)
    rows = [row for _, _, row in random_trades(11, 50, 12_000)]
    for at in range(200, len(rows), 200):
        rows.insert(min(len(rows), at + chance.randrange(40, 6000)), rows.pop(at))
    return write_rows(tmp_path / "arrived" / "2025-11-24.csv.gz", TRADE_COLUMNS, rows)


async def same_epoch(_: Path) -> int:
    return 1_764_000_000


async def test_a_recorded_day_is_the_day(
    vendor: VendorServer, tmp_path: Path, arrived: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "next_epoch", same_epoch)
    recording = Recording(tmp_path / "flat")
    environment = environment_of(vendor, tmp_path, arrived, TRADEUL_REPLAY_SPEED="1000")
    async with running_replay(environment, ScriptedReference(1)) as live:
        reader = FrameReader(sequencer_address(live), recording, "record")
        reading = asyncio.create_task(reader.run())
        await live.until_time(int(live.replay.day.arrival_ns[-1]))
        async with asyncio.timeout(30):
            while recording.position != live.data_ingest.sequencer.position:
                await asyncio.sleep(POLL_SECONDS)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    recording.flush()
    recorded = tmp_path / "flat" / file_name(TRADES_KIND, DAY)
    environment = environment_of(vendor, tmp_path, recorded, TRADEUL_REPLAY_SPEED="max")
    async with running_replay(environment, ScriptedReference(2)) as again:
        await again.until_time(int(again.replay.day.arrival_ns[-1]))
    assert again.replay.day.manifest.in_order_of_arrival
    assert again.replay.day.manifest.rows == live.data_ingest.feed.admission.accepted["trades"]
    late = live.replay.day.columns
    assert (late["time_ns"] < late["arrival_ns"]).sum() > 20
    assert sum(map(len, live.recorder.updates.values())) > 1000
    assert again.recorder.updates == live.recorder.updates


async def test_a_killed_recorder_loses_nothing(vendor: VendorServer, tmp_path: Path, arrived: Path) -> None:
    environment = environment_of(vendor, tmp_path, arrived, TRADEUL_REPLAY_SPEED="20")
    folder = tmp_path / "flat"
    reference = ScriptedReference(1)
    # The day begins when a recorder is there.
    reference.opened.set = lambda: None  # type: ignore[method-assign]
    async with running_replay(environment, reference) as running:
        command = (sys.executable, "-m", "services.cli.main", "record", "--out", str(folder))
        env = {**os.environ, **environment, "TRADEUL_DATA_INGEST_ADDRESS": sequencer_address(running)}
        process = await asyncio.create_subprocess_exec(*command, env=env)
        await until(lambda: len(running.data_ingest.stream.readers) == 2)
        asyncio.Event.set(reference.opened)
        await until(lambda: (folder / file_name(TRADES_KIND, DAY)).exists())
        process.send_signal(signal.SIGKILL)
        await process.wait()
        process = await asyncio.create_subprocess_exec(*command, env=env)
        await running.until_time(int(running.replay.day.arrival_ns[-1]))
        await until(lambda: any(reader._reader == "record" for reader in running.data_ingest.stream.readers))
        newest = running.data_ingest.sequencer.position.sequence
        await until(lambda: all(reader.at.sequence == newest for reader in running.data_ingest.stream.readers))
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    with gzip.open(folder / file_name(TRADES_KIND, DAY), "rt") as file:
        recorded = [(row["ticker"], int(row["sip_timestamp"]), float(row["price"])) for row in csv.DictReader(file)]
    day = running.replay.day
    columns = [day.columns[name].tolist() for name in ("symbol_id", "time_ns", "price")]
    symbols = day.manifest.symbols
    assert recorded == [(symbols[each], time, price) for each, time, price in zip(*columns, strict=True)]


def sequencer_address(running: RunningReplay) -> str:
    return str(running.scanner.settings.address("data_ingest"))


async def until(enough: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not enough():
            await asyncio.sleep(POLL_SECONDS)
