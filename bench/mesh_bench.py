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

from bench import bare_chain
from bench.observer import (
    CHECKED_SYMBOLS,
    DETAILS_AT_ONCE,
    SETTLE_SECONDS,
    Observer,
    has_loaded,
    observed,
)
from bench.report import Figures, Report
from bench.stored_reference import SUNDAY, simulated, simulated_mesh
from bench.vendor import PROBE_BASE, probe_symbols
from services.kit.runtime.clock import monotonic
from tests.support.mesh import Mesh

# Prices of probes only rise.
PROBE_SCAN = scanner_pb2.WatchScanRequest(filter=f"price >= {PROBE_BASE}", order_by="symbol", limit=100)
PROBE_RULE = {"name": "probe", "title": "A probe", "when": "grows(price)", "where": f"price >= {PROBE_BASE}"}


class Size(NamedTuple):
    symbols: int
    bulk: int
    loading_seconds: int
    paced_seconds: int
    bare_seconds: int
    warm_seconds: int
    idle_seconds: float
    idle_symbols: int
    simulated_symbols: int


FULL = Size(
    symbols=12_000,
    bulk=2_000_000,
    loading_seconds=8,
    paced_seconds=16,
    bare_seconds=3,
    warm_seconds=2,
    idle_seconds=10,
    idle_symbols=3_000,
    simulated_symbols=12_000,
)
LONG = FULL._replace(paced_seconds=40, bare_seconds=8, idle_seconds=60, idle_symbols=12_000)
SMALL = Size(
    symbols=600,
    bulk=50_000,
    loading_seconds=4,
    paced_seconds=4,
    bare_seconds=2,
    warm_seconds=1,
    idle_seconds=3,
    idle_symbols=100,
    simulated_symbols=100,
)
LAST_PROBE_SECONDS = 60.0


class BareChain(NamedTuple):
    """The gRPC streams that the trades pass through are as many as its processes; Envoy may come before the client."""

    processes: int
    has_envoy: bool

    def __str__(self) -> str:
        return f"a bare chain of {self.processes} processes{' and Envoy' if self.has_envoy else ''}"


# By what the figures call them; the last one has all that a trade passes in the mesh.
BARE_CHAINS = {
    "bare_chain": BareChain(2, has_envoy=False),
    "bare_chain_of_3": BareChain(3, has_envoy=False),
    "whole_bare_chain": BareChain(3, has_envoy=True),
}


class Vendor:
    """The sending process of bench.vendor."""

    def __init__(self, process: asyncio.subprocess.Process, hello: dict[str, Any]) -> None:
        self._process = process
        self.counts: dict[str, int] = hello["counts"]
        self.ws_url: str = hello["ws_url"]
        self.environment = {
            "POLYGON_API_KEY": "bench",
            "POLYGON_WS_URL": hello["ws_url"],
            "POLYGON_REST_URL": hello["rest_url"],
            "TRADEUL_CLOCK": "feed",
            "TRADEUL_SUBSCRIPTIONS": "T.*",
            **DETAILS_AT_ONCE,
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
        *("--bulk", str(size.bulk), "--loading-seconds", str(size.loading_seconds)),
        *("--paced-seconds", str(size.paced_seconds)),
    )
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=1 << 26)
    try:
        yield Vendor(process, await read_answer(process))
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def throughput(vendor: Vendor, observer: Observer, size: Size) -> Figures:
    before, trades = observer.mesh.cpu_seconds(), int((await observer.sequencer_status()).trades)
    sent = await vendor.ask("burst")
    await observer.until_applied(trades + size.bulk)
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


class Probes:
    """When the prices of probes arrive at clients of the mesh: in a custom scan's updates, and in alerts."""

    def __init__(self) -> None:
        self.listed: dict[float, float] = {}
        self.alerted: dict[float, float] = {}

    async def until(self, price: float) -> None:
        """Waits until the list and the alerts have come to this price, of the last probe that was sent."""
        async with asyncio.timeout(LAST_PROBE_SECONDS):
            while min(max(self.listed, default=0.0), max(self.alerted, default=0.0)) < price:
                await asyncio.sleep(0.02)

    async def watch_list(self, observer: Observer) -> None:
        probes = set(probe_symbols())
        async for response in observer.scanner.WatchScan(PROBE_SCAN):
            now = monotonic()
            for change in response.delta.deltas:
                if change.symbol in probes and change.HasField("data"):
                    self.listed.setdefault(change.data.price, now)

    async def watch_alerts(self, observer: Observer) -> None:
        async for response in observer.alerts.WatchAlerts(alerts_pb2.WatchAlertsRequest(rules=PROBE_RULE["name"])):
            if response.HasField("alert"):
                self.alerted.setdefault(response.alert.row.price, monotonic())


@asynccontextmanager
async def probes_watched(observer: Observer) -> AsyncIterator[Probes]:
    """Creates the rule of probes, and watches for their prices."""
    await add_probe_rule(observer)
    probes = Probes()
    watching = [asyncio.create_task(each(observer)) for each in (probes.watch_list, probes.watch_alerts)]
    try:
        yield probes
        for task in watching:
            if task.done():
                task.result()
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)


async def paced(vendor: Vendor, probes: Probes, command: str, warm_share: float) -> dict[float, float]:
    """Sends probes, and waits for the last one; when each one's price was sent, without the first share of them."""
    result = await vendor.ask(command)
    prices = prices_of(result, round(warm_share * len(result["sent"])))
    await probes.until(max(prices))
    return prices


def prices_of(result: dict[str, Any], first: int) -> dict[float, float]:
    """When each probe's price was sent, from the probe number `first` of the vendor's answer on."""
    return {
        PROBE_BASE + (result["first_tick"] + index) / 100: sent
        for index, sent in enumerate(result["sent"][first:], first)
    }


