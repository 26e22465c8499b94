"""`make soak`: the mesh for hours at 50,000 trades a second, with 2,000 streams; memory, files and lag, with plots."""

import asyncio
import csv
import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import click
import httpx
import numpy as np

from bench.canary import Canary
from bench.canary import watching as canary_watching
from bench.mesh_bench import FULL, Probes, Vendor, loaded, prices_of, probes_watched, started_vendor
from bench.observer import Observer, observed
from bench.plot import over_time
from bench.scale_mesh import watching
from services.cli.local.embedded import postgres_url
from services.kit.runtime.clock import monotonic
from tests.robustness.faults.rig import MARKET, name_of
from tests.support.mesh import Mesh, memory_bytes, processes_below

# From the time of the first trade, 10:35, to the market's end.
MOST_HOURS: Final = 9.4
CANARY_LIST: Final = "gappers_up"
WEBSOCKETS: Final = 20
# After which all has been written that can be.
STORED_SECONDS: Final = 120.0
# The plot has the processes with the most memory.
PLOTTED: Final = 9
LAGS: Final = ("lag_p50_ms", "lag_p99_ms")
Sample = dict[str, float]


class Load(NamedTuple):
    """What the mesh has to bear. `interval_ms`: between two updates of a watcher over gRPC."""

    symbols: int
    rate: int
    watchers: int
    interval_ms: int


class Soak:
    """A mesh under load, and what observes it."""

    def __init__(self, vendor: Vendor, mesh: Mesh, observer: Observer, probes: Probes, canary: Canary) -> None:
        self.mesh = mesh
        self._vendor = vendor
        self._observer = observer
        self._probes = probes
        self._canary = canary
        # What was wrong on the way.
        self.problems: list[str] = []
        self._watchers: list[Any] = []
        # When the soak began, and the vendor was asked last.
        self._began = self._asked = monotonic()
        self._trades = 0

    async def begin(self, stack: AsyncExitStack, load: Load) -> None:
        """Starts the trades, and then the watchers."""
        await self._vendor.ask(f"endless {load.rate}")
        for kind, count in {"websocket": WEBSOCKETS, "grpc": load.watchers}.items():
            self._watchers.append(await stack.enter_async_context(watching(self.mesh, kind, count, load.interval_ms)))
        self._trades = (await self._vendor.ask("sent"))["trades"]
        self._began = self._asked = monotonic()

    async def sample(self, seconds: float) -> Sample:
        """Waits so long, and returns what was then: the lag of each probe since the last sample, and the processes."""
        before, began = self._trades, self._asked
        await asyncio.sleep(seconds)
        sent = await self._vendor.ask("sent")
        self._trades, self._asked = sent["trades"], monotonic()
        # The newest are on their way.
        await asyncio.sleep(1)
        prices = prices_of(sent, 0)
        lags = [(self._probes.listed[price] - at) * 1e3 for price, at in prices.items() if price in self._probes.listed]
        self._probes.listed.clear()
        self._probes.alerted.clear()
        if not lags:
            # They take longer than a sample does.
            self.problems.append(
                f"no probe came between {began - self._began:.0f} and {monotonic() - self._began:.0f} s"
            )
            lags = [(monotonic() - began) * 1e3]
        p50, p99 = np.percentile(lags, [50, 99])
        delivered = [(await ask("{}"))["updates"] for ask in self._watchers]
        canary_lags = self._canary.take_lags()
        status = await self._observer.sequencer_status()
        return {
            "seconds": round(monotonic() - self._began, 1),
            "trades_per_s": round((self._trades - before) / (self._asked - began)),
            "behind_trades": max(0, self._trades - int(status.trades)),
            "set_aside": sum(status.rejected.values()),
            "lag_p50_ms": round(float(p50), 1), "lag_p99_ms": round(float(p99), 1), "lag_max_ms": round(max(lags), 1),
            "canary_updates": len(canary_lags), "watchers_updates": sum(delivered),
            "is_healthy": await self._is_healthy(),
            **await asyncio.to_thread(processes, self.mesh),
        }  # fmt: skip

    async def end(self) -> Sequence[str]:
        """Stops the trades, all of which the lists and the stored bars must have then; returns what they do not."""
        totals = await self._vendor.ask("stop")
        counts: dict[str, int] = totals["counts"]
        await self._observer.until_applied(sum(counts.values()))
        await self._canary.check()
        await self._observer.check_counts(counts)
        volumes: dict[str, float] = {symbol: volume for symbol, volume in totals["volumes"].items() if volume}
        problems = ["the minute bars were not compared"]
        deadline = monotonic() + STORED_SECONDS
        while problems and monotonic() < deadline:
            await asyncio.sleep(2)
            bars = await self._bars()
            problems = [
                f"{symbol}: expected minute bars of {volume:.0f} shares, was {bars.get(symbol)}"
                for symbol, volume in volumes.items()
                if bars.get(symbol) != volume
            ]
        return problems

    async def _bars(self) -> dict[str, float]:
        connection = await asyncpg.connect(postgres_url(self.mesh.log_path.parent / MARKET), timeout=10)
        try:
            query = "SELECT symbol, sum(volume) AS volume FROM aggregates_1min GROUP BY symbol"
            records = await connection.fetch(query)
        finally:
            await connection.close(timeout=10)
        return {record["symbol"]: record["volume"] for record in records}

    async def _is_healthy(self) -> int:
        async with httpx.AsyncClient(timeout=10) as client:
            try:
                return int((await client.get(f"{self.mesh.url}/health")).is_success)
            except httpx.TransportError:
                return 0


