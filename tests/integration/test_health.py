"""The mesh's health, watched on real servers: states as they are told, and nobody asked twice."""

import asyncio
import contextlib
import resource
import signal
import sys
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2 as standard_health
from grpc_health.v1 import health_pb2_grpc as standard_health_grpc
from prometheus_client import REGISTRY
from tradeul.v1 import health_pb2, health_pb2_grpc

from services.health import watcher
from services.health.service import HealthService
from services.kit.rpc import server
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.settings import Settings
from services.modules import ACCESS, GATEWAY_NEEDS, MODULES
from services.polygon_ws.service import PolygonWs
from tests.support.feed import quick
from tests.support.few_files import out_of_files
from tests.support.mesh import free_ports
from tests.support.refusals import Refusal, refusal
from tests.support.vendor_server import VendorServer
from tests.support.ws_client import ws_server

# With keys off, as on loopback by default, nobody checks any.
NAMES = [module.name for module in MODULES if module.protocol == "grpc" and module.name != ACCESS]
NEEDED = [name for name in GATEWAY_NEEDS if name != "health"]
POLL_SECONDS = 0.01


class Peer(Service):
    """Any service of the mesh, as far as its health goes."""

    def __init__(self, settings: Settings, name: str) -> None:
        super().__init__(settings)
        self.name = name  # type: ignore[misc]


