"""The pace of a replay and of the simulator, changed over REST through the real gateway."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tradeul.v1 import replay_pb2

from services.kit.runtime.errors import ServiceError
from services.kit.runtime.settings import Settings
from services.polygon_ws.replay_control import ReplayControl
from tests.support.flat_trades import ns_at, random_trades, vendor_file
from tests.support.gateway import Gateway, gateway_settings
from tests.support.running_replay import RunningReplay, ScriptedReference, environment_of, running_replay
from tests.support.running_simulator import running_simulator
from tests.support.scripted_day import ScriptedDay
from tests.support.vendor_server import VendorServer

ROUTE = "/api/v1/replay"
STEP_SECONDS = 0.02
# Long enough for many of a paused market's events to be sent, if they were.
PAUSE_SECONDS = 0.5

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
async def vendor() -> AsyncIterator[VendorServer]:
    async with VendorServer(ScriptedDay(1, symbols=6).rest) as server:
        yield server


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vendor_file(tmp_path_factory.mktemp("flat") / "2025-11-24.csv.gz", random_trades(3, 50, 30_000))


def lists_of(running: RunningReplay) -> dict[str, Any]:
    """The rows of the lists; positions differ when one has waited for a reader of its own."""
    lists = {name: running.list(name) for name in ("gappers_up", "winners", "new_highs", "high_volume", "filtered")}
    return {name: [row.SerializeToString(deterministic=True) for row in each.rows] for name, each in lists.items()}


async def post(client: httpx.AsyncClient, **change: object) -> dict[str, Any]:
    answer = await client.post(ROUTE, json=change)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def arrived(client: httpx.AsyncClient) -> dict[str, Any]:
    """The state once no jump is under way."""
    async with asyncio.timeout(60):
        while "jumping_to" in (state := (await client.get(ROUTE)).json()):
            await asyncio.sleep(STEP_SECONDS)
    return dict(state)


async def test_a_replay_is_paused_and_jumps_to_what_an_uninterrupted_one_shows(
    vendor: VendorServer, tmp_path: Path, file: Path
) -> None:
    to = "2025-11-24T09:32:00"
    uninterrupted = environment_of(
        vendor, tmp_path / "whole", file, TRADEUL_REPLAY_SPEED="max", TRADEUL_REPLAY_UNTIL=to
    )
    async with running_replay(uninterrupted, ScriptedReference(1)) as whole:
        await whole.until_time(ns_at("09:32:00"))
        expected = lists_of(whole)
    environment = environment_of(vendor, tmp_path / "jumped", file, TRADEUL_REPLAY_SPEED="2")
    async with running_replay(environment, ScriptedReference(2)) as running:
        settings = gateway_settings(
            tmp_path / "gateway",
            {"TRADEUL_POLYGON_WS_ADDRESS": str(running.scanner.settings.address("polygon_ws"))},
        )
        async with Gateway(settings) as gateway:
            client = gateway.client
            await running.until_time(ns_at("09:30:01"))
            state = await post(client, paused=True)
            assert (state["market"], state["date"], state["paused"], state["speed"]) == (
                "REPLAY",
                "2025-11-24",
                True,
                2,
            )
            await running.until_time(running.replay.pace.reached_ns)
            before = (await client.get(ROUTE)).json(), lists_of(running)
            await asyncio.sleep(PAUSE_SECONDS)
            assert ((await client.get(ROUTE)).json(), lists_of(running)) == before
            # The stream goes on, of heartbeats.
            subscription = running.replay._servicer.market.subscription
            assert subscription is not None and not subscription.is_over
            # In two steps, and paused there.
            await post(client, jump_to="09:31:15", speed=5)
            assert (await arrived(client))["now"].startswith("2025-11-24T14:31:15")
            await post(client, jump_to="09:32")
            state = await arrived(client)
            assert (state["now"], state["paused"], state["speed"]) == ("2025-11-24T14:32:00Z", True, 5)
            await running.until_time(ns_at("09:32:00"))
            assert lists_of(running) == expected
            # It was never interrupted: the same subscription, no reset.
            assert running.replay._servicer.market.subscription is subscription
            assert running.recorder.replaced_times == 0
            await refused(client, {"jump_to": "09:31"}, "TIME_IS_OVER", "after 09:32:00, which it is now")
            await refused(client, {"jump_to": "noon"}, "INVALID_TIME", "a time of the day like 09:45")
            await refused(client, {"speed": -1}, "INVALID_SPEED", "expected 0 or a number of 0.01")
            await refused(client, {"puased": True}, "INVALID_REQUEST", "paused")
            # At the end of its day.
            await post(client, paused=False, speed=0)
            await running.until_time(int(running.replay.day.arrival_ns[-1]))
            state = (await client.get(ROUTE)).json()
            assert (state["paused"], state["speed"], state["now"]) == (False, 0, state["to"])


async def refused(client: httpx.AsyncClient, change: dict[str, object], reason: str, text: str) -> None:
    answer = await client.post(ROUTE, json=change)
    body = answer.json()
    assert answer.status_code == 400
    assert body["details"][0]["reason"] == reason
    assert text in body["message"]


def control(**environment: str) -> ReplayControl:
    settings = Settings.load(environment)
    return ReplayControl(settings.polygon, settings.uses_simulator)


async def test_the_simulators_time_is_changed_by_its_own_interface() -> None:
    async with running_simulator(symbols=40, start="2025-11-24T09:29:58", speed=0.5) as simulator:
        context: Any = None
        simulated = control(TRADEUL_SIMULATOR_ADDRESS=simulator.address)
        state = await simulated.UpdateReplay(replay_pb2.UpdateReplayRequest(paused=True), context)
        assert (state.market, state.paused, state.speed) == (replay_pb2.Replay.SIMULATOR, True, 0.5)
        await asyncio.sleep(PAUSE_SECONDS)
        assert await simulated.GetReplay(replay_pb2.GetReplayRequest(), context) == state
        request = replay_pb2.UpdateReplayRequest(jump_to="09:31", speed=3)
        state = await simulated.UpdateReplay(request, context)
        async with asyncio.timeout(60):
            while state.HasField("jumping_to"):
                await asyncio.sleep(STEP_SECONDS)
                state = await simulated.GetReplay(replay_pb2.GetReplayRequest(), context)
        assert (state.now.ToNanoseconds(), state.paused, state.speed) == (ns_at("09:31:00"), True, 3)
        with pytest.raises(ServiceError, match="after 09:31:00"):
            await simulated.UpdateReplay(replay_pb2.UpdateReplayRequest(jump_to="09:30"), context)
        # A page of any origin can post to this port, but not with this header.
        async with httpx.AsyncClient(base_url=simulator.rest_url) as page:
            assert (await page.post("/simulator/time", content='{"paused": false}')).status_code == 401
            assert (await page.get("/simulator/time")).status_code == 401
            wrong = await page.post("/simulator/time", content="{", headers={"Authorization": "Bearer x"})
            assert wrong.status_code == 400
        assert (await simulated.GetReplay(replay_pb2.GetReplayRequest(), context)).paused
    with pytest.raises(ServiceError, match="gives no time: ClientConnectorError"):
        await simulated.GetReplay(replay_pb2.GetReplayRequest(), context)
    await simulated.close()


async def test_the_live_market_says_so_and_refuses() -> None:
    live = control(POLYGON_API_KEY="key")
    context: Any = None
    assert await live.GetReplay(replay_pb2.GetReplayRequest(), context) == replay_pb2.Replay(
        market=replay_pb2.Replay.VENDOR
    )
    with pytest.raises(ServiceError, match="the market is live: its time cannot be changed"):
        await live.UpdateReplay(replay_pb2.UpdateReplayRequest(paused=True), context)
    await live.close()