async def latency_while_loading(vendor: Vendor, probes: Probes, size: Size) -> Figures:
    """The same as latency(), while the history of all symbols is requested and loaded."""
    prices = await paced(
        vendor, probes, f"pace loading {size.loading_seconds}", size.warm_seconds / size.loading_seconds
    )
    share = (await vendor.ask("requested"))["share"]
    figures = delay_figures("loading_latency", "the list update while reference data load", prices, probes.listed)
    figures["loading_latency_p99_ms"]["symbols_requested_at_the_end"] = share
    return figures


async def latency(report: Report, vendor: Vendor, probes: Probes, size: Size) -> Figures:
    """Probe trades among 50,000 a second: from the send to the update with the probe's price, and to its alert.

    Before and after, the same messages pass through processes that do no work.
    """
    bare: dict[str, list[float]] = {name: [] for name in BARE_CHAINS}

    async def measure_bare() -> None:
        for name, chain in BARE_CHAINS.items():
            await end_silence(vendor)
            report.step(f"the same to {chain} for {size.bare_seconds} s")
            bare[name] += await bare_delays(vendor, chain, size)

    await measure_bare()
    report.step(f"sending 50,000 trades/s for {size.paced_seconds} s")
    prices = await paced(vendor, probes, f"pace loaded {size.paced_seconds}", size.warm_seconds / size.paced_seconds)
    figures = delay_figures("mesh_latency", "the list update", prices, probes.listed)
    await measure_bare()
    for percent, name in ((50, "mesh_latency_p50_ms"), (99, "mesh_latency_p99_ms")):
        floors = {each: round(float(np.percentile(delays, percent)), 2) for each, delays in bare.items()}
        ratios = {f"times_{each}": round(figures[name]["value"] / floor, 2) for each, floor in floors.items()}
        figures[name]["peers"] = floors | ratios
    return {**figures, **delay_figures("alert_latency", "the alert", prices, probes.alerted)}


async def bare_delays(vendor: Vendor, chain: BareChain, size: Size) -> list[float]:
    """The milliseconds of each message from its send through a bare chain, after the first second."""
    times: list[float] = []
    async with bare_chain.started(vendor.ws_url, *chain) as address:
        opened = asyncio.get_running_loop().create_future()
        reading = asyncio.create_task(bare_chain.arrivals(address, times, opened))
        try:
            await asyncio.wait({opened, reading}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
            await asyncio.sleep(0.5)
            sent = (await vendor.ask(f"pace bare {size.bare_seconds}"))["sent"]
            async with asyncio.timeout(20):
                while len(times) < len(sent):
                    await asyncio.sleep(0.01)
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    if len(times) != len(sent):
        raise AssertionError(f"expected {len(sent)} messages through the bare chain, was {len(times)}")
    first = len(sent) // size.bare_seconds
    return [(came - began) * 1e3 for came, began in zip(times[first:], sent[first:], strict=True)]


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
            async with (
                Mesh(Path(directory), vendor.environment) as mesh,
                observed(mesh) as observer,
                probes_watched(observer) as probes,
            ):
                report.step(f"sending 50,000 trades/s for {size.loading_seconds} s while it loads reference data")
                report.add(await latency_while_loading(vendor, probes, size))
                report.step(f"loading the history of {size.symbols:,} symbols")
                await loaded(vendor, mesh)
                report.step("sending all trades at once")
                report.add(await throughput(vendor, observer, size))
                report.add(await latency(report, vendor, probes, size))


async def loaded(vendor: Vendor, mesh: Mesh) -> None:
    """Waits until the mesh has loaded all reference data, so that no loader works while something is measured."""
    async with asyncio.timeout(SETTLE_SECONDS):
        while not has_loaded(mesh):
            await end_silence(vendor)
            await asyncio.sleep(1)


async def end_silence(vendor: Vendor) -> None:
    """Sends a trade: a line that is silent for 15 s has a gap, the bars of which would be requested for minutes."""
    await vendor.ask("probes 0.01 100")


async def run_figures(report: Report, size: Size) -> None:
    """`tradeul up` with the simulator, as `make run` starts it: time to live lists."""
    with tempfile.TemporaryDirectory() as directory:
        began = monotonic()
        report.step("starting the mesh with the simulator")
        settings = simulated(size.simulated_symbols, "09:25")
        async with Mesh(Path(directory), settings) as mesh, httpx.AsyncClient() as client:
            while True:
                answer = await client.get(f"{mesh.url}/api/v1/scanner/lists/gappers_up")
                if answer.is_success and answer.json().get("count"):
                    break
                await asyncio.sleep(0.1)
            ready = monotonic() - began
            unit = "s from the command to a gappers list with rows"
            report.add({"run_ready_s": {"value": round(ready, 1), "unit": unit, "peers": {}}})


async def idle_figures(report: Report, size: Size) -> None:
    """The same on a Sunday, with all reference data."""
    async with simulated_mesh(report, size.idle_symbols, "12:00", SUNDAY) as mesh:
        report.step(f"doing nothing for {size.idle_seconds:g} s")
        before = mesh.cpu_seconds()
        await asyncio.sleep(size.idle_seconds)
        used = (mesh.cpu_seconds() - before) / size.idle_seconds
    unit = f"% of one core, all Python processes, closed market, {size.idle_symbols:,} symbols"
    report.add({"run_idle_cpu_percent": {"value": round(used * 100, 1), "unit": unit, "peers": {}}})


async def measure(report: Report, size: Size) -> None:
    await feed_figures(report, size)
    await run_figures(report, size)
    await idle_figures(report, size)
