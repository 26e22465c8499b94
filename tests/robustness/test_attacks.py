"""Nobody holds up the others: each attack is bounded, answered and counted, and a client that watches misses nothing.

How late it is meanwhile depends on the machine: `make bench PARTS=attacks` measures it.
"""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import REGISTRY

from bench import attacks
from bench.attacks import CLOSED, SILENT, Outcome, Strength, Target
from bench.canary import Canary, watching
from services.kit.rpc.server import Host
from services.kit.runtime.packaged import GATEWAY_TEMPLATE
from services.scanner import custom_scans
from services.scanner.service import ScannerService
from services.websocket_server.limits import Limits
from services.websocket_server.service import WebSocketServer
from tests.support.gateway import Gateway, gateway_settings
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.tape import Tape

SYMBOLS = [f"S{i:02}" for i in range(40)]
CONNECTIONS = 40
STRENGTH = Strength(scans=30, queries=4, name_bytes=1_000_000, connections=60, bodies=3, frames=4, floods=1, streams=4)
# The gateway's limits that would take a test too long to reach.
SHORTER = {
    "listener_filters_timeout: 10s": "listener_filters_timeout: 0.5s",
    "max_active_downstream_connections: ${CONNECTIONS}": f"max_active_downstream_connections: {CONNECTIONS}",
    "max_stream_duration: &whole_request { max_stream_duration: 30s }": (
        "max_stream_duration: &whole_request { max_stream_duration: 1s }"
    ),
}


class Attacked:
    """The gateway with a scanner and a WebSocket server, whose market moves on all the time, and who watches it."""

    def __init__(self, gateway: Gateway, canary: Canary) -> None:
        host, _, port = gateway.address.rpartition(":")
        self.target = Target(host, int(port))
        self.canary = canary
        self._gateway = gateway

    async def envoy(self, name: str) -> float:
        """The sum of a counter of Envoy's over its labels."""
        async with httpx.AsyncClient() as client:
            text = (await client.get(f"http://{self._gateway.metrics}/stats/prometheus")).text
        return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE))

    async def under(self, attack: attacks.Attack, seconds: float) -> Outcome:
        """Attacks until something comes of it; the canary gets updates and stays exact, or its context raises."""
        before = self.canary.updates
        outcome: Outcome = Counter()
        while not outcome:
            outcome += await attack(self.target, STRENGTH, seconds)
        assert self.canary.updates > before
        await self.canary.check()
        return outcome


@pytest.fixture
async def attacked(tmp_path: Path) -> AsyncIterator[Attacked]:
    template = GATEWAY_TEMPLATE.path().read_text()
    for long, short in SHORTER.items():
        assert long in template
        template = template.replace(long, short)
    tape = Tape(SYMBOLS)
    async with contextlib.AsyncExitStack() as stack:
        sequencer = await stack.enter_async_context(ScriptedSequencer(tape))
        sequencer.send(*tape.opening())
        settings = gateway_settings(tmp_path)
        addresses = {**settings.addresses, "data_ingest": settings.address("data_ingest")._replace(port=sequencer.port)}
        settings = settings.model_copy(update={"addresses": addresses})
        limits = Limits(ping_after_seconds=0.4, pong_within_seconds=0.4, close_seconds=0.2)
        for host in (Host(ScannerService(settings)), Host(WebSocketServer(settings, limits), serve_grpc=False)):
            await host.start()
            stack.push_async_callback(host.stop)
        gateway = await stack.enter_async_context(Gateway(settings, template))

        async def trade() -> None:
            number = 0
            while True:
                number += 1
                sequencer.trade({SYMBOLS[number % 40]: 101.0 + number % 17})
                await asyncio.sleep(0.02)

        trading = asyncio.create_task(trade())
        stack.callback(trading.cancel)
        canary = await stack.enter_async_context(watching(gateway.address, "filtered"))
        yield Attacked(gateway, canary)


def rpcs(method: str, code: str) -> float:
    labels = {"method": f"/tradeul.v1.ScannerService/{method}", "code": code}
    return REGISTRY.get_sample_value("tradeul_rpc_handled_total", labels) or 0.0


async def test_costly_requests(attacked: Attacked) -> None:
    """Custom scans up to their budget, texts that take long to compile, names and messages of megabytes."""
    seconds, outcome = 1.0, Counter[str]()
    # Until each of them has been answered.
    while outcome["opened"] + outcome["TOO_MANY_SCANS"] < STRENGTH.scans:
        seconds *= 2
        refused = rpcs("WatchScan", "RESOURCE_EXHAUSTED")
        outcome = await attacked.under(attacks.costly_scans, seconds)
    fit = custom_scans.MAX_STEPS // 200
    assert outcome["opened"] == fit
    assert outcome["TOO_MANY_SCANS"] == STRENGTH.scans - fit
    assert rpcs("WatchScan", "RESOURCE_EXHAUSTED") - refused == STRENGTH.scans - fit
    # They follow the market, after the built-in lists.
    assert outcome["delta"] > 0
    assert set(outcome) <= {"opened", "snapshot", "current", "delta", "heartbeat", "TOO_MANY_SCANS"}

    requests = REGISTRY.get_sample_value("tradeul_scan_request_seconds_count") or 0.0
    outcome = await attacked.under(attacks.long_filters, 1.0)
    assert set(outcome) == {"200"}
    assert (REGISTRY.get_sample_value("tradeul_scan_request_seconds_count") or 0.0) - requests >= outcome["200"]

    outcome = await attacked.under(attacks.long_names, 1.0)
    assert set(outcome) == {"RESOURCE_EXHAUSTED"}


async def test_costly_connections(attacked: Attacked) -> None:
    """Bodies that do not come, frames that do not end, floods of headers, and connections that say nothing."""
    ended = await attacked.envoy("envoy_http_downstream_rq_max_duration_reached")
    outcome = await attacked.under(attacks.slow_bodies, 2.5)
    assert outcome == {"408": STRENGTH.bodies}
    assert await attacked.envoy("envoy_http_downstream_rq_max_duration_reached") - ended == STRENGTH.bodies

    closes = {"code": "3008"}
    closed = REGISTRY.get_sample_value("tradeul_ws_closes_total", closes) or 0.0
    outcome = await attacked.under(attacks.partial_frames, 2.5)
    assert outcome == {"101": STRENGTH.frames, CLOSED: STRENGTH.frames}
    assert (REGISTRY.get_sample_value("tradeul_ws_closes_total", closes) or 0.0) - closed == STRENGTH.frames

    outcome = await attacked.under(attacks.header_floods, 1.0)
    assert set(outcome) <= {"431", CLOSED}
    assert outcome["431"] > 0

    outcome = await attacked.under(attacks.silent_connections, 2.0)
    assert outcome[SILENT] <= CONNECTIONS
    assert outcome[CLOSED] >= STRENGTH.connections - CONNECTIONS
    assert await attacked.envoy("envoy_listener_downstream_global_cx_overflow") >= STRENGTH.connections - CONNECTIONS


async def test_silent_connections_do_not_close_the_port(attacked: Attacked) -> None:
    """Those that fill it and send nothing are closed themselves, so that new clients come in again."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(CONNECTIONS + 5):
            _, writer = await asyncio.open_connection(*attacked.target[:2])
            stack.callback(writer.close)
        async with asyncio.timeout(60), attacked.target.client() as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    response = await client.get("/api/v1/scanner/status")
                    break
                await asyncio.sleep(0.05)
            assert response.status_code == httpx.codes.OK
            while not await attacked.envoy("envoy_listener_downstream_pre_cx_timeout"):
                await asyncio.sleep(0.05)
    await attacked.canary.check()
