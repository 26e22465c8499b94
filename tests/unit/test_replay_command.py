"""What `tradeul replay` makes of its words, and which processes a replay has."""

import contextlib
import datetime
from pathlib import Path

import click
import pytest

from services.cli.mesh import modules_of, ports_of, specs_of
from services.cli.replay import at, find
from services.data_ingest.reference.worker import stores
from services.kit.errors import SettingsError
from services.kit.flat_files import TRADES_KIND, file_name
from services.kit.settings import Settings
from services.replay.service import ns_of
from tests.support.flat_trades import DAY, ns_at

REPLAY = {"TRADEUL_REPLAY_DATE": str(DAY)}


def test_a_day_is_its_recorded_file_or_its_stored_bars(tmp_path: Path) -> None:
    assert find("2025-11-24", tmp_path) == (DAY, None)
    recorded = tmp_path / file_name(TRADES_KIND, DAY)
    recorded.parent.mkdir(parents=True)
    recorded.touch()
    assert find("2025-11-24", tmp_path) == (DAY, recorded)
    assert find(str(recorded), tmp_path) == (None, recorded)
    with pytest.raises(click.UsageError, match="expected a date like"):
        find("yesterday", tmp_path)


@pytest.mark.parametrize(
    ("text", "time"),
    [(None, ""), ("09:45", "2025-11-24T09:45:00"), ("2025-11-24T10:00:30", "2025-11-24T10:00:30")],
)
def test_times_are_of_the_day(text: str | None, time: str) -> None:
    assert at(DAY, text) == time


def test_wrong_times_are_refused() -> None:
    with pytest.raises(click.UsageError, match="expected a time like"):
        at(DAY, "noon")


def test_times_without_an_offset_are_new_yorks() -> None:
    assert ns_of(datetime.datetime.fromisoformat("2025-11-24T09:30:00")) == ns_at("09:30:00")
    assert ns_of(datetime.datetime.fromisoformat("2025-11-24T14:30:00+00:00")) == ns_at("09:30:00")
    assert ns_of(None) is None


def test_a_replay_has_the_file_for_a_feed_and_writes_nowhere(tmp_path: Path) -> None:
    live = {"TRADEUL_REDIS_URL": "redis://live:6379", "POLYGON_API_KEY": "key", "TRADEUL_DATA_DIR": str(tmp_path)}
    settings = Settings.load({**live, **REPLAY})
    assert settings.clock == "feed"
    names = [module.name for module in modules_of(settings)]
    assert "replay" in names
    assert not {"polygon_ws", "simulator", "analytics", "historical", "data_maintenance"} & set(names)
    assert ports_of(settings)["replay"] == settings.address("polygon_ws")
    specs = {spec.name: spec for spec in specs_of(settings)}
    assert "replay" in specs["data_ingest"].needs
    assert "polygon_ws" not in specs["data_ingest"].needs
    # The live market's Redis is left alone.
    assert specs["scanner"].environment["TRADEUL_REDIS_URL"].startswith("unix://")
    assert "polygon_ws" in [module.name for module in modules_of(Settings.load(live))]


async def test_reference_data_of_a_past_day_do_not_come_from_redis() -> None:
    failed: dict[str, int] = {}
    async with contextlib.AsyncExitStack() as stack:
        # Nothing is there: it is not even asked.
        settings = Settings.load({**REPLAY, "TRADEUL_REDIS_URL": "unix:///nowhere/redis.sock"})
        assert await stores(settings, stack, failed) == (None, None)
    assert failed == {}


def test_the_wall_has_no_say_in_a_replay() -> None:
    with pytest.raises(SettingsError, match="expected TRADEUL_CLOCK=feed, was wall"):
        Settings.load({**REPLAY, "TRADEUL_CLOCK": "wall"})
    with pytest.raises(SettingsError, match="TRADEUL_REPLAY_SPEED: expected more than 0"):
        Settings.load({**REPLAY, "TRADEUL_REPLAY_SPEED": "0"})
