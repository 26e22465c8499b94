"""A vendor that says exactly what a script tells it: Polygon's WebSocket and REST on one port.

Unlike the simulator it invents nothing: the test or benchmark gives the REST
answers and sends the WebSocket frames itself.
"""

import asyncio
import json
import struct
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.support.mesh import free_ports

# Of a client that does not read, before it is cut off.
MOST_UNREAD_BYTES = 4 << 20

Answer = Callable[[str, dict[str, str]], Any]


def text_frame(payload: bytes) -> bytes:
    """A WebSocket text frame as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", 0x81, 126, size) + payload
    return struct.pack("!BBQ", 0x81, 127, size) + payload


class VendorServer:
    """`rest(path, query)` gives the JSON answer of a GET, encoded or not; None for 404, or another refusal's status.

    With `key`, another key is refused; with `plan`, subscriptions to other channels than
    these ("A", "AM"). `received` are the WebSocket clients' messages. While `answering` is
    cleared, a GET waits: what needs its answer cannot go on.
    """

    def __init__(self, rest: Answer = lambda path, query: None, port: int = 0, key: str | None = None) -> None:
        self.key = key
        self.plan: Collection[str] | None = None
        self.received: list[dict[str, str]] = []
        self.connections = 0
        self._changed = asyncio.Condition()
        self._joins = 0
        self._rest = rest
        self._port = port or free_ports(1)[0]
        self._server: Server | None = None
        self._feeds: set[ServerConnection] = set()
        self._joined = asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()
        self.requests: list[str] = []

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(next(iter(self._server.sockets)).getsockname()[1])

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/stocks"

    @property
    def environment(self) -> Mapping[str, str]:
        """The settings that make a mesh use this vendor."""
        return {"POLYGON_API_KEY": "test-key", "POLYGON_WS_URL": self.ws_url, "POLYGON_REST_URL": self.rest_url}

    async def __aenter__(self) -> Self:
        self._server = await serve(
            self._feed, "127.0.0.1", self._port, process_request=self._answer, compression=None, max_size=None
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self.answering.set()
        self._server.close()
        await self._server.wait_closed()

    async def joined(self) -> None:
        """Returns once a client has authenticated and subscribed."""
        await self._joined.wait()

    async def joins(self, count: int) -> None:
        """Returns once clients have authenticated and subscribed `count` times in all."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._joins >= count)

    async def asked(self, action: str, params: str) -> None:
        """Returns once a client has sent that message."""
        async with self._changed:
            await self._changed.wait_for(lambda: {"action": action, "params": params} in self.received)

    async def evict(self) -> None:
        """Does what the vendor does to the older of two connections with one key."""
        for feed in list(self._feeds):
            await feed.send('[{"ev":"status","status":"max_connections","message":"Maximum number of connections"}]')
            await feed.close(1008, "max_connections")

    async def close(self, code: int, reason: str) -> None:
        """Closes every connection in an orderly way."""
        for feed in list(self._feeds):
            await feed.close(code, reason)

    async def send(self, frame: str | bytes) -> None:
        """Sends one text frame to every subscribed client, waiting for the slowest."""
        for feed in list(self._feeds):
            await feed.send(frame)

    def push(self, frame: bytes) -> None:
        """Sends one encoded frame to every subscribed client, waiting for none: who reads too slowly is cut off."""
        for feed in list(self._feeds):
            if feed.transport.get_write_buffer_size() > MOST_UNREAD_BYTES:
                feed.transport.abort()
            elif not feed.transport.is_closing():
                feed.transport.write(frame)

    def transports(self) -> list[asyncio.Transport]:
        """The subscribed clients' connections, for senders of frames that are encoded already."""
        return [feed.transport for feed in self._feeds]

    async def send_fragments(self, parts: list[str]) -> None:
        """Sends one message in several frames."""
        for feed in list(self._feeds):
            await feed.send(iter(parts))

    def stop_reading(self) -> None:
        """Goes deaf and so mute, pongs included, without closing anything."""
        for feed in list(self._feeds):
            feed.transport.pause_reading()

    async def drop(self) -> None:
        """Cuts every connection, as a vendor's outage would."""
        for feed in list(self._feeds):
            feed.transport.abort()

    async def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        url = urlsplit(request.path)
        self.requests.append(url.path)
        await self.answering.wait()
        answer = self._rest(url.path, dict(parse_qsl(url.query)))
        status = HTTPStatus.OK
        if answer is None or isinstance(answer, HTTPStatus):
            status = answer or HTTPStatus.NOT_FOUND
            answer = {"status": "NOT_AUTHORIZED" if status == HTTPStatus.FORBIDDEN else status.name}
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(status, status.phrase, headers, body)

    async def _feed(self, connection: ServerConnection) -> None:
        self.connections += 1
        await connection.send('[{"ev":"status","status":"connected","message":"Connected Successfully"}]')
        try:
            async for text in connection:
                message = json.loads(text)
                self.received.append(message)
                if message["action"] == "auth":
                    if self.key is not None and message["params"] != self.key:
                        await connection.send(
                            '[{"ev":"status","status":"auth_failed","message":"authentication failed"}]'
                        )
                        await connection.close(1008, "auth_failed")
                        return
                    await connection.send('[{"ev":"status","status":"auth_success","message":"authenticated"}]')
                elif message["action"] == "subscribe":
                    for name in message["params"].split(","):
                        status = {"ev": "status", "status": "success", "message": f"subscribed to: {name}"}
                        if self.plan is not None and name.partition(".")[0] not in self.plan:
                            status |= {"status": "error", "message": f"not authorized to subscribe to {name}"}
                        await connection.send(json.dumps([status]))
                    if connection not in self._feeds:
                        self._joins += 1
                    self._feeds.add(connection)
                    self._joined.set()
                async with self._changed:
                    self._changed.notify_all()
        except ConnectionClosed:
            pass
        finally:
            self._feeds.discard(connection)
