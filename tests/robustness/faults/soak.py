"""`python -m tests.robustness.faults.soak`: the mesh for hours without faults; memory, files and lag, with a plot."""

import asyncio
import csv
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import click

from services.kit.runtime.clock import monotonic
from tests.robustness.faults.checks import compare_copies, compare_truth, stop_at_full
from tests.robustness.faults.monitor import Monitor
from tests.robustness.faults.rig import SPEED, Rig, running_rig
from tests.support.mesh_view import mesh_view

# The market begins at 10:00 and ends at 20:00.
MOST_HOURS: Final = 9.5 / SPEED
COLORS: Final = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#17becf")
WIDTH, HEIGHT, LEGEND = 900, 360, 200
Sample = dict[str, float]


@click.command()
@click.option("--hours", type=click.FloatRange(0.01, MOST_HOURS), default=2.0, show_default=True)
@click.option("--every", type=float, default=10.0, show_default=True, help="Seconds between samples.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--csv", "path", type=click.Path(path_type=Path), default=Path("build/soak.csv"), show_default=True)
def main(hours: float, every: float, seed: int, path: Path) -> None:
    """Writes a line for each sample, and beside it a plot of the memory (.svg); exit code 1 if values were wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tradeul-soak-") as folder:
        samples, problems = asyncio.run(soak(Path(folder), hours * 3600, every, seed, path))
    path.with_suffix(".svg").write_text(plot(samples), encoding="utf-8")
    click.echo(f"{len(samples)} samples in {path}")
    for name in memory_of(samples[-1]):
        click.echo(f"{name:24} {samples[0].get(name, 0):8.1f} -> {samples[-1][name]:8.1f}")
    if problems:
        raise click.ClickException("; ".join(problems[:5]))


async def soak(folder: Path, seconds: float, every: float, seed: int, path: Path) -> tuple[list[Sample], Sequence[str]]:
    """Returns the samples, and what was wrong at the end."""
    samples: list[Sample] = []
    async with running_rig(seed, folder) as rig:
        monitor = Monitor(rig)
        rig.tasks.append(asyncio.create_task(monitor.run()))
        began = monotonic()
        with path.open("w", newline="", encoding="utf-8") as file:
            writer: csv.DictWriter[str] | None = None
            while (passed := monotonic() - began) < seconds:
                await asyncio.sleep(every)
                rig.check_tasks()
                # There is no twin that would take them.
                rig.feed.unchecked.clear()
                samples.append({"seconds": round(passed, 1), **await asyncio.to_thread(sample, rig), **wrong(monitor)})
                if writer is None:
                    writer = csv.DictWriter(file, list(samples[0]), restval=0.0, extrasaction="ignore")
                    writer.writeheader()
                writer.writerow(samples[-1])
                file.flush()
        async with mesh_view(rig.mesh) as view:
            await stop_at_full(rig, view)
            problems = await compare_copies(rig, view) + compare_truth(rig, (await view.rows("filtered")).rows)
        return samples, problems + rig.ledger.take()[1]


def wrong(monitor: Monitor) -> Sample:
    """Seconds so far of what Monitor names."""
    return {f"wrong_{kind}": round(monitor.wrong[kind], 1) for kind in ("gateway", "health", "late", "values", "fell")}


def sample(rig: Rig) -> Sample:
    """MB of memory (what is shared counts in part), open files and threads by service, and MB on disk."""
    found: Sample = {}
    for pid, name in sorted(rig.running().items(), key=lambda item: item[1]):
        process = Path(f"/proc/{pid}")
        try:
            lines = (process / "smaps_rollup").read_text().splitlines()
            kilobytes = sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            values = {
                "mb": kilobytes / 1024, "files": len(os.listdir(process / "fd")),
                "threads": len(os.listdir(process / "task")),
            }  # fmt: skip
        except OSError:
            continue
        for kind, value in values.items():
            found[f"{name}_{kind}"] = round(found.get(f"{name}_{kind}", 0.0) + value, 1)
    found["disk_mb"] = round(sum(size_of(path) for path in rig.data_dir.rglob("*")) / 1e6, 1)
    return found


def size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def memory_of(sample: Mapping[str, float]) -> list[str]:
    """The columns of memory, the largest first."""
    return sorted((name for name in sample if name.endswith("_mb")), key=lambda name: -sample[name])


def plot(samples: Sequence[Sample]) -> str:
    """Memory over time as SVG."""
    names = memory_of(samples[-1])[: len(COLORS)]
    longest = max(samples[-1]["seconds"], 1.0)
    most = max(max(each.get(name, 0.0) for name in names) for each in samples)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEGEND}" height="{HEIGHT}" font-size="12">']
    parts.append(f'<text x="4" y="12">{most:.0f} MB, {longest / 3600:.2f} h</text>')
    for index, (name, color) in enumerate(zip(names, COLORS, strict=False)):
        points = " ".join(
            f"{each['seconds'] / longest * WIDTH:.1f},{HEIGHT - each.get(name, 0.0) / most * (HEIGHT - 20):.1f}"
            for each in samples
        )
        parts.append(f'<polyline fill="none" stroke="{color}" points="{points}"/>')
        parts.append(f'<text x="{WIDTH + 8}" y="{20 + 16 * index}" fill="{color}">{name}</text>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    main()
