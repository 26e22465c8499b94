"""`tradeul up --standby` with TRADEUL_STANDBY=sync: the mesh loses its sequencer, and its clients lose nothing."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.health.watcher import SEQUENCER
from services.kit.runtime.clock import monotonic
from tests.support.mesh import Mesh, processes_below

pytestmark = pytest.mark.timeout(300)
SETTINGS = {
    "TRADEUL_SIM_SYMBOLS": "200",
    "TRADEUL_SIM_START": "2026-03-10T10:00:00",
    "TRADEUL_STANDBY": "sync",
    # One that is stopped stays.
    "TRADEUL_HUNG_SECONDS": "0",
}
# Until /health tells of a leader's loss: its lease, and the time between two looks.
TOLD_SECONDS = 6.0
KILLS = 5


class Seen:
    def __init__(self, mesh: Mesh, http: httpx.AsyncClient) -> None:
        self._mesh = mesh
        self._http = http

    async def get(self, path: str) -> dict[str, Any]:
        answer = await self._http.get(path)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def until(self, path: str, is_so: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        deadline = monotonic() + 60
        while not found or not is_so(found):
            if monotonic() > deadline:
                raise TimeoutError(f"after a minute {path} is {found}\n{self._mesh.log_tail()}")
            await asyncio.sleep(0.2)
            try:
                found = await self.get(path)
            except httpx.HTTPError:
                found = {}
        return found

    async def roles(self, *wanted: str) -> dict[str, Any]:
        """Waits until the sequencers have these roles, and nothing is warned of."""
        return await self.until("/health", lambda health: roles(health) == wanted and not health.get("warnings"))

    async def lose(self, address: str) -> None:
        """Kills the first sequencer until the other one leads: it may be back within its lease, and go on leading."""
        for _ in range(KILLS):
            os.kill(self.process(address), signal.SIGKILL)
            await asyncio.sleep(TOLD_SECONDS)
            health = await self.until(
                "/health", lambda health: set(roles(health)) == {"LEADER", "STANDBY"} and not health.get("warnings")
            )
            if roles(health) == ("STANDBY", "LEADER"):
                return
        raise AssertionError(f"the sequencer at {address} was killed {KILLS} times, and led again each time")

    def process(self, address: str) -> int:
        """The sequencer that listens there."""
        (found,) = [
            pid
            for pid in processes_below(self._mesh.process.pid if self._mesh.process is not None else 0)
            if listens(pid, int(address.rpartition(":")[2]))
        ]
        return found


def roles(health: dict[str, Any]) -> tuple[str, ...]:
    return tuple(each.get("role", "") for each in health.get("sequencers", ()))


def lags(health: dict[str, Any]) -> list[float]:
    """Of those that stand by, in seconds."""
    return [each["lag_seconds"] for each in health.get("sequencers", ()) if each.get("role") == "STANDBY"]


def listens(pid: int, port: int) -> bool:
    """True if this process has the listening socket of a port."""
    try:
        lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()]
        names = {os.readlink(each) for each in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False
    listening = (line.split() for line in lines)
    nodes = {words[9] for words in listening if words[3] == "0A" and words[1].endswith(f":{port:04X}")}
    return any(f"socket:[{node}]" in names for node in nodes)


async def test_a_sequencer_that_is_killed_costs_clients_nothing(tmp_path: Path) -> None:
    async with Mesh(tmp_path, SETTINGS, options=("--standby",)) as mesh, httpx.AsyncClient(base_url=mesh.url) as http:
        seen = Seen(mesh, http)
        await seen.roles("LEADER", "STANDBY")
        health = await seen.until("/health", lambda health: [lag < 5 for lag in lags(health)] == [True])
        first, second = health["sequencers"]
        assert first["state"] == second["state"] == "SERVING"
        before = await seen.until("/api/v1/scanner/status", lambda status: status.get("position"))
        await seen.lose(first["address"])
        later = before["position"]["sequence"] + 100
        after = await seen.until(
            "/api/v1/scanner/status", lambda status: status.get("position", {}).get("sequence", 0) > later
        )
        assert after["position"]["epoch"] == before["position"]["epoch"]
        # A standby that hangs is shown, and the mesh goes on.
        stopped = seen.process(first["address"])
        os.kill(stopped, signal.SIGSTOP)
        health = await seen.until("/health", lambda health: roles(health) == ("", "LEADER"))
        assert health["sequencers"][0]["state"] == "UNREACHABLE" and health["services"][SEQUENCER] == "SERVING"
        assert f"data_ingest: the sequencer at {first['address']} is UNREACHABLE" in health["warnings"]
        os.kill(stopped, signal.SIGCONT)
        await seen.roles("STANDBY", "LEADER")
