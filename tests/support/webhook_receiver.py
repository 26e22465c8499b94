"""A receiver of webhooks that does what a test says: accepts, refuses, hangs, redirects, floods or hangs up."""

import asyncio
import base64
import copy
import hashlib
import hmac
import json
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.certificates import Authority

FLOOD_BYTES = 8 * 1024 * 1024
Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


class Received(NamedTuple):
    """A request, with the path that it names."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def is_signed_by(self, secret: str) -> bool:
        """Standard Webhooks, by hand."""
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        content = b"%s.%s.%s" % (self.id.encode(), self.headers["webhook-timestamp"].encode(), self.body)
        expected = "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
        return expected in self.headers["webhook-signature"].split(" ")


def status(code: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer with this status."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {code} Whatever", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()

    return answer


async def hesitates(writer: asyncio.StreamWriter) -> None:
    """Accepts after half a second."""
    await asyncio.sleep(0.5)
    await status(204)(writer)


async def hangs(writer: asyncio.StreamWriter) -> None:
    """Nothing, for longer than anybody waits."""
    await asyncio.sleep(600)


async def drips(writer: asyncio.StreamWriter) -> None:
    """A body that never ends, a byte at a time."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def floods(writer: asyncio.StreamWriter) -> None:
    """Megabytes in a compressed body, which nobody should unpack."""
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {FLOOD_BYTES}\r\n\r\n"
    writer.write(head.encode())
    for _ in range(FLOOD_BYTES // 65536):
        writer.write(b"\0" * 65536)
        await writer.drain()


async def hangs_up(writer: asyncio.StreamWriter) -> None:
    """The end of the connection instead of an answer."""
    writer.close()


class Receiver:
    """`async with Receiver(folder)`: serves https at 127.0.0.1, with a certificate of an authority of its own.

    `answers` are given to the next requests, `default` to all others.
    """

    def __init__(self, folder: Path, names: str = "DNS:localhost,IP:127.0.0.1") -> None:
        authority = Authority(folder, "receivers")
        self.authorities = authority.pair.certificate
        self._pair = authority.certificate("receiver", names)
        self.received: list[Received] = []
        self.connections = 0
        self.answers: deque[Answer] = deque()
        self.default: Answer = status(204)
        self.port = 0
        self._has_come = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()

    def another(self) -> "Receiver":
        """A second one with the same certificate, which serves within `async with`."""
        other = copy.copy(self)
        other.received, other.answers, other.port, other._serving = [], deque(), 0, set()
        other.default, other._has_come, other._server = status(204), asyncio.Event(), None
        return other

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/hook?token=abc"

    @property
    def ids(self) -> list[str]:
        return [each.id for each in self.received]

    async def __aenter__(self) -> "Receiver":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Serves, on the port of before."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._pair)
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Is away."""
        if self._server is not None:
            self._server.close()
            for task in list(self._serving):
                task.cancel()
            await asyncio.gather(*self._serving, return_exceptions=True)
            self._server = None

    async def until(self, count: int, seconds: float = 60) -> list[Received]:
        """All requests, once there are so many."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:
                self._has_come.clear()
                await self._has_come.wait()
        return self.received

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self.connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
                while not writer.is_closing():
                    await self._answer(reader, writer)
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:-2])}
        body = await reader.readexactly(int(headers["content-length"]))
        self.received.append(Received(head[0].split(" ")[1], headers, body))
        self._has_come.set()
        await (self.answers.popleft() if self.answers else self.default)(writer)
