"""Watchers of the benchmark's probes: many WebSocket clients or gRPC streams in a process of its own.

    python -m bench.watchers websocket PORT COUNT INTERVAL_MS
    python -m bench.watchers grpc ADDRESS COUNT INTERVAL_MS

INTERVAL_MS is the time between two updates that they want at least. They parse little, so that what is measured is not
their work: the prices in a message are read once for all who get it. "ready" is printed when all have the list; then
each line of input, the time at which each price was sent, is answered with the delays of all watchers; an empty one
with how many updates have come.
"""

import asyncio
import json
import re
import select
import socket
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import grpc.aio
import numpy as np
import uvloop
from tradeul.v1 import scanner_pb2

from bench.vendor import PROBE_BASE
from services.kit.runtime.clock import monotonic
from services.kit.runtime.open_files import allow_many

HANDSHAKE: Final = (
    b"GET /ws/scanner HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
FILTER: Final = f"price >= {PROBE_BASE}"
SUBSCRIBE: Final = {"action": "subscribe_scan", "scan": "probes", "filter": FILTER, "order_by": "symbol", "limit": 100}
PRICE: Final = re.compile(rb'"price":([0-9.]+)')
DELTA: Final = b'{"type":"delta"'
SNAPSHOT: Final = b'{"type":"snapshot"'
READ_BYTES: Final = 1 << 18
# A frame's head and as much of the text as has its sequence.
BEGINNING: Final = 160
SEQUENCE: Final = re.compile(rb'"sequence":(\d+)')
WATCH: Final = "/tradeul.v1.ScannerService/WatchScan"
# The last update may be late.
LATE_SECONDS: Final = 30.0
STREAMS_PER_CHANNEL: Final = 100
PING, PONG, TEXT = 9, 10, 1


class Arrivals:
    """When prices came, at all watchers. The prices of probes only rise, so each watcher knows which are new to it."""

    def __init__(self) -> None:
        self._times: defaultdict[float, list[float]] = defaultdict(list)
        self._prices: dict[Any, list[float]] = {}
        self._updates = 0

    def add(self, key: Any, prices: Callable[[], list[float]], reached: float) -> float:
        """Notes a message at a watcher that has all up to the price `reached`; returns how far it has them now.

        `key`: what the message is, the same for all who get it; `prices` reads those in it, for the first one.
        """
        now = monotonic()
        self._updates += 1
        if (found := self._prices.get(key)) is None:
            found = self._prices[key] = sorted(prices())
        # Rows come again for other reasons than their price, too.
        for price in found[bisect_right(found, reached) :]:
            self._times[price].append(now)
        return max(reached, found[-1]) if found else reached

    def has_all(self, sent: Mapping[float, float], watchers: int) -> bool:
        """True once each watcher has each of these prices."""
        return all(len(self._times.get(price, ())) >= watchers for price in sent)

    def delays(self, sent: Mapping[float, float]) -> dict[str, float]:
        """The delays of these prices, in ms, and how many came; of no prices, how many updates did. Forgets all."""
        if not sent:
            updates = self._updates
            self._forget()
            return {"updates": updates}
        found = [(np.array(self._times[price]) - at) * 1e3 for price, at in sent.items() if price in self._times]
        if not found:
            raise RuntimeError("no price came")
        every = np.concatenate(found)
        p50, p99 = np.percentile(every, [50, 99])
        self._forget()
        return {"p50_ms": float(p50), "p99_ms": float(p99), "max_ms": float(every.max()), "delivered": len(every)}

    def _forget(self) -> None:
        self._times.clear()
        self._prices.clear()
        self._updates = 0


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Masked with zeros, which leaves the payload as it is."""
    size = bytes((0x80 | len(payload),)) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes((0x80 | opcode,)) + size + bytes(4) + payload


class WebSocketClient:
    def __init__(self, port: int, interval_ms: int) -> None:
        self.has_list = False
        self._reached = 0.0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(HANDSHAKE)
        answer = b""
        while b"\r\n\r\n" not in answer:
            if not (part := self.socket.recv(4096)):
                raise RuntimeError(f"the server ended the handshake: {answer!r}")
            answer += part
        head, _, rest = answer.partition(b"\r\n\r\n")
        if b" 101 " not in head:
            raise RuntimeError(f"expected 101, was {head!r}")
        # The beginning of a frame whose end has not come.
        self._rest = bytearray(rest)
        request = SUBSCRIBE | {"min_interval_ms": interval_ms}
        self.socket.sendall(client_frame(TEXT, json.dumps(request).encode()))
        self.socket.setblocking(False)

    def read(self, buffer: bytearray, arrivals: Arrivals) -> None:
        size = self.socket.recv_into(buffer)
        if not size:
            raise RuntimeError("the server ended a connection")
        if self._rest:
            self._rest += memoryview(buffer)[:size]
            taken = self._take_frames(memoryview(bytes(self._rest)), arrivals)
            del self._rest[:taken]
        elif (taken := self._take_frames(memoryview(buffer)[:size], arrivals)) < size:
            self._rest += memoryview(buffer)[taken:size]

    def _take_frames(self, data: memoryview, arrivals: Arrivals) -> int:
        """Takes the whole frames; returns how many bytes these are."""
        at, end = 0, len(data)
        while end - at >= 2:
            size, head = data[at + 1], 2
            if size >= 126:
                head = 4 if size == 126 else 10
                size = int.from_bytes(data[at + 2 : at + head])
            if end - at - head < size:
                break
            self._take(data[at] & 15, data[at + head : at + head + size], arrivals)
            at += head + size
        return at

    def _take(self, opcode: int, payload: memoryview, arrivals: Arrivals) -> None:
        start = bytes(payload[:BEGINNING])
        if opcode == PING:
            self.socket.send(client_frame(PONG, bytes(payload)))
        elif start.startswith(DELTA):
            found = SEQUENCE.search(start)
            assert found is not None, "each delta has its sequence first"
            self._reached = arrivals.add(found[1], lambda: [float(x) for x in PRICE.findall(payload)], self._reached)
        elif start.startswith(SNAPSHOT):
            self.has_list = True


def watch_websocket(port: int, count: int, interval_ms: int) -> None:
    buffer, arrivals, poll = bytearray(READ_BYTES), Arrivals(), select.epoll()
    clients: dict[int, WebSocketClient] = {}

    def turn(seconds: float) -> bool:
        has_input = False
        for file, _ in poll.poll(seconds):
            if file in clients:
                clients[file].read(buffer, arrivals)
            else:
                has_input = True
        return has_input

    for _ in range(count):
        client = WebSocketClient(port, interval_ms)
        clients[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
        turn(0)
    while not all(client.has_list for client in clients.values()):
        turn(1)
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    say("ready")
    while True:
        if turn(1):
            if not (line := sys.stdin.readline()):
                return
            sent, deadline = sent_of(line), monotonic() + LATE_SECONDS
            while not arrivals.has_all(sent, count) and monotonic() < deadline:
                turn(0.1)
            say(arrivals.delays(sent))


async def watch_grpc(address: str, count: int, interval_ms: int) -> None:
    arrivals, has_list = Arrivals(), 0
    request = scanner_pb2.WatchScanRequest(filter=FILTER, order_by="symbol", limit=100, min_interval_ms=interval_ms)
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options) for _ in range(-(-count // STREAMS_PER_CHANNEL))]

    def prices(message: bytes) -> list[float]:
        changes = scanner_pb2.WatchListResponse.FromString(message).delta.deltas
        return [change.data.price for change in changes if change.HasField("data")]

    async def follow(channel: grpc.aio.Channel) -> None:
        nonlocal has_list
        call = channel.unary_stream(
            WATCH, request_serializer=scanner_pb2.WatchScanRequest.SerializeToString, response_deserializer=None
        )(request)
        reached = None
        async for message in call:
            has_list += reached is None
            reached = arrivals.add(message, partial(prices, message), reached or 0.0)
        raise RuntimeError("a stream ended")

    commands = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    tasks = [asyncio.create_task(follow(channels[at // STREAMS_PER_CHANNEL])) for at in range(count)]
    while has_list < count:
        await asyncio.sleep(0.1)
        for task in tasks:
            if task.done():
                task.result()
    say("ready")
    while line := await commands.readline():
        for task in tasks:
            if task.done():
                task.result()
        sent, deadline = sent_of(line.decode()), monotonic() + LATE_SECONDS
        while not arrivals.has_all(sent, count) and monotonic() < deadline:
            await asyncio.sleep(0.1)
        say(arrivals.delays(sent))


def sent_of(line: str) -> dict[float, float]:
    return {float(price): at for price, at in json.loads(line).items()}


def say(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    kind, target, *numbers = sys.argv[1:]
    count, interval_ms = map(int, numbers)
    allow_many()
    if kind == "websocket":
        watch_websocket(int(target), count, interval_ms)
    else:
        uvloop.run(watch_grpc(target, count, interval_ms))


if __name__ == "__main__":
    main()
