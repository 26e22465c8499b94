"""The whole mesh on this machine: throughput, latency, and what `make run` costs."""

import asyncio
import json
import statistics
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from tradeul.v1 import alerts_pb2, scanner_pb2

from bench.observer import (
    CHECKED_SYMBOLS,
    DETAILS_AT_ONCE,
    SETTLE_SECONDS,
    SETTLED_FOR_SECONDS,
    Observer,
    observed,
    settled,
)
from bench.report import Figures, Report
from bench.vendor import PROBE_BASE, probe_symbols
from services.kit.runtime.clock import monotonic
from tests.support.mesh import Mesh

# Prices of probes only rise.
PROBE_RULE = {"name": "probe", "title": "A probe", "when": "grows(price)", "where": f"price >= {PROBE_BASE}"}


class Size(NamedTuple):
    symbols: int
    bulk: int
    paced_seconds: int
    warm_seconds: int
    idle_seconds: float
    simulated_symbols: int
    quiet_seconds: float

    def simulated(self) -> dict[str, str]:
        """Settings of a mesh with the simulator."""
        return {"TRADEUL_SIM_SYMBOLS": str(self.simulated_symbols), **DETAILS_AT_ONCE}


FULL = Size(
    symbols=12_000,
    bulk=2_000_000,
    paced_seconds=20,
    warm_seconds=3,
    idle_seconds=20,
    simulated_symbols=12_000,
    quiet_seconds=SETTLED_FOR_SECONDS,
)
SMALL = Size(
    symbols=600, bulk=50_000, paced_seconds=4, warm_seconds=1, idle_seconds=3, simulated_symbols=100, quiet_seconds=3
)


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
async def started_vendor(size: Size) -> AsyncIterator[Vendor]:
    command = (
        *(sys.executable, "-m", "bench.vendor", "--symbols", str(size.symbols)),
        *("--bulk", str(size.bulk), "--paced-seconds", str(size.paced_seconds)),
    )
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=1 << 26)
    try:
        yield Vendor(process, await read_answer(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def throughput(vendor: Vendor, observer: Observer, size: Size) -> Figures:
    before = observer.mesh.cpu_seconds()
    sent = await vendor.ask("burst")
    await observer.until_applied(size.bulk)
    seconds = monotonic() - sent["began"]
    await observer.check_counts(vendor.counts)
    used = observer.mesh.cpu_seconds() - before
    return {
        "mesh_events_per_s": {
            "value": round(size.bulk / seconds),
            "unit": f"trades/s, {size.bulk:,} sent through WebSocket, sequencer and scanner; none lost, "
            f"counts of {CHECKED_SYMBOLS} symbols checked",
            "peers": {},
            "python_cpu_s_per_million": round(used / size.bulk * 1e6, 3),
        }
    }


async def latency(vendor: Vendor, observer: Observer, size: Size) -> Figures:
    """Probe trades among 50,000 a second: from the send to the update with the probe's price, and to its alert."""
    listed: dict[float, float] = {}
    alerted: dict[float, float] = {}
    probes = set(probe_symbols())
    request = scanner_pb2.WatchScanRequest(filter=f"price >= {PROBE_BASE}", order_by="symbol", limit=100)

    async def watch() -> None:
        async for response in observer.scanner.WatchScan(request):
            now = monotonic()
            for change in response.delta.deltas:
                if change.symbol in probes and change.HasField("data"):
                    listed.setdefault(change.data.price, now)

    async def watch_alerts() -> None:
        async for response in observer.alerts.WatchAlerts(alerts_pb2.WatchAlertsRequest(rules=PROBE_RULE["name"])):
            if response.HasField("alert"):
                alerted.setdefault(response.alert.row.price, monotonic())

    await add_probe_rule(observer)
    watching = [asyncio.create_task(watch()), asyncio.create_task(watch_alerts())]
    try:
        result = await vendor.ask(f"pace {size.paced_seconds}")
        await asyncio.sleep(1)
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
    first = size.warm_seconds * len(result["sent"]) // size.paced_seconds
    prices = {
        PROBE_BASE + (result["first_tick"] + index) / 100: sent
        for index, sent in enumerate(result["sent"][first:], first)
    }
    return {
        **delay_figures("mesh_latency", "the list update", prices, listed),
        **delay_figures("alert_latency", "the alert", prices, alerted),
    }


async def add_probe_rule(observer: Observer) -> None:
    """Creates a rule that every probe's next price is an alert of, and waits until it is in force."""
    async with httpx.AsyncClient(base_url=observer.mesh.url, timeout=20) as client:
        answer = await client.post("/api/v1/alerts/rules", json={"rule": PROBE_RULE})
        answer.raise_for_status()
        async with asyncio.timeout(20):
            while PROBE_RULE["name"] not in (await client.get("/api/v1/alerts/rules")).text:
                await asyncio.sleep(0.1)


def delay_figures(name: str, what: str, sent: Mapping[float, float], arrived: Mapping[float, float]) -> Figures:
    """The median and the 99th percentile from the sending of each price to its arrival, ms."""
    delays = [(arrived[price] - began) * 1e3 for price, began in sent.items() if price in arrived]
    if len(delays) < 100:
        raise AssertionError(f"only {len(delays)} of {len(sent)} probes were seen in {what}")
    unit = f"ms from a trade's send to {what} at a gRPC client, 50,000 trades/s, {len(delays)} probes"
    # A probe is overtaken when its symbol's next one comes before a refresh.
    extra = {"overtaken": len(sent) - len(delays), "max": round(max(delays), 2)}
    return {
        f"{name}_p50_ms": {"value": round(statistics.median(delays), 2), "unit": unit, "peers": {}, **extra},
        f"{name}_p99_ms": {"value": round(float(np.percentile(delays, 99)), 2), "unit": unit, "peers": {}},
    }


async def feed_figures(report: Report, size: Size) -> None:
    report.step(f"encoding {size.bulk:,} trades")
    with tempfile.TemporaryDirectory() as directory:
        async with started_vendor(size) as vendor:
            report.step("starting the mesh")
            async with Mesh(Path(directory), vendor.environment) as mesh, observed(mesh) as observer:
                report.step(f"loading the history of {size.symbols:,} symbols")
                await loaded(vendor)
                report.step("sending all trades at once")
                report.add(await throughput(vendor, observer, size))
                report.step(f"sending 50,000 trades/s for {size.paced_seconds} s")
                report.add(await latency(vendor, observer, size))


async def loaded(vendor: Vendor) -> None:
    """Waits until every symbol's history has been requested, so that little REST is served while it is measured."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while (await vendor.ask("requested"))["share"] < 1:
            await asyncio.sleep(1)


async def run_figures(report: Report, size: Size) -> None:
    """`tradeul up` with the simulator, as `make run` starts it: time to live lists, and memory."""
    with tempfile.TemporaryDirectory() as directory:
        began = monotonic()
        report.step("starting the mesh with the simulator")
        async with Mesh(Path(directory), size.simulated()) as mesh, httpx.AsyncClient() as client:
            while True:
                answer = await client.get(f"{mesh.url}/api/v1/scanner/lists/gappers_up")
                if answer.is_success and answer.json().get("count"):
                    break
                await asyncio.sleep(0.1)
            ready = monotonic() - began
            unit = "s from the command to a gappers list with rows"
            report.add({"run_ready_s": {"value": round(ready, 1), "unit": unit, "peers": {}}})
            report.step("waiting until reference data are loaded")
            await settled(mesh, size.quiet_seconds)
            resident = mesh.resident_bytes() / 1e6
            each_by_itself = mesh.resident_bytes(shared_once=False) / 1e6
            every_process = mesh.resident_bytes(python_only=False) / 1e6
    figure = {
        "value": round(resident),
        "unit": "MB resident, all Python processes, shared pages once, reference data loaded",
        "peers": {},
        "sum_of_rss": round(each_by_itself),
        "with_stores_and_envoy": round(every_process),
    }
    report.add({"run_rss_mb": figure})


async def idle_figures(report: Report, size: Size) -> None:
    """The same on a Sunday."""
    with tempfile.TemporaryDirectory() as directory:
        report.step("starting the mesh on a Sunday")
        async with Mesh(Path(directory), {**size.simulated(), "TRADEUL_SIM_START": "2026-03-08T12:00:00"}) as mesh:
            report.step("waiting until reference data are loaded")
            await settled(mesh, size.quiet_seconds)
            report.step(f"doing nothing for {size.idle_seconds:g} s")
            before = mesh.cpu_seconds()
            await asyncio.sleep(size.idle_seconds)
            used = (mesh.cpu_seconds() - before) / size.idle_seconds
    unit = "% of one core, all Python processes, closed market"
    report.add({"run_idle_cpu_percent": {"value": round(used * 100, 1), "unit": unit, "peers": {}}})


async def measure(report: Report, size: Size) -> None:
    await feed_figures(report, size)
    await run_figures(report, size)
    await idle_figures(report, size)