def processes(mesh: Mesh) -> Sample:
    """MB of memory (what is shared counts in part), open files and threads by service, and MB on disk."""
    assert mesh.process is not None
    found: Sample = {}
    for pid in processes_below(mesh.process.pid):
        process = Path(f"/proc/{pid}")
        if not (name := name_of(pid)):
            continue
        try:
            values = {
                "mb": memory_bytes(pid) / 2**20, "files": len(os.listdir(process / "fd")),
                "threads": len(os.listdir(process / "task")),
            }  # fmt: skip
        except OSError:
            continue
        for kind, value in values.items():
            found[f"{name}_{kind}"] = round(found.get(f"{name}_{kind}", 0.0) + value, 1)
    found["disk_mb"] = round(sum(size_of(path) for path in mesh.log_path.parent.rglob("*")) / 1e6, 1)
    return found


def size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


async def soak(
    folder: Path, load: Load, seconds: float, every: float, path: Path
) -> tuple[list[Sample], Sequence[str]]:
    """Writes a line for each sample; returns them, and what was wrong at the end."""
    samples: list[Sample] = []
    size = FULL._replace(symbols=load.symbols, bulk=0, loading_seconds=0, paced_seconds=0)
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(started_vendor(size))
        mesh = await stack.enter_async_context(Mesh(folder, vendor.environment | {"TRADEUL_SUBSCRIPTIONS": "T.*,AM.*"}))
        observer = await stack.enter_async_context(observed(mesh))
        await loaded(vendor, mesh)
        probes = await stack.enter_async_context(probes_watched(observer))
        canary = await stack.enter_async_context(canary_watching(mesh.address("gateway"), CANARY_LIST))
        running = Soak(vendor, mesh, observer, probes, canary)
        await running.begin(stack, load)
        began = monotonic()
        with path.open("w", newline="", encoding="utf-8") as file:
            writer: csv.DictWriter[str] | None = None
            while (passed := monotonic() - began) < seconds:
                samples.append(await running.sample(min(every, max(1.0, seconds - passed))))
                if writer is None:
                    writer = csv.DictWriter(file, list(samples[0]), restval=0.0, extrasaction="ignore")
                    writer.writeheader()
                writer.writerow(samples[-1])
                file.flush()
        return samples, [*running.problems, *await running.end()]


def megabytes(sample: Mapping[str, float]) -> list[str]:
    """The columns of memory, the largest first; what is on disk is none."""
    names = (name for name in sample if name.endswith("_mb") and name != "disk_mb")
    return sorted(names, key=lambda name: -sample[name])


@click.command()
@click.option("--hours", type=click.FloatRange(0.01, MOST_HOURS), default=2.0, show_default=True)
@click.option("--symbols", type=int, default=12_000, show_default=True)
@click.option("--rate", type=int, default=50_000, show_default=True, help="Trades a second.")
@click.option("--watchers", type=int, default=2_000, show_default=True, help="Streams over gRPC.")
@click.option("--interval-ms", type=int, default=5_000, show_default=True, help="Between two updates of a stream.")
@click.option("--every", type=float, default=10.0, show_default=True, help="Seconds between samples.")
@click.option("--csv", "path", type=click.Path(path_type=Path), default=Path("build/soak.csv"), show_default=True)
def main(hours: float, symbols: int, rate: int, watchers: int, interval_ms: int, every: float, path: Path) -> None:
    """Writes a line for each sample, and beside it plots of memory and lag (.svg); exit code 1 if values were wrong."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tradeul-soak-") as folder:
        load = Load(symbols, rate, watchers, interval_ms)
        samples, problems = asyncio.run(soak(Path(folder), load, hours * 3600, every, path))
    panels = {"MB": megabytes(samples[-1])[:PLOTTED], "ms": LAGS}
    path.with_suffix(".svg").write_text(over_time(samples, panels), encoding="utf-8")
    click.echo(f"{len(samples)} samples in {path}")
    first = samples[len(samples) // 10]
    for name in (*megabytes(samples[-1]), "disk_mb"):
        click.echo(f"{name:24} {first.get(name, 0):8.1f} -> {samples[-1][name]:8.1f}")
    for name in LAGS:
        click.echo(f"{name:24} {np.median([each[name] for each in samples]):8.1f} in the median sample")
    if problems:
        raise click.ClickException("; ".join(problems[:5]))


if __name__ == "__main__":
    main()
