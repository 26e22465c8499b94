"""`make bench`: every figure, its unit of work and its peers, printed once measured; all go to build/bench.json."""

import asyncio
import json
from pathlib import Path

import click

from bench.report import Report

PARTS = ("core", "mesh", "ws", "gateway", "attacks", "history", "table", "dashboard")
RESULT = Path("build/bench.json")


def measure(report: Report, part: str, *, small: bool) -> None:
    # Loaded where they are used: the core's benchmark needs no mesh.
    if part == "core":
        from bench import core_bench

        core_bench.measure(report, core_bench.SMALL if small else core_bench.FULL)
    elif part == "mesh":
        from bench import mesh_bench

        asyncio.run(mesh_bench.measure(report, mesh_bench.SMALL if small else mesh_bench.FULL))
    elif part == "ws":
        from bench import ws_bench

        asyncio.run(ws_bench.measure(report, ws_bench.SMALL if small else ws_bench.FULL))
    elif part == "gateway":
        from bench import gateway_bench

        asyncio.run(gateway_bench.measure(report, gateway_bench.SMALL if small else gateway_bench.FULL))
    elif part == "table":
        from bench import table_bench

        table_bench.measure(report, table_bench.SMALL if small else table_bench.FULL)
    elif part == "dashboard":
        from bench import dashboard_bench

        asyncio.run(dashboard_bench.measure(report, dashboard_bench.SMALL if small else dashboard_bench.FULL))
    elif part == "attacks":
        from bench import attack_bench

        asyncio.run(attack_bench.measure(report, attack_bench.SMALL if small else attack_bench.FULL))
    else:
        from bench import history_bench

        asyncio.run(history_bench.measure(report, history_bench.SMALL if small else history_bench.FULL))


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--small", is_flag=True, help="Little work, once: shows that the benchmarks run; no file is written.")
def main(parts: tuple[str, ...], small: bool) -> None:
    """Measure PARTS (all of them by default); the figures of other parts stay in the file."""
    report = Report()
    for part in parts or PARTS:
        with report.part(part):
            measure(report, part, small=small)
        if not small:
            kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
            RESULT.parent.mkdir(exist_ok=True)
            RESULT.write_text(json.dumps(kept | report.figures, indent=2) + "\n")
    report.step(", ".join(f"{part} {seconds:.0f} s" for part, seconds in report.seconds.items()))


if __name__ == "__main__":
    main()
