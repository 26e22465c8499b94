"""What the whole mesh does as the trades a second and the watchers grow: one mesh, and a vendor that sets the pace."""

import asyncio
import json
import math
import os
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from bench.mesh_bench import Probes, Vendor, loaded, paced, prices_of, probes_watched, started_vendor
from bench.mesh_bench import Size as MeshSize
from bench.observer import Observer, observed
from bench.report import Report
from services.kit.runtime.clock import monotonic
from tests.support.mesh import Mesh, service_pids

RATES: Final = (10_000, 25_000, 50_000, 100_000, 200_000)
WEBSOCKETS: Final = (10, 100, 1_000, 10_000)
STREAMS: Final = (10, 100, 1_000, 2_000)
# Probes a second, each an update of the list that is watched.
UPDATES_PER_S: Final = 4
LOADED_PER_S: Final = 50_000
WARM_SHARE: Final = 0.2
READY_SECONDS: Final = 180.0
# The services that serve watchers, by kind. Envoy is none of them: WebSocket clients come to the server's own port.
SERVERS: Final = {"websocket": "websocket_server", "grpc": "scanner"}


class Size(NamedTuple):
    symbols: int
    bulk: int
    seconds: int
    rates: tuple[int, ...]
    watchers: Mapping[str, tuple[int, ...]]

    def vendor(self, trades_per_s: tuple[int, ...]) -> MeshSize:
        """A vendor with as many trades as all turns take."""
        paced_seconds = sum(trades_per_s) * self.seconds / LOADED_PER_S
        return MeshSize(self.symbols, self.bulk, 0, math.ceil(paced_seconds), 0, 0, 0, 0, 0)


class Delays(NamedTuple):
    """Milliseconds from a trade's send, and how many came."""

    p50_ms: float
    p99_ms: float
    seen: int


class Watched(NamedTuple):
    """What so many watchers got at four updates a second, and what the server spent on them."""

    watchers: int
    updates: Delays
    cpu_percent: float
    kb_per_watcher: float
    # A single client's delays among 50,000 trades a second, while all of them get as many updates.
    under_load: Delays


@asynccontextmanager
async def running(size: Size, trades_per_s: tuple[int, ...]) -> AsyncIterator[tuple[Vendor, Observer, Probes]]:
    with tempfile.TemporaryDirectory() as directory:
        async with (
            started_vendor(size.vendor(trades_per_s)) as vendor,
            Mesh(Path(directory), vendor.environment) as mesh,
            observed(mesh) as observer,
            probes_watched(observer) as probes,
        ):
            await loaded(vendor, observer.mesh)
            yield vendor, observer, probes


def delays_of(sent: Mapping[float, float], arrived: Mapping[float, float]) -> Delays:
    delays = [(arrived[price] - at) * 1e3 for price, at in sent.items() if price in arrived]
    if not delays:
        raise AssertionError(f"none of {len(sent)} probes was seen")
    p50, p99 = np.percentile(delays, [50, 99])
    return Delays(round(float(p50), 2), round(float(p99), 2), len(delays))


async def measure_rates(report: Report, size: Size) -> tuple[dict[int, Delays], int]:
    """The delays by trades a second, and the most that pass when all are sent at once."""
    found = {}
    report.step(f"starting a mesh for {', '.join(f'{rate:,}' for rate in size.rates)} trades/s and all at once")
    async with running(size, size.rates) as (vendor, observer, probes):
        trades = int((await observer.sequencer_status()).trades)
        sent = await vendor.ask("burst")
        await observer.until_applied(trades + size.bulk)
        took = monotonic() - sent["began"]
        for rate in size.rates:
            prices = await paced(vendor, probes, f"pace loaded {size.seconds} {rate}", WARM_SHARE)
            found[rate] = delays_of(prices, probes.listed)
            report.step(f"{rate:,} trades/s: {found[rate].p50_ms}, {found[rate].p99_ms} ms")
    return found, round(size.bulk / took)


async def measure_watchers(report: Report, size: Size) -> dict[str, list[Watched]]:
    found: dict[str, list[Watched]] = {}
    turns = sum(map(len, size.watchers.values()))
    report.step("starting a mesh for watchers")
    async with running(size, (LOADED_PER_S,) * turns) as (vendor, observer, probes):
        # The list has its rows before anybody watches it.
        await vendor.ask("probes 2 20")
        for kind, counts in size.watchers.items():
            found[kind] = []
            for count in counts:
                watched = await measure_some(vendor, observer, probes, kind, count, size.seconds)
                found[kind].append(watched)
                report.step(
                    f"{count:,} watchers over {kind}: {watched.updates.p50_ms}, {watched.updates.p99_ms} ms, "
                    f"{watched.cpu_percent} % of a core, {watched.kb_per_watcher} KB each; one client among 50,000 "
                    f"trades/s {watched.under_load.p50_ms}, {watched.under_load.p99_ms} ms"
                )
    return found


async def measure_some(
    vendor: Vendor, observer: Observer, probes: Probes, kind: str, count: int, seconds: int
) -> Watched:
    mesh = observer.mesh
    assert mesh.process is not None
    (server,) = service_pids(mesh.process.pid, SERVERS[kind])
    before = resident_bytes(server)
    async with watching(mesh, kind, count) as clients:
        used = cpu_seconds(server)
        result = await vendor.ask(f"probes {seconds} {UPDATES_PER_S}")
        await asyncio.sleep(1)
        took = cpu_seconds(server) - used
        held = resident_bytes(server) - before
        sent = prices_of(result, 0)
        answer = await clients(json.dumps(sent))
        if answer["delivered"] != count * len(sent):
            raise AssertionError(f"expected {count * len(sent)} updates, was {answer['delivered']}: {answer}")
    # Of a list that changes two hundred times a second they want no more than before.
    async with watching(mesh, kind, count, 1000 // UPDATES_PER_S):
        prices = await paced(vendor, probes, f"pace loaded {seconds} {LOADED_PER_S}", WARM_SHARE)
        under_load = delays_of(prices, probes.listed)
    return Watched(
        count,
        Delays(round(answer["p50_ms"], 2), round(answer["p99_ms"], 2), answer["delivered"]),
        round(took / seconds * 100, 1),
        round(held / count / 1024, 1),
        under_load,
    )


@asynccontextmanager
async def watching(mesh: Mesh, kind: str, count: int, interval_ms: int = 0) -> AsyncIterator[Any]:
    """Starts the watchers' process; yields what asks it for its delays."""
    target = str(mesh.ports["websocket_server"]) if kind == "websocket" else mesh.address("gateway")
    command = (sys.executable, "-m", "bench.watchers", kind, target, str(count), str(interval_ms))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=1 << 26)
    assert process.stdin is not None and process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def read() -> Any:
        async with asyncio.timeout(READY_SECONDS):
            line = await stdout.readline()
        if not line:
            raise RuntimeError("the watchers ended")
        return json.loads(line)

    async def ask(line: str) -> Any:
        stdin.write(f"{line}\n".encode())
        await stdin.drain()
        return await read()

    try:
        await read()
        yield ask
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
