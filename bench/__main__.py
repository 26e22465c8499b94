"""`make bench`: every figure, its unit of work and its peers, printed once measured; all go to build/bench.json."""

import asyncio
import importlib
import inspect
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from bench.report import Report
from bench.stored_reference import simulated_mesh

# Loaded where they are used: the core's benchmark needs no mesh.
PARTS: Final = {
    "core": "core_bench",
    "mesh": "mesh_bench",
    "ws": "ws_bench",
    "gateway": "gateway_bench",
    "history": "history_bench",
    "table": "table_bench",
    "memory": "memory_bench",
    "dashboard": "dashboard_bench",
    "attacks": "attack_bench",
}
# They are measured one after the other at one mesh: to start it and to load its reference data takes most of a minute.
SHARING = ("memory", "dashboard", "attacks")
SHARED_SYMBOLS = {"FULL": 12_000, "LONG": 12_000, "SMALL": 600}
SHARED_START = "09:31"
RESULT: Final = Path("build/bench.json")


def measure(report: Report, part: str, size: str) -> None:
    """`size`: FULL, SMALL or LONG; a part that has no LONG is measured in full."""
    module = module_of(part)
    measured = module.measure(report, getattr(module, size, module.FULL))
    if inspect.iscoroutine(measured):
        asyncio.run(measured)


async def measure_sharing(report: Report, parts: Sequence[str], size: str, done: Callable[[], None]) -> None:
    """Measures parts of SHARING; `done` is called after each."""
    async with simulated_mesh(report, SHARED_SYMBOLS[size], SHARED_START) as mesh:
        for part in parts:
            module = module_of(part)
            with report.part(part):
                await module.measure(report, getattr(module, size, module.FULL), mesh)
            done()


def module_of(part: str) -> Any:
    return importlib.import_module(f"bench.{PARTS[part]}")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--small", is_flag=True, help="Little work, once: shows that the benchmarks run; no file is written.")
@click.option(
    "--long",
    "is_long",
    is_flag=True,
    help="Ten minutes of the dashboard, 20 s of each attack, more rounds, longer ones of the mesh.",
)
def main(parts: tuple[str, ...], small: bool, is_long: bool) -> None:
    """Measure PARTS (all of them by default); the figures of other parts stay in the file."""
    report = Report()
    size = "SMALL" if small else "LONG" if is_long else "FULL"
    chosen = parts or tuple(PARTS)

    def write() -> None:
        if not small:
            kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
            RESULT.parent.mkdir(exist_ok=True)
            RESULT.write_text(json.dumps(kept | report.figures, indent=2) + "\n")

    for part in chosen:
        if part not in SHARING:
            with report.part(part):
                measure(report, part, size)
            write()
    if sharing := [part for part in SHARING if part in chosen]:
        with report.part("a mesh for several parts"):
            asyncio.run(measure_sharing(report, sharing, size, write))
    report.step(", ".join(f"{part} {seconds:.0f} s" for part, seconds in report.seconds.items()))


if __name__ == "__main__":
    main()
