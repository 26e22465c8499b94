"""Every service is replaced, one after the other, while people watch through the gateway.

Scanners and WebSocket servers are two of each, as in a cluster; the others are one of each. Nobody misses a change, and
who can continue from a position does: a client is sent a whole list once, at its beginning. On a busy machine it may be
away for so long that the whole list is less than what it missed, or that this is no longer held; the servers say so.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.kit.rpc.channel import open_channel
from services.kit.runtime.logging import get_logger
from services.kit.runtime.packaged import checkout
from services.kit.runtime.settings import Settings
from tests.support.dashboard import stopped
from tests.support.gateway import Gateway
from tests.support.mesh import TRADEUL, Mesh, free_ports, service_pids
from tests.support.watchers import KINDS, SocketWatcher, Watcher, shown

log = get_logger(__name__)

LISTS: Final = ("filtered", "gappers_up")
# Of `tradeul up`, which starts them again.
SINGLE: Final = ("market_session", "ticker", "polygon_ws", "data_ingest")
STEP_SECONDS: Final = 120
ENDPOINT: Final = (
    "              - endpoint:\n"
    '                  address: {{ socket_address: {{ address: "{host}", port_value: {port} }} }}\n'
)

pytestmark = pytest.mark.timeout(600)


class Replica:
    """One of several processes of a service, which `tradeul serve` runs."""

    def __init__(self, service: str, environment: Mapping[str, str], port: int, log: Path) -> None:
        self.service = service
        self.port = port
        self._environment = {
            **environment,
            f"TRADEUL_{service.upper()}_ADDRESS": f"127.0.0.1:{port}",
            "TRADEUL_LOG_FORMAT": "json",
        }
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *TRADEUL, "serve", self.service, env=self._environment, stdout=log, stderr=log
            )
        async with asyncio.timeout(STEP_SECONDS):
            while not await self._is_serving():
                assert self._process.returncode is None, self._log.read_text()
                await asyncio.sleep(0.05)

    async def stop(self) -> int:
        """As a Pod is ended; returns its exit status."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STEP_SECONDS):
            return await self._process.wait()

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Its lines of the log with that event."""
        # gRPC's own library writes lines of another form.
        texts = [text for text in self._log.read_text(encoding="utf-8").splitlines() if text.startswith("{")]
        lines: list[dict[str, Any]] = [json.loads(text) for text in texts]
        return [line for line in lines if line["event"] == event]

    async def _is_serving(self) -> bool:
        if self.service == "websocket_server":
            async with httpx.AsyncClient() as client:
                try:
                    return (await client.get(f"http://127.0.0.1:{self.port}/readyz")).status_code == 200
                except httpx.HTTPError:
                    return False
        async with open_channel(f"127.0.0.1:{self.port}") as channel:
            try:
                answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
            except grpc.aio.AioRpcError:
                return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def with_replicas(service: str, ports: list[int], template: str) -> str:
    """The gateway's template with all endpoints of a service, as a headless Service's DNS name has them."""
    name = service.upper()
    one = ENDPOINT.format(host=f"${{{name}_HOST}}", port=f"${{{name}_PORT}}")
    assert one in template, service
    return template.replace(one, "".join(ENDPOINT.format(host="127.0.0.1", port=port) for port in ports))


@asynccontextmanager
async def replicated(folder: Path) -> AsyncIterator[tuple[Mesh, Gateway, list[Replica]]]:
    """A mesh with a second gateway, which has two scanners and two WebSocket servers of its own."""
    settings = {"TRADEUL_SIM_SYMBOLS": "100", "TRADEUL_SIM_START": "2026-03-10T09:35:00"}
    async with AsyncExitStack() as stack:
        mesh = await stack.enter_async_context(Mesh(folder / "mesh", settings))
        ports = free_ports(6)
        scanners, sockets, (gateway_port, admin_port) = ports[:2], ports[2:4], ports[4:]
        template = (checkout() / "gateway" / "envoy.yaml").read_text(encoding="utf-8")
        template = with_replicas("scanner", scanners, with_replicas("websocket_server", sockets, template))
        environment = {
            **mesh.environment,
            "TRADEUL_GATEWAY_ADDRESS": f"127.0.0.1:{gateway_port}",
            "TRADEUL_GATEWAY_ADMIN_ADDRESS": f"127.0.0.1:{admin_port}",
            "TRADEUL_DATA_DIR": str(folder / "gateway"),
        }
        # The WebSocket servers find the scanners as clients do.
        behind = {**mesh.environment, "TRADEUL_SCANNER_ADDRESS": environment["TRADEUL_GATEWAY_ADDRESS"]}
        replicas = [Replica("scanner", mesh.environment, port, folder / f"scanner-{port}.log") for port in scanners]
        replicas += [Replica("websocket_server", behind, port, folder / f"ws-{port}.log") for port in sockets]
        for replica in replicas[:2]:
            await replica.start()
            stack.push_async_callback(replica.stop)
        wanted = {name: value for name, value in environment.items() if name.startswith(("TRADEUL_", "POLYGON_"))}
        gateway = await stack.enter_async_context(Gateway(Settings.load(wanted), template))
        for replica in replicas[2:]:
            await replica.start()
            stack.push_async_callback(replica.stop)
        yield mesh, gateway, replicas


async def until_current(watchers: list[Watcher], tasks: list[asyncio.Task[None]]) -> None:
    """Waits until every copy has a change that none of them has now."""
    targets = {name: 1 + max(each.position[1] for each in watchers if each.name == name) for name in LISTS}
    try:
        async with asyncio.timeout(STEP_SECONDS):
            while any(watcher.position[1] < targets[watcher.name] for watcher in watchers):
                for task in tasks:
                    if task.done():
                        # What a watcher cannot go on from.
                        task.result()
                await asyncio.sleep(0.1)
    except TimeoutError:
        pytest.fail(f"expected {targets}: {shown(watchers)}")


async def test_every_service_is_replaced_while_people_watch(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with replicated(tmp_path) as (mesh, gateway, replicas):
        watchers = [kind(gateway.address, name) for kind in KINDS for name in LISTS for _ in range(2)]
        # As where thousands watch: each WebSocket server follows each list, for clients of its own.
        others = [SocketWatcher(f"127.0.0.1:{replica.port}", name) for replica in replicas[2:] for name in LISTS]
        tasks = [asyncio.create_task(watcher.run()) for watcher in (*watchers, *others)]
        try:
            await until_current([*watchers, *others], tasks)
            took: dict[str, float] = {}
            for number, replica in enumerate(replicas):
                began = loop.time()
                assert await replica.stop() == 0, replica.service
                await until_current(watchers, tasks)
                took[f"{replica.service} {number % 2 + 1} of 2"] = loop.time() - began
                await replica.start()
                await until_current([*watchers, *others], tasks)
            assert mesh.process is not None
            for service in SINGLE:
                began = loop.time()
                (pid,) = service_pids(mesh.process.pid, service)
                os.kill(pid, signal.SIGTERM)
                async with asyncio.timeout(STEP_SECONDS):
                    while pid in (found := service_pids(mesh.process.pid, service)) or not found:
                        await asyncio.sleep(0.05)
                await until_current(watchers, tasks)
                took[service] = loop.time() - began
            async with stopped(mesh, "simulator"):
                await all_equal(watchers, gateway)
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [each for each in results if not isinstance(each, asyncio.CancelledError)] == [], shown(watchers)
        for name, seconds in took.items():
            log.info("everybody is current again", replaced=name, seconds=round(seconds, 1))
    # Replicas hold what clients of the others have not seen, so nobody begins anew without a reason.
    assert all(is_gone(reason) for each in watchers for reason in each.resets), shown(watchers)
    told = [each for each in watchers if not isinstance(each, SocketWatcher)]
    assert [each.snapshots - 1 - len(each.resets) for each in told] == [0] * len(told), shown(watchers)
    # A WebSocket's client is told no reason, but the log is.
    lines = [line for replica in replicas for line in replica.logged("clients were sent the whole list")]
    assert [line for line in lines if not is_justified(line)] == [], shown(watchers)
    justified, repeated = Counter[str](), Counter[str]()
    for line in lines:
        justified[line["list"]] += line["clients"]
    for each in (*watchers, *others):
        if isinstance(each, SocketWatcher):
            repeated[each.name] += each.snapshots - 1
    assert repeated <= justified, (lines, shown([*watchers, *others]))


def is_gone(reason: str) -> bool:
    """True if what a client missed is said to be no longer held, or more than is worth sending."""
    return any(
        each in reason for each in ("too far behind", "more changes than are held", "older than the oldest held")
    )


def is_justified(line: Mapping[str, Any]) -> bool:
    """True if clients had to be sent the whole list: it was less than what they missed, or that was no longer held."""
    return line["cause"] in ("shorter", "merged") or is_gone(line["details"])


async def all_equal(watchers: list[Watcher], gateway: Gateway) -> None:
    """Waits until all copies are the list of REST, from either scanner."""
    different = ["not yet compared"]
    try:
        async with asyncio.timeout(STEP_SECONDS):
            while different:
                await asyncio.sleep(0.2)
                different = []
                for watcher in watchers:
                    body = (await gateway.client.get(f"/api/v1/scanner/lists/{watcher.name}")).json()
                    if (body["epoch"], body["sequence"]) != watcher.position:
                        different.append(f"{watcher.protocol} {watcher.name}: {watcher.position} of {body['sequence']}")
                    elif [row["symbol"] for row in body["rows"]] != list(watcher.symbols)[: len(body["rows"])]:
                        different.append(f"{watcher.protocol} {watcher.name}: other rows")
    except TimeoutError:
        pass
    assert different == []
