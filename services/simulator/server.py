"""WebSocket and HTTP on one port."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described
from services.kit.runtime.settings import Address
from services.market.market_time import TIME_PATH, TimeChange
from services.simulator.feed import Feed, FeedClient
from services.simulator.halt_feed import HaltDocument
from services.simulator.pace import Pace
from services.simulator.rest import Rest

log = get_logger(__name__)

WS_PATH: Final = "/stocks"
MAX_REQUEST_BYTES: Final = 1 << 20
HALTS_PATH: Final = "/rss.aspx"
JSON: Final = "application/json"
RSS: Final = "text/xml"
STOP_SECONDS: Final = 1.0


class _Connection:
    """A WebSocket's frames on their way out: queued without waiting, sent by a task of its own."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._frames: deque[str] = deque()
        self._wake = asyncio.Event()
        self._ending: str | None = None
        self.unsent = 0

    def send(self, frame: str) -> None:
        if self._ending is None:
            self._frames.append(frame)
            self.unsent += len(frame)
            self._wake.set()

    def close(self, reason: str) -> None:
        """Ends it after what is queued; of a slow client nothing more is sent."""
        if reason == "slow_consumer":
            self._frames.clear()
        self._ending = reason
        self._wake.set()

    async def write(self) -> None:
        while True:
            while self._frames:
                frame = self._frames.popleft()
                await self._socket.send_str(frame)
                self.unsent -= len(frame)
            if self._ending is not None:
                code = WSCloseCode.GOING_AWAY if self._ending == "going_away" else WSCloseCode.POLICY_VIOLATION
                await self._socket.close(code=code, message=self._ending.encode(), drain=False)
                return
            self._wake.clear()
            await self._wake.wait()


class MarketServer:
    """Serves `rest`, `feed`, `pace` and `halts()`; `ready()` returns why it is not, or None, for /readyz."""

    def __init__(
        self, feed: Feed, rest: Rest, pace: Pace, halts: Callable[[], HaltDocument], ready: Callable[[], str | None]
    ) -> None:
        self._feed = feed
        self._rest = rest
        self._pace = pace
        self._halts = halts
        self._ready = ready
        self._runner: web.AppRunner | None = None
        self._connections: set[_Connection] = set()
        self.port = 0

    async def start(self, address: Address) -> None:
        app = web.Application(client_max_size=MAX_REQUEST_BYTES)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/livez", self._livez)
        app.router.add_get(HALTS_PATH, self._halt_feed)
        app.router.add_get(TIME_PATH, self._time)
        app.router.add_post(TIME_PATH, self._change_time)
        app.router.add_route("*", "/{path:.*}", self._any)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=STOP_SECONDS)
        await self._runner.setup()
        site = web.TCPSite(self._runner, address.host, address.port)
        try:
            await site.start()
        except OSError as error:
            raise StartError(f"simulator: cannot listen on {address}: {error.strerror or error}") from error
        self.port = int(self._runner.addresses[0][1])

    def go_away(self) -> None:
        """Ends the WebSockets in an orderly way."""
        for connection in list(self._connections):
            connection.close("going_away")

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _livez(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"status": "alive"})

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        why = self._ready()
        return web.json_response({"simulator": why or "running"}, status=503 if why else 200)

    async def _halt_feed(self, request: web.Request) -> web.StreamResponse:
        """Asked for without a key, as Nasdaq's is."""
        if (feed := request.query.get("feed", "")) != "tradehalts":
            return web.Response(text=f"expected feed=tradehalts, was {feed[:50]!r}", status=404)
        document = self._halts()
        headers = {"ETag": document.etag, "Last-Modified": document.modified}
        if document.is_as(request.headers):
            return web.Response(status=304, headers=headers)
        return web.Response(body=document.body, headers=headers, content_type=RSS, charset="utf-8")

    async def _time(self, request: web.Request) -> web.StreamResponse:
        if not _bearer(request):
            # A page of any origin reaches this port, but sends no such header.
            return web.json_response({"error": "expected an API key in Authorization"}, status=401)
        return web.Response(body=msgspec.json.encode(self._pace.time()), content_type=JSON)

    async def _change_time(self, request: web.Request) -> web.StreamResponse:
        try:
            change = msgspec.json.decode(await request.read(), type=TimeChange)
        except msgspec.MsgspecError as error:
            return web.json_response({"error": str(error)}, status=400)
        if _bearer(request):
            self._pace.change(change)
        return await self._time(request)

    async def _any(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._attend(request)
        if request.method != "GET":
            return web.json_response({"status": "ERROR", "error": f"expected GET, was {request.method}"}, status=405)
        key = request.query.get("apiKey", "") or _bearer(request)
        base = f"{request.scheme}://{request.host}"
        answer = await self._rest.answer(request.rel_url.raw_path, request.query, key, base)
        return web.Response(body=answer.body, status=answer.status, content_type=JSON)

    async def _attend(self, request: web.Request) -> web.StreamResponse:
        if request.path != WS_PATH:
            return web.json_response({"status": "NOT_FOUND", "message": f"expected {WS_PATH}"}, status=404)
        socket = web.WebSocketResponse(compress=False, max_msg_size=MAX_REQUEST_BYTES, timeout=STOP_SECONDS)
        await socket.prepare(request)
        connection = _Connection(socket)
        client = FeedClient(connection.send, connection.close, lambda: connection.unsent)
        self._connections.add(connection)
        writer = asyncio.create_task(connection.write())
        # A client that reads nothing would hold the writer for ever.
        reader = asyncio.create_task(self._read(socket, client))
        try:
            self._feed.connected(client)
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._connections.discard(connection)
            self._feed.gone(client)
            for task in (writer, reader):
                task.cancel()
            for result in await asyncio.gather(writer, reader, return_exceptions=True):
                if isinstance(result, Exception) and not isinstance(result, ConnectionError):
                    log.warning("connection ended", error=described(result))
            with contextlib.suppress(ConnectionError):
                await socket.close()
        return socket

    async def _read(self, socket: web.WebSocketResponse, client: FeedClient) -> None:
        async for message in socket:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._feed.received(client, message.data)


def _bearer(request: web.Request) -> str:
    """The key in the Authorization header, empty without one."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""
