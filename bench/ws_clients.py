"""The clients of the fan-out benchmark, as a process of its own: `python -m bench.ws_clients PORT CLIENTS [FORM]`.

Raw sockets and epoll, so that one process can be 2,000 clients: each subscribes to one list and checks
that its deltas follow each other. FORM: `deflate`, to offer compression, `changed`, for changed fields only, or both
with a comma between. Commands on standard input, an answer in JSON for each:

    wait N       once every client has delta N: {"at": seconds}
    delays {...} the times at which each sequence was sent: {"p50_ms", "p99_ms", "delivered", "delivered_bytes"}

The cost of reading is part of every delay, and no contestant's: one receive by way of a shared buffer for each
event, nothing copied of what came as a whole.
"""

import json
import resource
import select
import socket
import sys
import zlib
from array import array
from typing import Any

import numpy as np

from services.kit.runtime.clock import monotonic

LIST = "gappers_up"
HANDSHAKE = (
    b"GET /ws/scanner HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
OFFER = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n"
# Of a frame's first byte, where the message is compressed.
RSV1_BIT = 0x40
# Bytes of a message's text that are looked at, and of a compressed one that hold them for sure.
START_BYTES = 120
START_DEFLATED_BYTES = 1024
SEQUENCE = b'"sequence":'
READ_BYTES = 1 << 18
PING = 9


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Masked with zeros, which leaves the payload as it is."""
    return bytes((0x80 | opcode, 0x80 | len(payload))) + bytes(4) + payload


class Client:
    def __init__(self, port: int, deflates: bool, changed_fields_only: bool) -> None:
        self.sequence = 0
        self.snapshots = 0
        self.delta_bytes = 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.sendall(HANDSHAKE + (OFFER if deflates else b"") + b"\r\n")
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(4096)
        head, _, rest = answer.partition(b"\r\n\r\n")
        if b" 101 " not in head:
            raise RuntimeError(f"expected 101, was {head!r}")
        if (b"permessage-deflate" in head) != deflates:
            raise RuntimeError(f"expected {'' if deflates else 'no '}permessage-deflate, was {head!r}")
        # The beginning of a frame whose end has not come.
        self._rest = bytearray(rest)
        subscription = {"action": "subscribe_list", "list": LIST, "changed_fields_only": changed_fields_only}
        self.socket.sendall(client_frame(1, json.dumps(subscription).encode()))
        self.socket.setblocking(False)

    def read(self, buffer: bytearray, sequences: "array[int]") -> None:
        """Takes what has come, by way of a buffer that all clients share; adds the deltas' sequences."""
        size = self.socket.recv_into(buffer)
        if not size:
            raise RuntimeError(f"the server ended the connection after delta {self.sequence}")
        # Only what is left of a frame that has not come as a whole is copied.
        if self._rest:
            self._rest += memoryview(buffer)[:size]
            del self._rest[: self._take_frames(self._rest, len(self._rest), sequences)]
        elif (taken := self._take_frames(buffer, size, sequences)) < size:
            self._rest += memoryview(buffer)[taken:size]

    def _take_frames(self, buffer: bytearray, end: int, sequences: "array[int]") -> int:
        """Takes the whole frames in the buffer's first `end` bytes; how many bytes these are."""
        at = 0
        while end - at >= 2:
            size, head = buffer[at + 1], 2
            if size == 126:
                size, head = int.from_bytes(buffer[at + 2 : at + 4]), 4
            elif size == 127:
                size, head = int.from_bytes(buffer[at + 2 : at + 10]), 10
            begin = at + head
            if end - begin < size:
                break
            if buffer[at] & RSV1_BIT:
                compressed = buffer[begin : begin + min(size, START_DEFLATED_BYTES)]
                start = zlib.decompressobj(-15).decompress(compressed, START_BYTES)
            else:
                start = bytes(buffer[begin : begin + min(size, START_BYTES)])
            self._take(buffer[at] & 15, size, start, sequences)
            at = begin + size
        return at

    def _take(self, opcode: int, size: int, start: bytes, sequences: "array[int]") -> None:
        if opcode == PING:
            self.socket.send(client_frame(10, start))
        elif start.startswith(b'{"type":"delta"'):
            sequence = _sequence(start)
            if sequence != self.sequence + 1:
                raise RuntimeError(f"expected delta {self.sequence + 1}, was {sequence}")
            self.sequence = sequence
            self.delta_bytes += size
            sequences.append(sequence)
        elif start.startswith(b'{"type":"snapshot"'):
            self.sequence = _sequence(start)
            self.snapshots += 1
            if self.snapshots > 1:
                raise RuntimeError("a client fell behind and got a second snapshot")


def _sequence(start: bytes) -> int:
    begin = start.index(SEQUENCE) + len(SEQUENCE)
    return int(start[begin : start.index(b",", begin)])


class Clients:
    def __init__(self, port: int, count: int, form: str) -> None:
        self._poll = select.epoll()
        self._clients: dict[int, Client] = {}
        self._buffer = bytearray(READ_BYTES)
        # Of every delta that came: its sequence and when.
        self._sequences: array[int] = array("I")
        self._times: array[float] = array("d")
        for _ in range(count):
            client = Client(port, "deflate" in form, "changed" in form)
            self._clients[client.socket.fileno()] = client
            self._poll.register(client.socket, select.EPOLLIN)
            self._turn(0)

    def until(self, sequence: int) -> float:
        """Reads until every client is there; the time at which the last one was."""
        for client in self._clients.values():
            while client.sequence < sequence:
                self._turn(1)
        return self._times[-1] if self._times else monotonic()

    def subscribed(self) -> None:
        for client in self._clients.values():
            while not client.snapshots:
                self._turn(1)

    def wait_for_command(self) -> str:
        """Goes on reading the sockets meanwhile."""
        stdin = sys.stdin.fileno()
        self._poll.register(stdin, select.EPOLLIN)
        while not self._turn(1):
            pass
        self._poll.unregister(stdin)
        return sys.stdin.readline()

    def delays(self, sent: dict[str, float]) -> dict[str, Any]:
        times = {int(sequence): at for sequence, at in sent.items()}
        first, last = min(times), max(times)
        sequences, received = np.array(self._sequences), np.array(self._times)
        chosen = (sequences >= first) & (sequences <= last)
        delays = received[chosen] - np.array([times[int(each)] for each in sequences[chosen]])
        return {
            "p50_ms": float(np.percentile(delays, 50)) * 1e3,
            "p99_ms": float(np.percentile(delays, 99)) * 1e3,
            "delivered": int(chosen.sum()),
            "delivered_bytes": sum(client.delta_bytes for client in self._clients.values()),
        }

    def _turn(self, seconds: float) -> bool:
        """One round of reading; whether standard input is ready."""
        has_command = False
        for file, _ in self._poll.poll(seconds):
            client = self._clients.get(file)
            if client is None:
                has_command = True
                continue
            before = len(self._sequences)
            client.read(self._buffer, self._sequences)
            if came := len(self._sequences) - before:
                self._times.extend([monotonic()] * came)
        return has_command


def answer(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def main() -> None:
    port, count = int(sys.argv[1]), int(sys.argv[2])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = Clients(port, count, sys.argv[3] if len(sys.argv) > 3 else "")
    clients.subscribed()
    answer({"subscribed": count})
    while command := clients.wait_for_command():
        verb, _, rest = command.partition(" ")
        answer({"at": clients.until(int(rest))} if verb == "wait" else clients.delays(json.loads(rest)))


if __name__ == "__main__":
    main()