class SmallMesh:
    """The health service of a mesh whose other services come and go."""

    def __init__(self) -> None:
        names = [*NAMES, "websocket_server"]
        ports = dict(zip(names, free_ports(len(names)), strict=True))
        addresses = {f"TRADEUL_{name.upper()}_ADDRESS": f"127.0.0.1:{port}" for name, port in ports.items()}
        self.settings = Settings.load({**addresses, "TRADEUL_METRICS_PORT_OFFSET": "0"})
        self.peers: dict[str, Host] = {}
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "SmallMesh":
        host = Host(HealthService(self.settings))
        await host.start()
        self._stack.push_async_callback(host.stop)
        channel = await self._stack.enter_async_context(open_channel(self.settings.address("health")))
        self.stub = health_pb2_grpc.HealthServiceStub(channel)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()
        await asyncio.gather(*(host.stop() for host in self.peers.values()))

    async def begin(self, *names: str) -> None:
        for name in names:
            self.peers[name] = Host(Peer(self.settings, name))
            await self.peers[name].start()

    async def end(self, name: str) -> None:
        await self.peers.pop(name).stop()

    async def ask(self) -> health_pb2.Health:
        answer: health_pb2.Health = await self.stub.GetHealth(health_pb2.GetHealthRequest())
        return answer

    async def refused(self) -> Refusal:
        """What it says when the gateway cannot do its work."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.ask()
        return refusal(caught.value)

    async def until_healthy(self) -> health_pb2.Health:
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                return await self.ask()
            await asyncio.sleep(POLL_SECONDS)

    async def until_state(self, name: str, state: str) -> None:
        while await self.state(name) != state:
            await asyncio.sleep(POLL_SECONDS)

    async def state(self, name: str) -> str:
        try:
            return str((await self.ask()).services[name])
        except grpc.aio.AioRpcError as error:
            return refusal(error).metadata[name]


@pytest.fixture
async def mesh() -> AsyncIterator[SmallMesh]:
    async with SmallMesh() as running:
        yield running


async def test_names_every_service_once_all_serve(mesh: SmallMesh) -> None:
    await mesh.begin(*(name for name in NAMES if name != "health"))
    for name in NAMES:
        await mesh.until_state(name, "SERVING")
    answer = await mesh.ask()
    assert answer.status == "healthy"
    assert {name: answer.services[name] for name in NAMES} == dict.fromkeys(NAMES, "SERVING")
    # It speaks no gRPC and does not run here.
    assert set(answer.services) - set(NAMES) == {"websocket_server"}


async def test_a_service_that_the_gateway_does_not_need_may_be_away(mesh: SmallMesh) -> None:
    await mesh.begin(*NEEDED)
    answer = await mesh.until_healthy()
    assert answer.services["polygon_ws"] == "UNREACHABLE"
    assert answer.services["health"] == "SERVING"


async def test_what_the_vendor_refuses_is_a_warning(mesh: SmallMesh) -> None:
    await mesh.begin(*NEEDED)
    assert not (await mesh.until_healthy()).warnings
    async with VendorServer() as vendor:
        vendor.plan = ("AM",)
        settings = Settings.load(
            {
                **vendor.environment,
                "TRADEUL_SUBSCRIPTIONS": "T.*,AM.*",
                "TRADEUL_POLYGON_WS_ADDRESS": str(mesh.settings.address("polygon_ws")),
                "TRADEUL_METRICS_PORT_OFFSET": "0",
            }
        )
        mesh.peers["polygon_ws"] = Host(PolygonWs(settings, quick()))
        await mesh.peers["polygon_ws"].start()
        wanted = ["polygon_ws: the vendor refuses T.*: not authorized to subscribe to T.*"]
        while list((await mesh.ask()).warnings) != wanted:
            await asyncio.sleep(POLL_SECONDS)
        await mesh.until_state("polygon_ws", "SERVING")
        await mesh.end("polygon_ws")
        while (await mesh.ask()).warnings:
            await asyncio.sleep(POLL_SECONDS)


async def test_says_who_is_missing(mesh: SmallMesh) -> None:
    for name in NEEDED:
        if name != "scanner":
            await mesh.begin(name)
            await mesh.until_state(name, "SERVING")
    refused = await mesh.refused()
    assert (refused.code, refused.reason) == (grpc.StatusCode.UNAVAILABLE, "SERVICES_NOT_SERVING")
    assert refused.message == "not serving: scanner (UNREACHABLE)"
    assert refused.metadata["scanner"] == "UNREACHABLE"
    assert refused.metadata["market_session"] == "SERVING"


async def test_follows_an_unhealthy_reason_and_its_end(mesh: SmallMesh) -> None:
    await mesh.begin(*NEEDED)
    await mesh.until_healthy()
    mesh.peers["scanner"].service.set_unhealthy_reason("the state is gone")
    await mesh.until_state("scanner", "NOT_SERVING")
    assert (await mesh.refused()).message == "not serving: scanner (NOT_SERVING)"
    assert REGISTRY.get_sample_value("tradeul_mesh_serving", {"peer": "scanner"}) == 0
    # A restart, which is what a probe of this name leads to, would not help it.
    async with grpc.aio.insecure_channel(str(mesh.settings.address("scanner"))) as channel:
        request = standard_health.HealthCheckRequest(service="liveness")
        alive = await standard_health_grpc.HealthStub(channel).Check(request)
    assert alive.status == standard_health.HealthCheckResponse.SERVING
    mesh.peers["scanner"].service.set_unhealthy_reason(None)
    await mesh.until_healthy()
    assert REGISTRY.get_sample_value("tradeul_mesh_serving", {"peer": "scanner"}) == 1


async def test_services_that_are_nearly_out_of_open_files_are_warnings(
    mesh: SmallMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them are this process."""
    monkeypatch.setattr(watcher, "POLL_SECONDS", POLL_SECONDS)
    monkeypatch.setattr(server, "FILES_SECONDS", POLL_SECONDS)
    await mesh.begin(*NEEDED)
    async with ws_server("127.0.0.1:1", websocket_server=str(mesh.settings.address("websocket_server"))):
        await mesh.until_state("websocket_server", "SERVING")
        assert not (await mesh.until_healthy()).warnings
        # Half of so low a limit is for the process itself: 40 more than it has are few.
        with out_of_files(left=40):
            while len(warnings := (await mesh.until_healthy()).warnings) < len(NEEDED) + 2:
                await asyncio.sleep(POLL_SECONDS)
            assert {text.partition(":")[0] for text in warnings} == {*NEEDED, "health", "websocket_server"}
            limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            expected = f"nearly out of open files, of which it may have {limit:,} (ulimit -n)"
            assert all(f": {expected}" in text for text in warnings)
        while (await mesh.until_healthy()).warnings:
            await asyncio.sleep(POLL_SECONDS)


