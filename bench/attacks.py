"""What a client can do to hold up all others, each for some seconds. Returns the answers by status or reason."""

import asyncio
import contextlib
import functools
import json
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import grpc
import grpc.aio
import httpx
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.runtime.clock import monotonic

Outcome = Counter[str]
Headers = Mapping[str, str]
WEBSOCKET: Final = (
    "GET /ws/scanner HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
# The head of a masked text message of 100 bytes, and the first of them.
PARTIAL_FRAME: Final = bytes((0x81, 0x80 | 100, 1, 2, 3, 4)) + b"begin"
CLOSED: Final = "closed"
SILENT: Final = "open and silent"
# Connections are opened by so many at a time.
CONNECTING: Final = 20
# Attackers are other machines: here they get what the mesh leaves of this one.
NICENESS: Final = 10


class Strength(NamedTuple):
    """How much of each attack."""

    scans: int
    queries: int
    name_bytes: int
    connections: int
    bodies: int
    frames: int
    floods: int
    streams: int


FULL: Final = Strength(
    scans=200,
    queries=16,
    name_bytes=30_000_000,
    connections=12_000,
    bodies=200,
    frames=200,
    floods=16,
    streams=200,
)
SMALL: Final = Strength(
    scans=30, queries=4, name_bytes=1_000_000, connections=60, bodies=5, frames=5, floods=2, streams=10
)


class Target(NamedTuple):
    """The gateway, and the headers with which the attacker comes."""

    host: str
    port: int
    headers: Headers = MappingProxyType({})

    @property
    def head(self) -> bytes:
        return "".join(f"{name}: {value}\r\n" for name, value in self.headers.items()).encode()

    @contextlib.asynccontextmanager
    async def scanner(self) -> Any:
        async with grpc.aio.insecure_channel(f"{self.host}:{self.port}") as channel:
            yield scanner_pb2_grpc.ScannerServiceStub(channel)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=f"http://{self.host}:{self.port}", headers=self.headers, timeout=60)


def costly_filter(number: int) -> str:
    """A filter of 199 steps, another one for each number."""
    values = ",".join(str(number * 1000 + n) for n in range(98))
    return " OR ".join(["low>0"] * 100) + f" OR price IN ({values})"


def longest_filter(number: int) -> str:
    """985 terms in 2,000 characters, another one for each number, that every symbol with a price matches."""
    return f"price>0.{number:06}-" + "-".join(["1"] * 985)


