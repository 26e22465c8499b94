"""How late a client is while another attacks (docs/security.md, "Nobody holds up the others").

As a module of its own it measures a mesh that is running already, and only some attacks:
`python -m bench.attack_bench 127.0.0.1:8000 --attack "costly scans" --rounds 5`.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import click
import numpy as np
import numpy.typing as npt

from bench.attacks import ATTACKS, Target, by_a_process
from bench.canary import Canary, watching
from bench.report import Report
from tests.support.mesh import Mesh

Lags = npt.NDArray[np.float64]


class Size(NamedTuple):
    seconds: float
    strength: str
    rounds: int


class Round(NamedTuple):
    """The lags under one attack, and in the quiet times before and after it, in ms above the least of those."""

    under_attack: Lags
    quiet: Lags

    @property
    def ratio(self) -> float:
        return p99(self.under_attack) / p99(self.quiet)


FULL = Size(seconds=3, strength="FULL", rounds=1)
LONG = Size(seconds=20, strength="FULL", rounds=3)
SMALL = Size(seconds=1, strength="SMALL", rounds=1)


async def measure(report: Report, size: Size, mesh: Mesh) -> None:
    await measure_gateway(report, mesh.address("gateway"), list(ATTACKS), size)


async def measure_gateway(report: Report, address: str, names: Sequence[str], size: Size) -> None:
    """Each attack is measured between two quiet times, because the machine is not the same all the time.

    All attacks take turns, and come as often as there are rounds.
    """
    host, _, port = address.rpartition(":")
    target = Target(host, int(port))
    rounds: dict[str, list[Round]] = {name: [] for name in names}
    async with watching(address) as canary:
        before = await quiet(canary, size.seconds)
        for _ in range(size.rounds):
            for name in names:
                canary.take_lags()
                outcome = await by_a_process(name, target, size.strength, size.seconds)
                during = canary.take_lags()
                after = await quiet(canary, size.seconds)
                rounds[name].append(compared(name, during, before + after))
                last = rounds[name][-1]
                lags = f"{p99(last.under_attack):.1f} ms, quiet {p99(last.quiet):.1f}"
                report.step(f"{name}: {lags}; {dict(outcome)}")
                before = after
    for name, measured in rounds.items():
        add(report, name, measured)


async def quiet(canary: Canary, seconds: float) -> list[float]:
    """The lags of a quiet time, after a pause in which what was attacked recovers."""
    await asyncio.sleep(seconds / 10)
    canary.take_lags()
    await asyncio.sleep(seconds)
    return canary.take_lags()


def compared(name: str, during: list[float], quiet_lags: list[float]) -> Round:
    if not during or not quiet_lags:
        raise AssertionError(
            f"{name}: expected updates, was {len(during)} under attack, {len(quiet_lags)} before and after"
        )
    least = min(quiet_lags)
    return Round(*((np.asarray(lags) - least) * 1e3 for lags in (during, quiet_lags)))


def p99(lags: Lags) -> float:
    return float(np.percentile(lags, 99))


def add(report: Report, name: str, rounds: Sequence[Round]) -> None:
    """Adds the p99 of all rounds together: that of a single one is the fourth latest of some hundred updates."""
    under_attack = np.concatenate([each.under_attack for each in rounds])
    quiet_lags = np.concatenate([each.quiet for each in rounds])
    report.add(
        {
            f"attack_{name.replace(' ', '_').lower()}_p99_ms": {
                "value": round(p99(under_attack), 1),
                "unit": f"ms that updates of a list are later than the quickest, p99 of {len(under_attack)}; "
                f"ratios of single rounds: {', '.join(f'{each.ratio:.2f}' for each in rounds)}",
                "peers": {
                    "quiet": round(p99(quiet_lags), 1),
                    "ratio": round(p99(under_attack) / p99(quiet_lags), 2),
                },
            }
        }
    )


@click.command()
@click.argument("gateway")
@click.option("--attack", "names", multiple=True, type=click.Choice(list(ATTACKS)), help="All of them by default.")
@click.option("--rounds", default=LONG.rounds)
@click.option("--seconds", default=LONG.seconds)
def main(gateway: str, names: tuple[str, ...], rounds: int, seconds: float) -> None:
    """Measure the mesh behind GATEWAY, HOST:PORT; no file is written."""
    size = FULL._replace(rounds=rounds, seconds=seconds)
    asyncio.run(measure_gateway(Report(), gateway, names or list(ATTACKS), size))


if __name__ == "__main__":
    main()
