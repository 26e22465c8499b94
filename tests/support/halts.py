"""The simulator's time, and the halts that it has planned, so that a test can move its market to one."""

import asyncio
from typing import Any, NamedTuple

import httpx

from services.kit.runtime.clock import NS_PER_SECOND, new_york_time
from services.kit.runtime.settings import Settings
from services.simulator.market import Market
from tests.support.mesh import Mesh

MINUTE_NS = 60 * NS_PER_SECOND
JUMP_SECONDS = 90


class PlannedHalt(NamedTuple):
    """No trade from `begins_ns` to `ends_ns`; the end is announced two minutes before it at the latest."""

    begins_ns: int
    ends_ns: int


def halts_of(mesh: Mesh) -> list[PlannedHalt]:
    """Returns the day's halts, the first one first."""
    market = Market(Settings.load(mesh.environment).sim)
    return sorted(
        PlannedHalt(market.day.minute_ns(halt.first), market.day.minute_ns(halt.last))
        for halts in market.market_day.halts.values()
        for halt in halts
    )


async def change_time(mesh: Mesh, **change: Any) -> dict[str, Any]:
    """Changes the market's pace or time; returns its state after the jump, if there is one."""
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client, asyncio.timeout(JUMP_SECONDS):
        state = (await client.post("/api/v1/replay", json=change)).raise_for_status().json()
        while state.get("jumping_to"):
            await asyncio.sleep(0.1)
            state = (await client.get("/api/v1/replay")).json()
    return dict(state)


async def jump(mesh: Mesh, time_ns: int) -> None:
    """Moves the market ahead to a time."""
    await change_time(mesh, jump_to=f"{new_york_time(time_ns):%H:%M:%S}")
