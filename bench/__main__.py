"""`make bench`: every figure, its unit of work and its peers, printed once measured; all go to build/bench.json."""

import asyncio
import importlib
import inspect
import json
from pathlib import Path
from typing import Final

import click

from bench.report import Report

# Loaded where they are used: the core's benchmark needs no mesh.
PARTS: Final = {
    "core": "core_bench",
    "mesh": "mesh_bench",
    "ws": "ws_bench",
    "gateway": "gateway_bench",
    "attacks": "attack_bench",
    "history": "history_bench",
    "table": "table_bench",
    "dashboard": "dashboard_bench",
}
RESULT: Final = Path("build/bench.json")


def measure(report: Report, part: str, size: str) -> None:
    """`size`: FULL, SMALL or LONG; a part that has no LONG is measured in full."""
    module = importlib.import_module(f"bench.{PARTS[part]}")
    measured = module.measure(report, getattr(module, size, module.FULL))
    if inspect.iscoroutine(measured):
        asyncio.run(measured)


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--small", is_flag=True, help="Little work, once: shows that the benchmarks run; no file is written.")
@click.option(
    "--long", "is_long", is_flag=True, help="Ten minutes of the dashboard, three rounds of 20 s of each attack."
)
def main(parts: tuple[str, ...], small: bool, is_long: bool) -> None:
    """Measure PARTS (all of them by default); the figures of other parts stay in the file."""
    report = Report()
    for part in parts or PARTS:
        with report.part(part):
            measure(report, part, "SMALL" if small else "LONG" if is_long else "FULL")
        if not small:
            kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
            RESULT.parent.mkdir(exist_ok=True)
            RESULT.write_text(json.dumps(kept | report.figures, indent=2) + "\n")
    report.step(", ".join(f"{part} {seconds:.0f} s" for part, seconds in report.seconds.items()))


if __name__ == "__main__":
    main()
