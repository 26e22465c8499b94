"""Clients that never read: what they cost the gateway, how they are ended, and that one that reads misses nothing."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from bench.canary import Canary, watching
from services.cli.local.gateway import admin_socket
from services.kit.rpc.server import Host
from services.kit.runtime.packaged import GATEWAY_TEMPLATE
from services.kit.runtime.settings import Settings
from services.scanner.service import ScannerService
from services.websocket_server.limits import Limits
from services.websocket_server.service import WebSocketServer
from tests.support.gateway import Gateway, gateway_settings
from tests.support.never_reading import KINDS, Open, grpc, never_reading, sse
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.tape import Tape

LIST: Final = "filtered"
SYMBOLS: Final = [f"S{i:03}" for i in range(200)]
CLIENTS: Final = 60
# For each of them, with a list of 200 rows, which is about 220 KB as JSON and half of that as a message. What
# a connection of gRPC holds depends on when its buffer fills: 100 to 290 KB (890 with large buffers).
MOST_BYTES: Final = {
    "server-sent events": 500_000,
    "gRPC": 350_000,
    "gRPC, one connection": 280_000,
    "gRPC-Web": 350_000,
    "WebSocket": 300_000,
}
# By then every client has what it can be made to hold.
CHANGES: Final = 30
SEVERAL: Final = 3
PATIENCE_SECONDS: Final = 100.0


class Mesh:
    """A scanner and a WebSocket server behind the gateway, and a market in which every row of the list changes."""

    def __init__(self, settings: Settings, sequencer: ScriptedSequencer, scanner: ScannerService) -> None:
        self.settings = settings
        self.scanner = scanner
        self._sequencer = sequencer
        self._number = 0

    def change(self) -> None:
        self._number += 1
        prices = {symbol: 100.0 + (self._number * 7 + i) % 50 + i / 100 for i, symbol in enumerate(SYMBOLS)}
        self._sequencer.trade(prices, seconds=0.05)

    async def change_until_seen(self, canary: Canary, changes: int) -> None:
        """So many changes, one after the other, each of which reaches the client that reads."""
        for _ in range(changes):
            seen = canary.updates
            self.change()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while canary.updates == seen:
                    await asyncio.sleep(0.005)

    async def allocated(self) -> int:
        """The bytes that Envoy has allocated."""
        return int(json.loads(await self._admin("/memory"))["allocated"])

    async def counted(self, name: str) -> int:
        """A counter of Envoy's."""
        found = re.search(rf"^{re.escape(name)}: (\d+)$", await self._admin("/stats"), re.MULTILINE)
        return int(found[1]) if found else 0

    async def _admin(self, path: str) -> str:
        transport = httpx.AsyncHTTPTransport(uds=str(admin_socket(self.settings)))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://localhost", timeout=PATIENCE_SECONDS
        ) as client:
            return (await client.get(path)).text


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    tape = Tape(SYMBOLS)
    async with contextlib.AsyncExitStack() as stack:
        sequencer = await stack.enter_async_context(ScriptedSequencer(tape))
        sequencer.send(*tape.opening())
        settings = gateway_settings(tmp_path, {"TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{sequencer.port}"})
        scanner = ScannerService(settings)
        # It would end them itself.
        limits = Limits(stall_seconds=600, ping_after_seconds=600)
        for host in (Host(scanner), Host(WebSocketServer(settings, limits), serve_grpc=False)):
            await host.start()
            stack.push_async_callback(host.stop)
        yield Mesh(settings, sequencer, scanner)


def template(**changed: str) -> str:
    """The gateway's template with other texts in place of some."""
    text = GATEWAY_TEMPLATE.path().read_text()
    for before, after in changed.items():
        assert before in text
        text = text.replace(before, after)
    return text


@pytest.mark.parametrize("kind", KINDS)
async def test_one_that_never_reads_costs_no_more_than_its_bound(mesh: Mesh, kind: str) -> None:
    async with Gateway(mesh.settings) as gateway, watching(gateway.address, LIST) as canary:
        await mesh.change_until_seen(canary, 5)
        before = await mesh.allocated()
        with never_reading(KINDS[kind], gateway.address, LIST, CLIENTS):
            await mesh.change_until_seen(canary, CHANGES)
            each = (await mesh.allocated() - before) / CLIENTS
            assert each <= MOST_BYTES[kind]
            await canary.check()


@pytest.mark.parametrize(("open_clients", "heap_bytes"), [(sse, 56_000_000), (grpc, 50_000_000)])
async def test_they_are_reset_before_anybody_else_suffers(mesh: Mesh, open_clients: Open, heap_bytes: int) -> None:
    """When memory gets scarce, those who hold the most end first, and a client that reads goes on."""
    small = template(
        **{
            "max_heap_size_bytes: 1073741824": f"max_heap_size_bytes: {heap_bytes}",
            # On a busy machine they would be ended by that before.
            "name: 18, int_value: 30000": "name: 18, int_value: 600000",
        }
    )
    async with Gateway(mesh.settings, small) as gateway, watching(gateway.address, LIST) as canary:
        with never_reading(open_clients, gateway.address, LIST, 100):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await mesh.counted("envoy.overload_actions.reset_high_memory_stream.count") < SEVERAL:
                    await mesh.change_until_seen(canary, 1)
            await mesh.change_until_seen(canary, 5)
        # Then the gateway takes requests again.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await mesh.counted("http.gateway.downstream_cx_active") > 1:
                await asyncio.sleep(0.02)
            while await mesh.counted("overload.envoy.overload_actions.stop_accepting_requests.active"):
                await asyncio.sleep(0.02)
        assert canary.kinds.count("snapshot") == 1


@pytest.mark.parametrize("open_clients", [sse, grpc])
async def test_a_connection_that_takes_nothing_is_ended(mesh: Mesh, open_clients: Open) -> None:
    sooner = template(**{"name: 18, int_value: 30000": "name: 18, int_value: 2000"})
    async with Gateway(mesh.settings, sooner) as gateway, watching(gateway.address, LIST) as canary:
        with never_reading(open_clients, gateway.address, LIST, 5):
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await mesh.counted("http.gateway.downstream_cx_active") < 6:
                    await asyncio.sleep(0.02)
                while await mesh.counted("http.gateway.downstream_cx_active") > 1:
                    await mesh.change_until_seen(canary, 2)
                while mesh.scanner.hub.subscribers > 1:
                    await asyncio.sleep(0.02)
        await canary.check()
