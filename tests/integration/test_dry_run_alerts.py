"""The alerts of a dry run are those that the day had: of a recorded stream, of a replayed file, of minute bars."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.data_ingest import parts
from services.kit.rpc.frame_reader import FrameReader
from services.market.calendar import Calendar
from services.market.flat_files import TRADES_KIND, file_name, stream_file_beside
from services.record.core import Recording
from services.replay.prepare import prepare
from tests.support.alert_frames import RULES
from tests.support.dry_runs import calendar_of_day, live_alerts, played_alerts, recorded_alerts
from tests.support.flat_trades import BAR_COLUMNS, DAY, ns_at, random_trades, vendor_file, write_rows
from tests.support.running_replay import RunningReplay, ScriptedReference, environment_of, running_replay
from tests.support.scripted_day import ScriptedDay
from tests.support.scripted_polygon_ws import POLL_SECONDS
from tests.support.vendor_server import VendorServer

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def vendor() -> AsyncIterator[VendorServer]:
    async with VendorServer(ScriptedDay(1, symbols=6).rest) as server:
        yield server


@pytest.fixture(scope="module")
def calendar() -> Calendar:
    return calendar_of_day()


@pytest.fixture
def own_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules with every word there is, in place of the shipped ones."""
    monkeypatch.setattr(parts, "load_alerts", lambda lists: sorted(RULES))


def sequencer_address(live: RunningReplay) -> str:
    return str(live.scanner.settings.address("data_ingest"))


async def record(live: RunningReplay, recording: Recording, until_ns: int) -> None:
    reading = asyncio.create_task(FrameReader(sequencer_address(live), recording, "record").run())
    await live.until_time(until_ns)
    async with asyncio.timeout(60):
        while recording.position != live.data_ingest.parts.sequencer.position:
            await asyncio.sleep(POLL_SECONDS)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    recording.flush()


@pytest.mark.usefixtures("own_rules")
async def test_a_recorded_stream_has_the_live_alerts_byte_for_byte(vendor: VendorServer, tmp_path: Path) -> None:
    file = vendor_file(tmp_path / "2025-11-24.csv.gz", random_trades(3, 40, 20_000, "09:27:00", "09:42:00"))
    recording = Recording(tmp_path / "flat", keeps_stream=True)
    environment = environment_of(vendor, tmp_path, file, TRADEUL_REPLAY_SPEED="max")
    async with running_replay(environment, ScriptedReference(1)) as live:
        await record(live, recording, int(live.replay.day.arrival_ns[-1]))
        expected = {rule.name: live_alerts(live, rule.name) for rule in RULES}
    path = stream_file_beside(tmp_path / "flat" / file_name(TRADES_KIND, DAY))
    for rule in RULES:
        found, market = recorded_alerts(rule, path)
        assert found == expected[rule.name], rule.name
        assert not market.lacks
    # Rules of every kind had some.
    having = {name for name, alerts in expected.items() if alerts}
    assert {"above", "below", "grows", "steps", "held_time", "counted", "enter", "rearmed", "least"} <= having


@pytest.mark.usefixtures("own_rules")
async def test_a_file_of_trades_has_the_alerts_of_its_replay(
    vendor: VendorServer, tmp_path: Path, calendar: Calendar
) -> None:
    """With pauses, in which watermarks at which nothing is looked at are left out."""
    trades = [
        trade
        for trade in random_trades(5, 30, 20_000, "09:27:00", "09:40:00")
        if trade[1] // 10**9 % 100 < 40 or (trade[0] == "S000" and trade[1] // 10**9 % 7 == 0)
    ]
    file = vendor_file(tmp_path / "2025-11-24.csv.gz", trades)
    await check_replay(vendor, tmp_path, file, calendar, {"above", "grows", "steps", "held_time", "enter", "least"})


@pytest.mark.usefixtures("own_rules")
async def test_minute_bars_have_the_alerts_of_their_replay(
    vendor: VendorServer, tmp_path: Path, calendar: Calendar
) -> None:
    chance = random.Random(11)
    rows = []
    for symbol in range(40):
        price = chance.uniform(3, 90)
        for minute in range(45):
            if chance.random() < 0.35:
                continue
            price *= 1 + chance.gauss(0.001, 0.01)
            low, high = price * (1 - chance.random() / 80), price * (1 + chance.random() / 80)
            close = chance.uniform(low, high)
            start = ns_at("09:20:00") + minute * 60 * 10**9
            volume = chance.randrange(100, 90_000)
            cells = (
                f"S{symbol:03d}",
                volume,
                *(f"{each:.4f}" for each in (price, close, high, low)),
                start,
                volume // 90,
            )
            rows.append(",".join(map(str, cells)))
            price = close
    file = write_rows(tmp_path / "2025-11-24.csv.gz", BAR_COLUMNS, rows)
    await check_replay(vendor, tmp_path, file, calendar, {"above", "grows", "steps", "held_time", "enter"})


async def check_replay(vendor: VendorServer, folder: Path, file: Path, calendar: Calendar, having: set[str]) -> None:
    environment = environment_of(vendor, folder, file, TRADEUL_REPLAY_SPEED="max")
    async with running_replay(environment, ScriptedReference(1)) as live:
        await live.until_time(int(live.replay.day.arrival_ns[-1]))
        expected = {rule.name: live_alerts(live, rule.name) for rule in RULES}
    events = prepare(file, folder / "days")
    for rule in RULES:
        assert await played_alerts(rule, events, calendar) == expected[rule.name], rule.name
    assert having <= {name for name, alerts in expected.items() if alerts}
