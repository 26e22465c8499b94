"""`make bench-scale`: each cost against growth, as a table and as plots, in build/scale.md, .svg and .json.

PARTS=`symbols trades scans` take two minutes, `rates watchers` start meshes and take five.
"""

import asyncio
import json
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click

from bench import scale_core, scale_mesh
from bench.plot import Plot, svg
from bench.report import Report
from bench.scale_core import Cost, measured

FOLDER: Final = Path("build")
FULL_MESH: Final = scale_mesh.Size(
    symbols=3_000,
    bulk=2_000_000,
    seconds=6,
    rates=scale_mesh.RATES,
    watchers={"websocket": scale_mesh.WEBSOCKETS, "grpc": scale_mesh.STREAMS},
)
SMALL_MESH: Final = scale_mesh.Size(
    symbols=300, bulk=50_000, seconds=2, rates=(10_000, 20_000), watchers={"websocket": (2, 20), "grpc": (2, 10)}
)
SMALL_CORE: Final = scale_core.Size(symbols=300, rows_between=100, refreshes=20, batches=10)

Rows = list[dict[str, Any]]


def symbols(report: Report, small: bool) -> Rows:
    """The core's figures by symbols."""
    sizes = (300, 600) if small else scale_core.SYMBOLS
    return [_core_row(report, "symbols", size, _size(small)._replace(symbols=size)) for size in sizes]


def trades(report: Report, small: bool) -> Rows:
    """A refresh by the trades since the one before."""
    sizes = (10, 100) if small else scale_core.TRADES
    return [_core_row(report, "trades", size, _size(small)._replace(rows_between=size)) for size in sizes]


def scans(report: Report, small: bool) -> Rows:
    """A refresh by the custom scans beside the built-in lists."""
    sizes = (0, 5) if small else scale_core.SCANS
    return [_core_row(report, "scans", size, _size(small)._replace(scans=size)) for size in sizes]


def rates(report: Report, small: bool) -> Rows:
    """The whole mesh's latency by trades a second, and the most that it takes."""
    size = SMALL_MESH if small else FULL_MESH
    delays, most = asyncio.run(scale_mesh.measure_rates(report, size))
    rows: Rows = [{"trades_per_s": rate, **each._asdict()} for rate, each in delays.items()]
    return [*rows, {"trades_per_s": most, "p50_ms": None, "p99_ms": None, "seen": 0}]


def watchers(report: Report, small: bool) -> Rows:
    """What watchers get and cost, by how many there are."""
    size = SMALL_MESH if small else FULL_MESH
    return [
        {
            "kind": kind,
            "watchers": each.watchers,
            "p50_ms": each.updates.p50_ms,
            "p99_ms": each.updates.p99_ms,
            "cpu_percent": each.cpu_percent,
            "kb_per_watcher": each.kb_per_watcher,
            "under_load_p50_ms": each.under_load.p50_ms,
            "under_load_p99_ms": each.under_load.p99_ms,
        }
        for kind, found in asyncio.run(scale_mesh.measure_watchers(report, size)).items()
        for each in found
    ]


PARTS: Final[Mapping[str, Callable[[Report, bool], Rows]]] = {
    "symbols": symbols,
    "trades": trades,
    "scans": scans,
    "rates": rates,
    "watchers": watchers,
}
TITLES: Final = {
    "symbols": "Symbols: the core on one processor, 1,000 trades between two refreshes",
    "trades": "Trades between two refreshes, 12,000 symbols",
    "scans": "Custom scans beside the built-in lists, 12,000 symbols, 1,000 trades between two refreshes",
    "rates": "Trades a second through the whole mesh, to a gRPC client's update, ms",
    "watchers": "Watchers of one list: 4 updates a second; and one client among 50,000 trades/s meanwhile",
}


def _size(small: bool) -> scale_core.Size:
    return SMALL_CORE if small else scale_core.Size()


def _core_row(report: Report, name: str, value: int, size: scale_core.Size) -> dict[str, Any]:
    cost: Cost = measured(size)
    report.step(
        f"{value:,} {name}: {cost.apply_per_s:,} trades/s, a refresh {cost.refresh_ms} ms (p99 {cost.refresh_p99_ms}), "
        f"{cost.memory_mb} MB"
    )
    return {name: value, **cost._asdict()}


def table(rows: Rows) -> str:
    """The rows as Markdown."""
    names = list(rows[0])
    lines = [names, ["---"] * len(names)]
    lines += [["-" if row[name] is None else _shown(row[name]) for name in names] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:,}"


def plots(found: Mapping[str, Rows]) -> list[Plot]:
    """The plots of the parts that were measured."""

    def line(rows: Rows, x: str, y: str) -> list[tuple[float, float]]:
        return [(row[x], row[y]) for row in rows if row[y] is not None]

    drawn: list[Plot] = []
    if rows := found.get("symbols"):
        drawn += [
            Plot("trades/s applied by the core", "symbols", {"": line(rows, "symbols", "apply_per_s")}),
            Plot("refresh of all lists, ms", "symbols", {"": line(rows, "symbols", "refresh_ms")}),
            Plot("memory of a market, MB", "symbols", {"": line(rows, "symbols", "memory_mb")}),
        ]
    for name, growth in (("trades", "trades between two refreshes"), ("scans", "custom scans")):
        if rows := found.get(name):
            drawn.append(Plot("refresh of all lists, ms", growth, {"": line(rows, name, "refresh_ms")}))
    if rows := found.get("rates"):
        lines = {each: line(rows, "trades_per_s", f"{each}_ms") for each in ("p50", "p99")}
        drawn.append(Plot("trade to update, ms", "trades/s", lines))
    if rows := found.get("watchers"):
        kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in ("websocket", "grpc")}
        for title, column in (
            ("update to watcher, p99 ms", "p99_ms"),
            ("processor of the server, %", "cpu_percent"),
            ("one client at 50,000 trades/s, p99 ms", "under_load_p99_ms"),
        ):
            lines = {kind: line(each, "watchers", column) for kind, each in kinds.items()}
            drawn.append(Plot(title, "watchers", lines))
    return drawn


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--small", is_flag=True, help="Tiny sizes: shows that it works; no file is written.")
def main(parts: Sequence[str], small: bool) -> None:
    """Measure PARTS, all of them by default; what was measured of other parts stays in the files."""
    report = Report()
    result = FOLDER / "scale.json"
    found: dict[str, Rows] = json.loads(result.read_text()) if result.exists() and not small else {}
    for part in parts or PARTS:
        with report.part(part):
            found[part] = PARTS[part](report, small)
        click.echo(f"\n{TITLES[part]}\n\n{table(found[part])}\n")
        if not small:
            write(result, found)
    if small:
        svg(plots(found))


def write(result: Path, found: Mapping[str, Rows]) -> None:
    """Writes all that was measured so far."""
    result.parent.mkdir(exist_ok=True)
    result.write_text(json.dumps(found, indent=1) + "\n")
    machine = f"{platform.machine()}, {platform.system()} {platform.release()}"
    sections = [f"{TITLES[name]}\n\n{table(found[name])}\n" for name in PARTS if name in found]
    result.with_suffix(".md").write_text("\n".join([f"Measured on {machine}.\n", *sections]))
    result.with_suffix(".svg").write_text(svg(plots(found)))


if __name__ == "__main__":
    main()
