"""How late a client is while another attacks (docs/security.md, "Nobody holds up the others")."""

import asyncio
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.attacks import ATTACKS, Target, by_a_process
from bench.canary import Canary, watching
from bench.observer import settled
from bench.report import Report
from tests.support.mesh import Mesh


class Size(NamedTuple):
    symbols: int
    seconds: float
    strength: str
    quiet_seconds: float


FULL = Size(symbols=12_000, seconds=20, strength="FULL", quiet_seconds=10)
SMALL = Size(symbols=100, seconds=2, strength="SMALL", quiet_seconds=0)


async def measure(report: Report, size: Size) -> None:
    """Each attack is measured between two quiet times, because the machine is not the same all the time."""
    with tempfile.TemporaryDirectory() as directory:
        report.step("starting the mesh with the simulator")
        environment = {"TRADEUL_SIM_SYMBOLS": str(size.symbols), "TRADEUL_SIM_START": "2025-11-24T09:31"}
        async with Mesh(Path(directory), environment) as mesh:
            if size.quiet_seconds:
                report.step("loading reference data")
                await settled(mesh, size.quiet_seconds)
            target = Target("127.0.0.1", mesh.ports["gateway"])
            async with watching(mesh.address("gateway")) as canary:
                before = await quiet(canary, size.seconds)
                for name in ATTACKS:
                    report.step(name)
                    canary.take_lags()
                    outcome = await by_a_process(name, target, size.strength, size.seconds)
                    during = canary.take_lags()
                    after = await quiet(canary, size.seconds)
                    report.step(f"{name}: {dict(outcome)}")
                    add(report, name, during, before + after)
                    before = after


async def quiet(canary: Canary, seconds: float) -> list[float]:
    """The lags of a quiet time, after a pause in which what was attacked recovers."""
    await asyncio.sleep(seconds / 10)
    canary.take_lags()
    await asyncio.sleep(seconds)
    return canary.take_lags()


def add(report: Report, name: str, during: list[float], quiet_lags: list[float]) -> None:
    """Adds the p99 lag under the attack, beside the one of the quiet times around it."""
    if not during or not quiet_lags:
        raise AssertionError(
            f"{name}: expected updates, was {len(during)} under attack, {len(quiet_lags)} before and after"
        )
    least = min(quiet_lags)
    p99, quiet_p99 = ((float(np.percentile(lags, 99)) - least) * 1e3 for lags in (during, quiet_lags))
    report.add(
        {
            f"attack_{name.replace(' ', '_').lower()}_p99_ms": {
                "value": round(p99, 1),
                "unit": f"ms that updates of a list are later than the quickest, p99 of {len(during)}, under attack",
                "peers": {"quiet": round(quiet_p99, 1)},
            }
        }
    )
