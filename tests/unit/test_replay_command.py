"""What `tradeul replay` makes of its words, and which processes a replay has."""

import contextlib
import datetime
from pathlib import Path

import click
import pytest
from tradeul.v1 import frame_pb2, stream_pb2

from fastcore.market import Market
from services.cli.local.mesh import modules_of, ports_of, specs_of
from services.cli.replay import at, find, market_of
from services.data_ingest.reference.process import stores
from services.kit.lists.definitions import load_lists
from services.kit.runtime.errors import SettingsError
from services.kit.runtime.settings import Settings
from services.market.flat_files import TRADES_KIND, file_name, market_file_beside
from services.market.recorded_market import VERSION, RecordedMarket, write
from services.replay.service import given_ns
from tests.support.flat_trades import DAY, TRADE_COLUMNS, ns_at, trade_row, write_rows

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


def test_a_recordings_market_is_used_where_it_can_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trades = write_rows(tmp_path / "2025-11-24.csv.gz", TRADE_COLUMNS, [trade_row("A", ns_at("09:45:00"), 1)])
    assert market_of(None, DAY) is None
    assert market_of(trades, DAY) is None
    assert capsys.readouterr().err == ""
    state = Market(load_lists(), 1)
    state.apply(
        frame_pb2.Frame(
            position=stream_pb2.StreamPosition(epoch=1, sequence=1),
            trading_day=frame_pb2.TradingDay(
                trading_date=str(DAY),
                pre_market_start_ns=ns_at("04:00:00"),
                market_open_ns=ns_at("09:30:00"),
                market_close_ns=ns_at("16:00:00"),
                post_market_end_ns=ns_at("20:00:00"),
            ),
        ).SerializeToString()
    )
    head = RecordedMarket(VERSION, DAY, 1, 1, ns_at("09:44:59"), 0)
    market = market_file_beside(trades)
    write(market, head, state.to_bytes())
    assert market_of(trades, DAY) == market
    assert "begins with 0 symbols as they were at 09:44:59" in capsys.readouterr().err
    write(market, head, state.to_bytes().replace(b"tradeul state", b"another state"))
    assert market_of(trades, DAY) is None
    assert "the replay begins with an empty market" in capsys.readouterr().err


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
    assert given_ns(datetime.datetime.fromisoformat("2025-11-24T09:30:00")) == ns_at("09:30:00")
    assert given_ns(datetime.datetime.fromisoformat("2025-11-24T14:30:00+00:00")) == ns_at("09:30:00")
    assert given_ns(None) is None


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
