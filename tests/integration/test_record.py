"""A recorded day played again is the day: the same lists at the same event times, also from a killed recorder."""

import asyncio
import csv
import gzip
import os
import random
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tradeul.v1 import scanner_pb2

from fastcore.market import Market, state_of
from services.data_ingest import startup
from services.kit.lists.definitions import load_lists
from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import StartError
from services.market import recorded_market
from services.market.flat_files import TRADES_KIND, file_name, market_file_beside
from services.record.core import Recording
from services.record.files import STATE
from tests.support.flat_trades import DAY, TRADE_COLUMNS, ns_at, random_trades, write_rows
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


async def same_epoch(_: Path, after: int = 0) -> int:
    return 1_764_000_000


async def test_a_recorded_day_is_the_day(
    vendor: VendorServer, tmp_path: Path, arrived: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(startup, "next_epoch", same_epoch)
    recording = Recording(tmp_path / "flat")
    environment = environment_of(vendor, tmp_path, arrived, TRADEUL_REPLAY_SPEED="1000")
    async with running_replay(environment, ScriptedReference(1)) as live:
        reader = FrameReader(sequencer_address(live), recording, "record")
        reading = asyncio.create_task(reader.run())
        await live.until_time(int(live.replay.day.arrival_ns[-1]))
        async with asyncio.timeout(60):
            while recording.position != live.data_ingest.parts.sequencer.position:
                await asyncio.sleep(POLL_SECONDS)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    recording.flush()
    recorded = tmp_path / "flat" / file_name(TRADES_KIND, DAY)
    environment = environment_of(vendor, tmp_path, recorded, TRADEUL_REPLAY_SPEED="max")
    async with running_replay(environment, ScriptedReference(2)) as again:
        await again.until_time(int(again.replay.day.arrival_ns[-1]))
    assert again.replay.day.manifest.in_order_of_arrival
    assert again.replay.day.manifest.rows == live.data_ingest.parts.feed.admission.accepted["trades"]
    late = live.replay.day.columns
    assert (late["time_ns"] < late["arrival_ns"]).sum() > 20
    assert sum(map(len, live.recorder.updates.values())) > 1000
    assert again.recorder.updates == live.recorder.updates


class Listening(Recording):
    """Keeps the whole states that came."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.states: list[bytes] = []

    def load(self, data: bytes, position: Position) -> None:
        self.states.append(data)
        super().load(data, position)


def shown(snapshot: bytes) -> list[tuple[object, ...]]:
    """What a list shows: who is where, with which numbers; not those of a row that time alone moves."""
    return [
        (row.rank, row.symbol, row.price, row.volume_today, row.vwap, row.trades_today, row.change_percent)
        for row in scanner_pb2.RankedList.FromString(snapshot).rows
    ]


def lists_of(market: Any) -> dict[str, list[tuple[object, ...]]]:
    return {spec.name: shown(market.snapshot(spec.name)) for spec in load_lists()}


async def test_a_recording_from_the_middle_of_a_day_begins_with_the_market(
    vendor: VendorServer, tmp_path: Path, arrived: Path
) -> None:
    recording = Listening(tmp_path / "flat")
    paced = {"TRADEUL_REPLAY_SPEED": "0.001", "TRADEUL_REPLAY_START": "2025-11-24T09:31:00"}
    environment = environment_of(vendor, tmp_path, arrived, **paced)
    async with running_replay(environment, ScriptedReference(1)) as live:
        await live.until_time(ns_at("09:30:59.8"))
        # Not the state that the scanner got before the first event.
        reader = FrameReader(sequencer_address(live), recording, "record", wants_newest_state=True)
        reading = asyncio.create_task(reader.run())
        # The day stands nearly still until the recorder is there.
        await until(lambda: bool(recording.states))
        live.replay.pace.set_speed("max")
        end = int(live.replay.day.arrival_ns[-1])
        await live.until_time(end)
        await until(lambda: recording.position == live.data_ingest.parts.sequencer.position)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        lists_at_the_end = lists_of(live.scanner.hub.core.market)
    recording.flush()
    (state,) = recording.states
    # In the first minutes of a day its own reference data may not be there yet.
    rows, day = state_of(state), live.data_ingest.parts.sequencer.day
    assert startup.has_reference(rows, day)
    assert not startup.has_reference(rows, day._replace(pre_market_start_ns=rows.now_ns - startup.SETTLED_NS + 1))
    lists_at_the_beginning = lists_of(Market.from_bytes(load_lists(), state))
    assert sum(map(len, lists_at_the_beginning.values())) > 20
    recorded = tmp_path / "flat" / file_name(TRADES_KIND, DAY)
    # What was recorded is a part of the day only.
    with gzip.open(recorded, "rt") as file:
        assert 100 < sum(1 for _ in file) < live.replay.day.manifest.rows - 100
    begins_with = {"TRADEUL_REPLAY_SPEED": "max", "TRADEUL_REPLAY_MARKET": str(market_file_beside(recorded))}
    reference = ScriptedReference(2)
    before = environment_of(vendor, tmp_path, recorded, **begins_with, TRADEUL_REPLAY_UNTIL="2025-11-24T09:30:00")
    async with running_replay(before, reference) as again:
        await until(lambda: again.scanner.hub.core.is_loaded)
        await again.until_time(state_of(state).now_ns)
        assert lists_of(again.scanner.hub.core.market) == lists_at_the_beginning
    # It has them.
    assert not reference.asked
    async with running_replay(environment_of(vendor, tmp_path, recorded, **begins_with), reference) as again:
        await again.until_time(end)
        assert lists_of(again.scanner.hub.core.market) == lists_at_the_end


async def test_a_recorded_market_of_another_version_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "2025-11-24.market.gz"
    head = recorded_market.RecordedMarket(recorded_market.VERSION, DAY, 1, 2, 3, 0)
    state = Market(load_lists(), 1).to_bytes()
    layout = re.search(rb"tradeul state \d\d", state)
    assert layout is not None
    for change, problem in (
        (state.replace(b"tradeul state ", b"tradeul stale "), "expected bytes that begin with b'tradeul state "),
        (state.replace(layout[0], b"tradeul state 09"), "which another version of Tradeul writes"),
        (state[:-1], ""),
        (state, "expected the market of 2025-11-24, was of no day"),
    ):
        recorded_market.write(path, head, change)
        with pytest.raises(StartError) as refused:
            recorded_market.read(path, DAY)
        assert problem in str(refused.value)
        assert "\n" not in str(refused.value)
    for other in (msgspec.structs.replace(head, version=99), msgspec.structs.replace(head, date=date(2025, 11, 25))):
        recorded_market.write(path, other, state)
        with pytest.raises(StartError, match="expected"):
            recorded_market.read(path, DAY)
    path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(StartError, match="cannot be read"):
        recorded_market.read(path, DAY)


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
        # It has the market before the day's first trade: one that connects later begins with what that has made of it.
        await until((folder / STATE).exists)
        asyncio.Event.set(reference.opened)
        await until(lambda: (folder / file_name(TRADES_KIND, DAY)).exists())
        process.send_signal(signal.SIGKILL)
        await process.wait()
        process = await asyncio.create_subprocess_exec(*command, env=env)
        await running.until_time(int(running.replay.day.arrival_ns[-1]))
        await until(lambda: any(reader._reader == "record" for reader in running.data_ingest.parts.stream.readers))
        # What was sent to it may still be on its way: it writes every two seconds.
        day = running.replay.day
        await until(lambda: len(recorded_trades(folder)) == len(day.arrival_ns))
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    recorded = recorded_trades(folder)
    columns = [day.columns[name].tolist() for name in ("symbol_id", "time_ns", "price")]
    symbols = day.manifest.symbols
    assert recorded == [(symbols[each], time, price) for each, time, price in zip(*columns, strict=True)]


def recorded_trades(folder: Path) -> list[tuple[str, int, float]]:
    """Symbol, time and price of each; none while the file is being written."""
    try:
        with gzip.open(folder / file_name(TRADES_KIND, DAY), "rt") as file:
            return [(row["ticker"], int(row["sip_timestamp"]), float(row["price"])) for row in csv.DictReader(file)]
    except (EOFError, ValueError):
        return []


def sequencer_address(running: RunningReplay) -> str:
    return str(running.scanner.settings.address("data_ingest"))


async def until(enough: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not enough():
            await asyncio.sleep(POLL_SECONDS)
