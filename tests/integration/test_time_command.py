"""`tradeul time` against the simulator's feed, and jumps by script that somebody else ends."""

import asyncio
import json
import os
import sys
from typing import Any

import click
import pytest
from tradeul.v1 import replay_pb2

from services.cli import market_time as home
from services.cli.lists.client import Client
from services.cli.market_time import Speed, TimeOfDay, arrival, change_or_show, state_json, state_line
from tests.support.feed import running_feed
from tests.support.flat_trades import ns_at
from tests.support.running_simulator import running_simulator

CLIENT = Client("not-used:1", "")


async def run(address: str, *arguments: str) -> tuple[int, str, str]:
    """The status, output and errors of `tradeul time`."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRADEUL_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli.main", "time", "--address", address, *arguments,
        env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_simulators_time_is_shown_and_changed() -> None:
    async with (
        running_simulator(symbols=20, start="2025-11-24T09:29:58") as simulator,
        # The name of its own market: with a vendor's URL it is the vendor's.
        running_feed({"TRADEUL_SIMULATOR_ADDRESS": simulator.address}) as feed,
    ):
        address = f"127.0.0.1:{feed.host.port}"
        client = Client(address, "")
        state = await change_or_show(client, replay_pb2.UpdateReplayRequest(paused=True, speed=2), True)
        assert (state.market, state.paused, state.speed) == (replay_pb2.Replay.SIMULATOR, True, 2)
        # The jump has ended when the command has, paused again.
        status, out, err = await run(address, "--jump", "09:31")
        assert (status, out) == (0, "2025-11-24 09:31:00 New York, simulator, paused, speed 2\n")
        assert all(line.startswith("time: jumping to 09:31:00, ") for line in err.splitlines())
        status, out, _ = await run(address, "--json")
        shown = json.loads(out)
        assert (status, shown["now"], shown["paused"], shown["speed"]) == (0, "2025-11-24T14:31:00Z", True, 2)
        refused: list[tuple[dict[str, Any], int, str]] = [
            ({"jump_to": "09:30"}, 1, "expected a time after 09:31:00, which it is now, was 09:30"),
            ({"jump_to": "noon"}, 2, "expected a time of the day like 09:45"),
            ({"speed": 1e9}, 2, "expected 0 or a number of 0.01 to 100,000"),
        ]
        for change, status, problem in refused:
            with pytest.raises(click.ClickException, match=problem) as error:
                await change_or_show(client, replay_pb2.UpdateReplayRequest(**change), True)
            assert error.value.exit_code == status
        state = await change_or_show(client, replay_pb2.UpdateReplayRequest(paused=False, speed=0), True)
        assert (state.paused, state.speed) == (False, 0)
    with pytest.raises(click.ClickException, match="UNAVAILABLE") as error:
        await change_or_show(client, replay_pb2.UpdateReplayRequest(), True)
    assert error.value.exit_code == 1


class Stub:
    """A market whose states are given by script."""

    def __init__(self, *states: replay_pb2.Replay) -> None:
        self._states = list(states)

    async def GetReplay(self, *_: object, **__: object) -> replay_pb2.Replay:
        return self._states.pop(0)


def jumping(now: str, to: str = "") -> replay_pb2.Replay:
    state = replay_pb2.Replay(market=replay_pb2.Replay.REPLAY, date="2025-11-24", speed=60)
    if now:
        state.now.FromNanoseconds(ns_at(now))
    if to:
        state.jumping_to.FromNanoseconds(ns_at(to))
    getattr(state, "from").FromNanoseconds(ns_at("04:00:00"))
    return state


async def test_a_jump_is_waited_for_until_its_time_or_until_somebody_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(home, "POLL_SECONDS", 0)
    stub: Any = Stub(jumping("09:30:00", "10:00:00"), jumping("10:00:02"))
    assert await arrival(CLIENT, stub, jumping("", "10:00:00")) == jumping("10:00:02")
    assert capsys.readouterr().err == "time: jumping to 10:00:00, 0 of 21,600, now 04:00:00\n"
    for end in (jumping("09:45:12"), jumping("09:45:12", "11:00:00")):
        stub = Stub(jumping("09:30:00", "10:00:00"), end)
        with pytest.raises(click.ClickException, match="to 10:00:00 was ended at 09:45:12 by another change"):
            await arrival(CLIENT, stub, jumping("09:30:00", "10:00:00"))


def test_the_state_is_a_line_or_the_json_of_rest() -> None:
    assert state_line(jumping("09:30:05")) == "2025-11-24 09:30:05 New York, replay, speed 60"
    line = "2025-11-24 09:30:05 New York, replay, jumping to 10:00:00, speed 60"
    assert state_line(jumping("09:30:05", "10:00:00")) == line
    unpaced = jumping("")
    unpaced.speed, unpaced.paused = 0, True
    assert state_line(unpaced) == "2025-11-24 before its first event, replay, paused, speed max"
    live = replay_pb2.Replay(market=replay_pb2.Replay.VENDOR)
    assert state_line(live) == "the market is live: its time cannot be changed"
    assert state_json(live) == '{"market":"VENDOR","date":"","paused":false,"speed":0.0}'


def test_speeds_and_times_are_completed() -> None:
    context = click.Context(home.market_time)
    option = home.market_time.params[0]
    assert [item.value for item in Speed().shell_complete(context, option, "")] == ["1", "2", "5", "10", "60", "max"]
    assert [item.value for item in TimeOfDay().shell_complete(context, option, "0")] == ["04:00", "09:30"]
    assert Speed().convert("max", None, None) == 0
    for wrong in ("0", "-1", "nan", "x"):
        with pytest.raises(click.BadParameter, match="expected a number above 0, or max"):
            Speed().convert(wrong, None, None)
