"""`make bench`: every figure with its unit of work and its peers, printed and written to build/bench.json."""

import asyncio
import json
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

PARTS = ("core", "mesh", "ws", "doors", "history")
RESULT = Path("build/bench.json")


def measure(parts: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    figures: dict[str, dict[str, Any]] = {}
    # Loaded where they are wanted: the core's benchmark needs no mesh.
    if "core" in parts:
        from bench import core_bench

        figures |= core_bench.figures()
    if "mesh" in parts:
        from bench import mesh_bench

        figures |= asyncio.run(mesh_bench.figures())
    if "ws" in parts:
        from bench import ws_bench

        figures |= asyncio.run(ws_bench.figures())
    if "doors" in parts:
        from bench import doors_bench

        figures |= asyncio.run(doors_bench.figures())
    if "history" in parts:
        from bench import history_bench

        figures |= asyncio.run(history_bench.figures())
    return figures


def show(figures: dict[str, dict[str, Any]]) -> None:
    table = Table("figure", "value", "peers", "unit of work")
    for name, figure in figures.items():
        peers = ", ".join(f"{peer} {value:,}" for peer, value in figure["peers"].items())
        table.add_row(name, f"{figure['value']:,}", peers, figure["unit"])
    Console().print(table)


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
def main(parts: tuple[str, ...]) -> None:
    """Measure PARTS (all of them by default); the figures of other parts stay in the file."""
    figures = measure(parts or PARTS)
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(kept | figures, indent=2) + "\n")
    show(figures)


if __name__ == "__main__":
    main()