async def test_finds_a_service_again_after_its_restart(mesh: SmallMesh) -> None:
    await mesh.begin(*NEEDED)
    await mesh.until_healthy()
    await mesh.end("scanner")
    await mesh.until_state("scanner", "UNREACHABLE")
    await mesh.begin("scanner")
    await mesh.until_healthy()


async def test_questions_cost_the_services_nothing(mesh: SmallMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers come from what the watches told: however many ask, each service is watched once."""
    # Whether they live is not asked again meanwhile.
    monkeypatch.setattr(watcher, "POLL_SECONDS", 600)
    await mesh.begin(*NEEDED)
    await mesh.until_healthy()
    opened = "tradeul_rpc_open", {"method": "/grpc.health.v1.Health/Watch"}
    handled = "tradeul_rpc_handled_total", {"method": "/grpc.health.v1.Health/Check", "code": "OK"}
    watches, checks = REGISTRY.get_sample_value(*opened), REGISTRY.get_sample_value(*handled)
    questions = 100
    for _ in range(questions):
        await mesh.ask()
    assert watches == REGISTRY.get_sample_value(*opened) == len(NEEDED)
    # Two of each service at most, those under way when the interval was changed.
    assert (REGISTRY.get_sample_value(*handled) or 0.0) - (checks or 0.0) <= 2 * len(NEEDED) < questions


async def test_a_service_without_grpc_is_polled(mesh: SmallMesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher, "POLL_SECONDS", POLL_SECONDS)
    status = "200 OK"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readline()).startswith(b"GET /readyz ")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()
        await writer.wait_closed()

    await mesh.begin(*NEEDED)
    await mesh.until_healthy()
    host, port = mesh.settings.address("websocket_server")
    server = await asyncio.start_server(answer, host, port)
    async with server:
        await mesh.until_state("websocket_server", "SERVING")
        status = "503 Service Unavailable"
        await mesh.until_state("websocket_server", "SERVING")
    await mesh.until_state("websocket_server", "UNREACHABLE")


PEER = """
import concurrent.futures, sys, time
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
servicer = health.HealthServicer()
health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
server.add_insecure_port(sys.argv[1])
servicer.set("", health_pb2.HealthCheckResponse.SERVING)
server.start()
time.sleep(600)
"""


async def test_a_service_that_hangs_is_unreachable_until_it_answers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection stays open, and nobody closes it for minutes."""
    monkeypatch.setattr(watcher, "POLL_SECONDS", POLL_SECONDS)
    monkeypatch.setattr(watcher, "SILENT_SECONDS", 0.5)
    (port,) = free_ports(1)
    states: asyncio.Queue[str] = asyncio.Queue()
    peer = await asyncio.create_subprocess_exec(sys.executable, "-c", PEER, f"127.0.0.1:{port}")
    watching = asyncio.create_task(
        watcher.watch("peer", f"127.0.0.1:{port}", lambda _, state: states.put_nowait(state), lambda *_: None)
    )

    async def until(state: str) -> None:
        async with asyncio.timeout(60):
            while await states.get() != state:
                pass

    try:
        await until("SERVING")
        for _ in range(2):
            peer.send_signal(signal.SIGSTOP)
            await until("UNREACHABLE")
            peer.send_signal(signal.SIGCONT)
            await until("SERVING")
    finally:
        watching.cancel()
        peer.kill()
        await asyncio.gather(watching, peer.wait(), return_exceptions=True)
