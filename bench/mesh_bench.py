"""The whole mesh on this machine: throughput, latency, and what `make run` costs."""

import asyncio
import json
import statistics
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from tradeul.v1 import scanner_pb2

from bench.observer import CHECKED_SYMBOLS, SETTLE_SECONDS, Observer, observed, settled
from bench.vendor import PROBE_BASE, probe_symbols
from services.kit.runtime.clock import monotonic
from tests.support.mesh import Mesh

BULK = 2_000_000
PACED_SECONDS = 20
WARM_SECONDS = 3
IDLE_SECONDS = 20.0

Figures = dict[str, dict[str, Any]]


class Vendor:
    """The sending process of bench.vendor."""

    def __init__(self, process: asyncio.subprocess.Process, hello: dict[str, Any]) -> None:
        self._process = process
        self.counts: dict[str, int] = hello["counts"]
        self.environment = {
            "POLYGON_API_KEY": "bench",
            "POLYGON_WS_URL": hello["ws_url"],
            "POLYGON_REST_URL": hello["rest_url"],
            "TRADEUL_CLOCK": "feed",
            "TRADEUL_SUBSCRIPTIONS": "T.*",
        }

    async def ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n".encode())
        await self._process.stdin.drain()
        return await read_answer(self._process)


async def read_answer(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError("the benchmark's vendor ended")
    answer: dict[str, Any] = json.loads(line)
    return answer


@asynccontextmanager
async def started_vendor() -> AsyncIterator[Vendor]:
    command = (sys.executable, "-m", "bench.vendor", "--bulk", str(BULK), "--paced-seconds", str(PACED_SECONDS))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=1 << 26)
    try:
        yield Vendor(process, await read_answer(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def throughput(vendor: Vendor, observer: Observer) -> Figures:
    before = observer.mesh.cpu_seconds()
    sent = await vendor.ask("burst")
    await observer.until_applied(BULK)
    seconds = monotonic() - sent["began"]
    await observer.check_counts(vendor.counts)
    used = observer.mesh.cpu_seconds() - before
    return {
        "mesh_events_per_s": {
            "value": round(BULK / seconds),
            "unit": f"trades/s, {BULK:,} sent through WebSocket, sequencer and scanner; none lost, "
            f"counts of {CHECKED_SYMBOLS} symbols checked",
            "peers": {},
            "python_cpu_s_per_million": round(used / BULK * 1e6, 3),
        }
    }


async def latency(vendor: Vendor, observer: Observer) -> Figures:
    """Probe trades among 50,000 a second: from the send to the update that shows the probe's price."""
    seen: dict[float, float] = {}
    probes = set(probe_symbols())
    request = scanner_pb2.WatchScanRequest(filter=f"price >= {PROBE_BASE}", order_by="symbol", limit=100)

    async def watch() -> None:
        async for response in observer.scanner.WatchScan(request):
            now = monotonic()
            for change in response.delta.deltas:
                if change.symbol in probes and change.HasField("data"):
                    seen.setdefault(change.data.price, now)

    watching = asyncio.create_task(watch())
    try:
        result = await vendor.ask(f"pace {PACED_SECONDS}")
        await asyncio.sleep(1)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    first = WARM_SECONDS * len(result["sent"]) // PACED_SECONDS
    delays, missed = [], 0
    for index, sent in enumerate(result["sent"][first:], first):
        arrived = seen.get(PROBE_BASE + (result["first_tick"] + index) / 100)
        if arrived is None:
            missed += 1
        else:
            delays.append((arrived - sent) * 1e3)
    if len(delays) < 100:
        raise AssertionError(f"only {len(delays)} of {len(result['sent'])} probes were seen")
    unit = f"ms from a trade's send to the list update at a gRPC client, 50,000 trades/s, {len(delays)} probes"
    # A probe is overtaken when its symbol's next one comes before a refresh.
    extra = {"overtaken": missed, "max": round(max(delays), 2)}
    return {
        "mesh_latency_p50_ms": {"value": round(statistics.median(delays), 2), "unit": unit, "peers": {}, **extra},
        "mesh_latency_p99_ms": {"value": round(float(np.percentile(delays, 99)), 2), "unit": unit, "peers": {}},
    }


async def feed_figures() -> Figures:
    with tempfile.TemporaryDirectory() as directory:
        async with started_vendor() as vendor, Mesh(Path(directory), vendor.environment) as mesh:
            async with observed(mesh) as observer:
                await loaded(vendor)
                figures = await throughput(vendor, observer)
                return figures | await latency(vendor, observer)


async def loaded(vendor: Vendor) -> None:
    """Waits until every symbol's history has been asked for: the sender answers little REST while it is measured."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while (await vendor.ask("asked"))["share"] < 1:
            await asyncio.sleep(1)


async def run_figures() -> Figures:
    """`tradeul up` with the simulator, as `make run` starts it: time to live lists, and memory."""
    with tempfile.TemporaryDirectory() as directory:
        began = monotonic()
        async with Mesh(Path(directory), {}) as mesh, httpx.AsyncClient() as client:
            while True:
                answer = await client.get(f"{mesh.url}/api/v1/scanner/lists/gappers_up")
                if answer.is_success and answer.json().get("count"):
                    break
                await asyncio.sleep(0.1)
            ready = monotonic() - began
            await settled(mesh)
            resident = mesh.resident_bytes() / 1e6
            each_by_itself = mesh.resident_bytes(shared_once=False) / 1e6
            every_process = mesh.resident_bytes(python_only=False) / 1e6
    return {
        "run_ready_s": {
            "value": round(ready, 1), "unit": "s from the command to a gappers list with rows", "peers": {},
        },
        "run_rss_mb": {
            "value": round(resident), "peers": {},
            "unit": "MB resident, all Python processes, shared pages once, reference data loaded",
            "sum_of_rss": round(each_by_itself), "with_stores_and_envoy": round(every_process),
        },
    }  # fmt: skip


async def idle_figures() -> Figures:
    """The same on a Sunday."""
    with tempfile.TemporaryDirectory() as directory:
        async with Mesh(Path(directory), {"TRADEUL_SIM_START": "2026-03-08T12:00:00"}) as mesh:
            await settled(mesh)
            before = mesh.cpu_seconds()
            await asyncio.sleep(IDLE_SECONDS)
            used = (mesh.cpu_seconds() - before) / IDLE_SECONDS
    return {
        "run_idle_cpu_percent": {
            "value": round(used * 100, 1), "unit": "% of one core, all Python processes, closed market", "peers": {},
        }
    }  # fmt: skip


async def figures() -> Figures:
    return await feed_figures() | await run_figures() | await idle_figures()
