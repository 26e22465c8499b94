"""A vendor that says exactly what a script tells it: Polygon's WebSocket and REST on one port.

Unlike the simulator it invents nothing: the test or benchmark gives the REST
answers and sends the WebSocket frames itself.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

Answer = Callable[[str, dict[str, str]], Any]


class VendorServer:
    """`rest(path, query)` gives the JSON answer of a GET, or None for 404."""

    def __init__(self, rest: Answer, port: int = 0) -> None:
        self._rest = rest
        self._port = port
        self._server: Server | None = None
        self._feeds: set[ServerConnection] = set()
        self._joined = asyncio.Event()
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
        self._server.close()
        await self._server.wait_closed()

    async def joined(self) -> None:
        """Returns once a client has authenticated and subscribed."""
        await self._joined.wait()

    async def send(self, frame: str) -> None:
        """Sends one text frame to every subscribed client, waiting for the slowest."""
        for feed in list(self._feeds):
            await feed.send(frame)

    def transports(self) -> list[asyncio.Transport]:
        """The subscribed clients' connections, for senders of frames that are encoded already."""
        return [feed.transport for feed in self._feeds]

    async def drop(self) -> None:
        """Cuts every connection, as a vendor's outage would."""
        for feed in list(self._feeds):
            feed.transport.abort()

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        url = urlsplit(request.path)
        self.requests.append(url.path)
        answer = self._rest(url.path, dict(parse_qsl(url.query)))
        status = HTTPStatus.NOT_FOUND if answer is None else HTTPStatus.OK
        body = json.dumps({"status": "NOT_FOUND"} if answer is None else answer).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(status, status.phrase, headers, body)

    async def _feed(self, connection: ServerConnection) -> None:
        await connection.send('[{"ev":"status","status":"connected","message":"Connected Successfully"}]')
        try:
            async for text in connection:
                message = json.loads(text)
                if message["action"] == "auth":
                    await connection.send('[{"ev":"status","status":"auth_success","message":"authenticated"}]')
                elif message["action"] == "subscribe":
                    for name in message["params"].split(","):
                        status = {"ev": "status", "status": "success", "message": f"subscribed to: {name}"}
                        await connection.send(json.dumps([status]))
                    self._feeds.add(connection)
                    self._joined.set()
        except ConnectionClosed:
            pass
        finally:
            self._feeds.discard(connection)