async def costly_scans(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Opens as many costly custom scans as it can and watches them."""
    outcome: Outcome = Counter()
    async with target.scanner() as stub:

        async def watch(number: int) -> None:
            request = scanner_pb2.WatchScanRequest(filter=costly_filter(number), order_by="price desc", limit=500)
            try:
                async for message in stub.WatchScan(request, metadata=tuple(target.headers.items())):
                    outcome[str(message.WhichOneof("response"))] += 1
            except grpc.aio.AioRpcError as error:
                outcome[reason_of(error)] += 1

        await for_seconds(seconds, [functools.partial(watch, n) for n in range(strength.scans)])
    return outcome


async def long_filters(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Queries filters of 985 terms, each of them new, as fast as they are answered."""
    outcome: Outcome = Counter()
    numbers = counting()
    async with target.client() as client:

        async def query() -> None:
            while True:
                body = {"filter": longest_filter(next(numbers)), "order_by": ",".join(["price+1"] * 8), "limit": 500}
                answer = await client.post("/api/v1/scanner/scans:query", json=body)
                outcome[str(answer.status_code)] += 1

        await for_seconds(seconds, [query] * strength.queries)
    return outcome


async def symbol_searches(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Searches for symbols by texts that match many names, as fast as it is answered."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    return await reads(
        target,
        strength,
        seconds,
        lambda n: f"/api/v1/symbols?query={letters[n % 26]}%20{letters[n // 26 % 26]}&limit=100",
    )


async def least_gaps(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Reads the gappers, each time with another least gap, so that both sides are selected and ranked anew."""
    return await reads(
        target, strength, seconds, lambda n: f"/api/v1/scanner/gappers?min_gap=0.{n % 1_000_000:06}&limit=500"
    )


async def selected_fields(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Reads a list of 500 rows, each time with other fields of them."""
    return await reads(
        target, strength, seconds, lambda n: f"/api/v1/scanner/lists/filtered?limit=500&fields={selection(n)}"
    )


async def selecting_streams(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Watches a list in many streams, each with other fields of its rows."""
    outcome: Outcome = Counter()
    async with target.scanner() as stub:

        async def watch(number: int) -> None:
            request = scanner_pb2.WatchListRequest(list="filtered", fields=selection(number))
            try:
                async for message in stub.WatchList(request, metadata=tuple(target.headers.items())):
                    outcome[str(message.WhichOneof("response"))] += 1
            except grpc.aio.AioRpcError as error:
                outcome[reason_of(error)] += 1

        await for_seconds(seconds, [functools.partial(watch, n) for n in range(strength.streams)])
    return outcome


def selection(number: int) -> str:
    """Most fields of a row, others for each number below 500,000."""
    names = [field.name for field in TickerRow.DESCRIPTOR.fields]
    left_out = {
        names[number % len(names)],
        names[number // len(names) % len(names)],
        names[number // len(names) ** 2 % len(names)],
    }
    return ",".join(name for name in names if name not in left_out)


async def reads(target: Target, strength: Strength, seconds: float, path: Callable[[int], str]) -> Outcome:
    """Reads the path of each number, as fast as it is answered."""
    outcome: Outcome = Counter()
    numbers = counting()
    async with target.client() as client:

        async def read() -> None:
            while True:
                outcome[str((await client.get(path(next(numbers)))).status_code)] += 1

        await for_seconds(seconds, [read] * strength.queries)
    return outcome


async def long_names(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Asks for lists with names of megabytes over gRPC, again and again."""
    outcome: Outcome = Counter()
    name = "gapers_up" + "x" * strength.name_bytes
    async with target.scanner() as stub:

        async def ask() -> None:
            while True:
                try:
                    request = scanner_pb2.GetListRequest(list=name)
                    await stub.GetList(request, metadata=tuple(target.headers.items()), timeout=60)
                except grpc.aio.AioRpcError as error:
                    outcome[error.code().name] += 1

        await for_seconds(seconds, [ask])
    return outcome


async def silent_connections(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Opens connections, sends nothing on them, and counts at the end which are still open."""
    outcome: Outcome = Counter()
    loop = asyncio.get_running_loop()
    sockets: list[socket.socket] = []

    async def connect() -> None:
        for _ in range(strength.connections // CONNECTING):
            sockets.append(opened := socket.socket())
            opened.setblocking(False)
            with contextlib.suppress(OSError):
                await loop.sock_connect(opened, (target.host, target.port))

    try:
        await for_seconds(seconds, [connect] * CONNECTING)
        for each in sockets:
            try:
                each.recv(1)
            except BlockingIOError:
                outcome[SILENT] += 1
            except OSError:
                outcome[CLOSED] += 1
            else:
                outcome[CLOSED] += 1
    finally:
        for each in sockets:
            each.close()
    return outcome


async def slow_bodies(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Sends a request's body a byte at a time."""
    head = (
        b"POST /api/v1/scanner/scans:query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 10000\r\n" + target.head + b"\r\n"
    )
    outcome: Outcome = Counter()

    async def send() -> None:
        async with connected(target, outcome) as (reader, writer):
            writer.write(head)
            answer = asyncio.create_task(reader.readline())
            while not answer.done():
                writer.write(b" ")
                await asyncio.wait({answer}, timeout=0.2)
            outcome[status_of(answer.result())] += 1

    await for_seconds(seconds, [send] * strength.bodies)
    return outcome


async def partial_frames(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Opens WebSockets, sends the first bytes of a message, and answers nothing."""
    outcome: Outcome = Counter()

    async def send() -> None:
        async with connected(target, outcome) as (reader, writer):
            writer.write(WEBSOCKET.encode() + target.head + b"\r\n")
            outcome[status_of(await reader.readline())] += 1
            writer.write(PARTIAL_FRAME)
            with contextlib.suppress(ConnectionError):
                while await reader.read(1 << 16):
                    pass
            outcome[CLOSED] += 1

    await for_seconds(seconds, [send] * strength.frames)
    return outcome


async def header_floods(target: Target, strength: Strength, seconds: float) -> Outcome:
    """Sends requests with 1,000 headers, and with one of 60 KB, on connection after connection."""
    many = "".join(f"x-flood-{n}: 1\r\n" for n in range(1000)).encode()
    large = b"x-flood: " + b"1" * 60_000 + b"\r\n"
    outcome: Outcome = Counter()

    async def send(headers: bytes) -> None:
        while True:
            async with connected(target, outcome) as (reader, writer):
                writer.write(b"GET /api/v1/scanner/status HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
                outcome[status_of(await reader.readline())] += 1

    await for_seconds(seconds, [lambda: send(many), lambda: send(large)] * strength.floods)
    return outcome


Attack = Callable[[Target, Strength, float], Coroutine[Any, Any, Outcome]]
ATTACKS: Final[Mapping[str, Attack]] = {
    "costly scans": costly_scans,
    "filters of 985 terms": long_filters,
    "symbol searches": symbol_searches,
    "gappers": least_gaps,
    "selected fields": selected_fields,
    "streams of selected fields": selecting_streams,
    "names of 30 MB": long_names,
    "silent connections": silent_connections,
    "slow bodies": slow_bodies,
    "partial WebSocket frames": partial_frames,
    "header floods": header_floods,
}


async def for_seconds(seconds: float, workers: list[Callable[[], Any]]) -> None:
    """Runs all workers for so long; what they raise is raised."""
    ends_at = monotonic() + seconds
    tasks = [asyncio.create_task(worker()) for worker in workers]
    try:
        done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        await asyncio.sleep(max(0.0, ends_at - monotonic()))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def connected(target: Target, outcome: Outcome) -> Any:
    """A connection, closed at the end; one that is reset counts as closed."""
    try:
        reader, writer = await asyncio.open_connection(target.host, target.port)
    except OSError:
        outcome["refused"] += 1
        raise
    try:
        yield reader, writer
    except ConnectionError:
        outcome[CLOSED] += 1
    finally:
        writer.close()


def counting() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def status_of(line: bytes) -> str:
    """The status of a response's first line; CLOSED when there is none."""
    words = line.split()
    return words[1].decode() if len(words) > 1 else CLOSED


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason of a refusal of ours, else the gRPC code."""
    status = rpc_status.from_call(error)  # type: ignore[arg-type]  # it has the three methods that are used
    info = error_details_pb2.ErrorInfo()
    if status is not None and status.details and status.details[0].Unpack(info):
        return str(info.reason)
    return error.code().name


async def by_a_process(name: str, target: Target, strength: str, seconds: float) -> Outcome:
    """Attacks from a process of its own, so that only the mesh is held up; `strength`: FULL or SMALL."""
    command = (sys.executable, "-m", "bench.attacks", name, target.host, str(target.port), strength, str(seconds))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"{name}: the attacking process ended with {process.returncode}")
    return Counter(json.loads(output))


def main(name: str, host: str, port: str, strength: str, seconds: str) -> None:
    os.nice(NICENESS)
    if os.environ.get("IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    attack = ATTACKS[name](Target(host, int(port)), {"FULL": FULL, "SMALL": SMALL}[strength], float(seconds))
    json.dump(asyncio.run(attack), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
