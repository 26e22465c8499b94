"""The gateway: REST reads of a list beside a minimal FastAPI + Redis endpoint, and gRPC fan-out."""

import asyncio
import json
import statistics
import sys
import tempfile
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import redis.asyncio

from bench.fastapi_peer import key
from bench.report import Figures, Report
from bench.stored_reference import simulated_mesh
from services.cli.local.embedded import redis_spec, redis_url
from services.cli.local.supervisor import Supervisor
from tests.support.mesh import Mesh, free_ports

LIST = "new_lows"
STREAMED_LIST = "gappers_up"
CONNECTIONS = 32
# Our bodies change during the measurement and stay about the same size.
SAME_SIZE = 1.1
PACED_INTERVAL_MS = 250


class Size(NamedTuple):
    symbols: int
    rows: int
    rest_seconds: float
    rounds: int
    streams: int
    grpc_seconds: float

    @property
    def path(self) -> str:
        return f"/api/v1/scanner/lists/{LIST}?limit={self.rows}"


FULL = Size(symbols=2_000, rows=100, rest_seconds=2, rounds=3, streams=2_000, grpc_seconds=8)
LONG = FULL._replace(rest_seconds=4, rounds=5, grpc_seconds=20)
SMALL = Size(symbols=500, rows=10, rest_seconds=1, rounds=1, streams=50, grpc_seconds=3)


class Contestant(NamedTuple):
    name: str
    port: int
    path: str


async def child(*arguments: str) -> dict[str, float]:
    """Returns the result that a process of this package prints."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, stdout=PIPE)
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{arguments[0]} ended with {process.returncode}")
    result: dict[str, float] = json.loads(output)
    return result


async def answered(client: httpx.AsyncClient, url: str) -> bytes:
    """Returns the body of the first response with status 200."""
    async with asyncio.timeout(60):
        while True:
            try:
                answer = await client.get(url)
                if answer.is_success:
                    return answer.content
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.1)


async def full_list(client: httpx.AsyncClient, mesh: Mesh, size: Size) -> bytes:
    """Returns the list's body once it has all the requested rows."""
    async with asyncio.timeout(120):
        while json.loads(body := await answered(client, mesh.url + size.path))["count"] < size.rows:
            await asyncio.sleep(0.2)
    return body


class Peer(NamedTuple):
    port: int
    store: redis.asyncio.Redis

    async def hold(self, body: bytes) -> None:
        """Sets the body that the peer returns from now on."""
        await self.store.set(key(LIST), body)


@asynccontextmanager
async def peer(directory: Path) -> AsyncIterator[Peer]:
    """Runs the FastAPI endpoint with its own Redis."""
    supervisor = Supervisor([redis_spec(directory)], lambda name, line: None)
    (port,) = free_ports(1)
    await supervisor.start()
    try:
        async with redis.asyncio.Redis.from_url(redis_url(directory)) as store:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "bench.fastapi_peer", str(port), redis_url(directory)
            )
            try:
                yield Peer(port, store)
            finally:
                process.terminate()
                await process.wait()
    finally:
        await supervisor.stop()


async def rest(report: Report, mesh: Mesh, size: Size) -> Figures:
    async with httpx.AsyncClient() as client:
        body = await full_list(client, mesh, size)
        with tempfile.TemporaryDirectory() as directory:
            async with peer(Path(directory)) as beside:
                await beside.hold(body)
                contestants = (
                    Contestant("tradeul", mesh.ports["gateway"], size.path),
                    Contestant("fastapi_redis_bytes", beside.port, f"/raw/{LIST}"),
                    Contestant("fastapi_redis_json", beside.port, f"/json/{LIST}"),
                )
                for each in contestants:
                    content = await answered(client, f"http://127.0.0.1:{each.port}{each.path}")
                    if json.loads(content).keys() != json.loads(body).keys():
                        raise AssertionError(f"{each.name} answers otherwise")
                results: dict[str, list[dict[str, float]]] = {each.name: [] for each in contestants}
                for turn in range(size.rounds):
                    report.step(f"REST, round {turn + 1} of {size.rounds}")
                    first = turn % len(contestants)
                    for each in (*contestants[first:], *contestants[:first]):
                        # Rows grow for some minutes, until every measure of them has a value.
                        body = await answered(client, mesh.url + size.path)
                        await beside.hold(body)
                        arguments = ("127.0.0.1", str(each.port), each.path, str(CONNECTIONS), str(size.rest_seconds))
                        results[each.name].append(await child("bench.http_load", *arguments))
    sizes = {name: statistics.mean(each["bytes"] for each in found) for name, found in results.items()}
    if max(sizes.values()) > SAME_SIZE * min(sizes.values()):
        raise AssertionError(f"expected bodies of about the same size, were {sizes}")
    per_second = {
        name: round(statistics.median(each["requests"] / each["seconds"] for each in found))
        for name, found in results.items()
    }
    p99 = {name: round(statistics.median(each["p99_ms"] for each in found), 2) for name, found in results.items()}
    work = (
        f"{size.rows} rows ({sizes['tradeul'] / 1e3:.0f} KB of JSON) over {CONNECTIONS} connections, the market running"
    )
    return {
        "rest_requests_per_s": figure(per_second, f"requests/s for {work}"),
        "rest_p99_ms": figure(p99, f"ms, 99th percentile for {work}"),
    }


def figure(values: dict[str, Any], unit: str) -> dict[str, Any]:
    """The first is ours."""
    (_, ours), *peers = values.items()
    return {"value": ours, "unit": unit, "peers": dict(peers)}


async def streams(mesh: Mesh, size: Size) -> Figures:
    arguments = (
        *(mesh.address("gateway"), STREAMED_LIST),
        *(str(size.streams), str(PACED_INTERVAL_MS), str(size.grpc_seconds)),
    )
    result = await child("bench.grpc_clients", *arguments)
    if result["least"] < 1:
        raise AssertionError("a stream got nothing")
    return {
        "grpc_delivered_per_s": {
            "value": round(result["delivered"] / result["seconds"]),
            "unit": f"updates/s of one list to {size.streams:,} streams through Envoy, at most "
            f"{1000 // PACED_INTERVAL_MS} a second each, clients included",
            "peers": {},
            "least_per_stream_per_s": round(result["least"] / result["seconds"], 1),
            "most_per_stream_per_s": round(result["most"] / result["seconds"], 1),
        }
    }


async def measure(report: Report, size: Size) -> None:
    # While reference data load, the simulator answers REST for them: it would take a core of the two, and a peer that
    # is one process suffers less from that than ours, which are two.
    async with simulated_mesh(report, size.symbols, "09:45") as mesh:
        report.add(await rest(report, mesh, size))
        report.step(f"{size.streams:,} gRPC streams")
        report.add(await streams(mesh, size))
