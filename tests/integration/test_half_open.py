"""Peers that are gone without a word: who notices, on lines of each kind. docs/operations.md has the usual times."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import grpc.aio
import httpx
import pytest
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from services.kit.rpc.channel import Connection, StreamEnded, open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.packaged import GATEWAY_TEMPLATE
from services.kit.runtime.settings import Settings
from services.scanner.service import ScannerService
from services.websocket_server.service import WebSocketServer
from tests.support.fault_proxy import FaultProxy
from tests.support.gateway import Gateway, gateway_settings
from tests.support.never_reading import KINDS, never_reading
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.tape import Tape
from tests.support.vanished import vanish

LIST: Final = "filtered"
# Far beyond the settings below, far below those without them.
WITHIN_SECONDS: Final = 30.0
# gateway/envoy.yaml: a connection that takes nothing, one with nothing to send, and a service over HTTP/2.
SHORTER: Final = {
    "name: 18, int_value: 30000": "name: 18, int_value: 2000",
    "name: 4, int_value: 10": "name: 4, int_value: 1",
    "name: 5, int_value: 5": "name: 5, int_value: 1",
    "connection_keepalive: { interval: 10s, timeout: 5s }": "connection_keepalive: { interval: 1s, timeout: 1s }",
}


class Mesh:
    """Services behind lines that can break, and the gateway's template with shorter times."""

    def __init__(self, settings: Settings, scanner: ScannerService, lines: dict[str, FaultProxy]) -> None:
        self.settings = settings
        self.scanner = scanner
        self.lines = lines
        self.template = GATEWAY_TEMPLATE.path().read_text()
        for usual, shorter in SHORTER.items():
            assert usual in self.template
            self.template = self.template.replace(usual, shorter)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    tape = Tape(["S1", "S2"])
    async with contextlib.AsyncExitStack() as stack:
        sequencer = await stack.enter_async_context(ScriptedSequencer(tape))
        sequencer.send(*tape.opening())
        sequencer.trade({"S1": 110.0})
        settings = gateway_settings(tmp_path, {"TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{sequencer.port}"})
        scanner = ScannerService(settings)
        for host in (Host(scanner), Host(WebSocketServer(settings), serve_grpc=False)):
            await host.start()
            stack.push_async_callback(host.stop)
        lines = {}
        for name in ("scanner", "websocket_server"):
            address = settings.address(name)
            proxy = await stack.enter_async_context(FaultProxy(address.host, address.port))
            lines[name] = proxy
            settings = settings.model_copy(
                update={"addresses": {**settings.addresses, name: address._replace(port=proxy.port)}}
            )
        yield Mesh(settings, scanner, lines)


async def connections(gateway: Gateway) -> int:
    """How many clients have a connection to the gateway; the one that asks is no client."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"http://{gateway.metrics}/stats/prometheus")).text
    name = 'envoy_http_downstream_cx_active{envoy_http_conn_manager_prefix="gateway"} '
    return int(next(line for line in text.splitlines() if line.startswith(name)).removeprefix(name))


async def until_connections(gateway: Gateway, count: int) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        while await connections(gateway) != count:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_gateway_notices_that_a_client_is_gone(mesh: Mesh, kind: str) -> None:
    async with Gateway(mesh.settings, mesh.template) as gateway:
        with never_reading(KINDS[kind], gateway.address, LIST, 1) as (client,):
            await until_connections(gateway, 1)
            with contextlib.closing(vanish(client)):
                await until_connections(gateway, 0)
                async with asyncio.timeout(WITHIN_SECONDS):
                    while kind != "WebSocket" and mesh.scanner.hub.subscribers:
                        await asyncio.sleep(0.05)


async def test_the_gateway_notices_that_an_idle_connection_is_gone(mesh: Mesh) -> None:
    async with Gateway(mesh.settings, mesh.template) as gateway:
        host, _, port = gateway.address.rpartition(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(f"GET /openapi.json HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            client.setblocking(False)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += await asyncio.get_running_loop().sock_recv(client, 1 << 20)
            await until_connections(gateway, 1)
            with contextlib.closing(vanish(client)):
                await until_connections(gateway, 0)


async def test_clients_are_told_that_a_service_behind_the_gateway_is_gone(mesh: Mesh) -> None:
    """Their streams end, and the next ones have a line of their own."""
    path = f"/api/v1/scanner/lists/{LIST}:watch"
    async with Gateway(mesh.settings, mesh.template) as gateway:
        async with gateway.client.stream("GET", path) as answer:
            parts = answer.aiter_bytes()
            await anext(parts)
            mesh.lines["scanner"].vanish()
            with pytest.raises(httpx.TransportError):
                async with asyncio.timeout(WITHIN_SECONDS):
                    async for _ in parts:
                        pass
        async with gateway.client.stream("GET", path) as answer:
            assert b"opened" in await anext(answer.aiter_bytes())


async def test_websockets_are_told_that_their_server_is_gone(mesh: Mesh) -> None:
    async with Gateway(mesh.settings, mesh.template) as gateway:
        url = f"ws://{gateway.address}/ws/scanner"
        # It goes on sending, as pages do: what it sends is not acknowledged.
        async with connect(url, ping_interval=None) as client:
            await client.recv()
            mesh.lines["websocket_server"].vanish()
            with pytest.raises(ConnectionClosed):
                async with asyncio.timeout(WITHIN_SECONDS):
                    while True:
                        await client.send('{"action":"ping"}')
                        await asyncio.sleep(0.5)
        async with connect(url) as client:
            assert "connected" in str(await client.recv())


async def test_services_notice_each_other(mesh: Mesh) -> None:
    """Both sides of a stream on which nothing is said, by the pings of gRPC: within 15 s."""
    address = mesh.settings.address("scanner")
    channel = open_channel(f"{address.host}:{address.port}")
    stub = scanner_pb2_grpc.ScannerServiceStub(channel)
    call = stub.WatchList(scanner_pb2.WatchListRequest(list=LIST))
    try:
        with Connection[scanner_pb2.WatchListResponse](call, None) as connection:
            await connection.read()
            assert mesh.scanner.hub.subscribers == 1
            mesh.lines["scanner"].vanish()
            async with asyncio.timeout(WITHIN_SECONDS):
                with pytest.raises(StreamEnded):
                    while True:
                        await connection.read()
                while mesh.scanner.hub.subscribers:
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(WITHIN_SECONDS):
            while True:
                # A call may still be given to the line that is gone, and ends with it.
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await stub.GetList(scanner_pb2.GetListRequest(list=LIST), wait_for_ready=True)
                    break
    finally:
        await channel.close(None)
