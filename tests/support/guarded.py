"""The gateway with keys required: the real Envoy and access service, before services that answer everything."""

import asyncio
import base64
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import grpc.aio
import httpx
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.access import key_store
from services.access.methods import Right
from services.access.service import AccessService
from services.kit.rpc.server import Host
from services.kit.runtime.packaged import DESCRIPTOR_SET
from services.kit.runtime.settings import Settings
from tests.support.gateway import BEHIND, Gateway, gateway_settings
from tests.support.stores import Stores

# Revocation is promised within seconds; a loaded machine is given more.
PATIENCE_SECONDS = 60.0
WS_PATH = "/ws/scanner"
WEBSOCKET = {
    "connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip
DECLARED = {
    f"/{file.package}.{service.name}/{method.name}": method
    for file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTOR_SET.path().read_bytes()).file
    for service in file.service
    for method in service.method
}
STREAMED = {path for path, method in DECLARED.items() if method.server_streaming}
CLIENT_STREAMED = {path for path, method in DECLARED.items() if method.client_streaming}
# Behind the gateway as gateway/envoy.yaml routes them; the access service answers for itself.
ROUTED = (
    *("Scanner", "Alerts", "AlertRules", "Webhooks", "MarketSession", "Analytics", "Ticker", "Filters", "Replay"),
    "Health",
)


class Echo(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its types only
    """Every method of every service: answers an empty message, and keeps what it received."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.metadata: dict[str, str] = {}

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        self.received[details.method] += 1
        self.metadata = {name: str(value) for name, value in details.invocation_metadata}
        if details.method in STREAMED:
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.stream_unary_rpc_method_handler(self._unary)

    async def _unary(self, requests: Any, _: Any) -> bytes:
        async for _ in requests:
            pass
        return b""

    async def _stream(self, _: Any, __: Any) -> AsyncIterator[bytes]:
        yield b""


class EchoWeb:
    """The WebSocket server's place: answers any HTTP request with 200, and keeps its head."""

    def __init__(self) -> None:
        self.heads: list[str] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


class Guarded:
    """The gateway with keys required, the services behind it, and three keys."""

    def __init__(self, settings: Settings, gateway: Gateway, echo: Echo, web: EchoWeb, host: Host) -> None:
        self.settings = settings
        self.gateway = gateway
        self.echo = echo
        self.web = web
        self.host = host
        assert isinstance(host.service, AccessService)
        self.access = host.service
        self.secrets: dict[Right | None, str] = {}

    def headers(self, right: Right | None) -> dict[str, str]:
        return {"x-api-key": self.secrets[right]} if right is not None else {}

    async def on_database(self, action: Any) -> Any:
        connection = await asyncpg.connect(self.settings.database_url)
        try:
            return await action(connection)
        finally:
            await connection.close()

    async def new_key(self, right: Right, requests_per_s: int | None = None) -> tuple[str, str]:
        """Creates a key and waits until it is accepted; returns its name and itself."""
        name = f"key-{next(NUMBERS)}"
        secret: str = await self.on_database(
            lambda connection: key_store.create(connection, name, right, requests_per_s)
        )
        live = len(await self.on_database(key_store.live_keys))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.access.control.key_count != live:
                await asyncio.sleep(0.01)
        return name, secret

    async def grpc_call(
        self, path: str, headers: Mapping[str, str]
    ) -> tuple[grpc.StatusCode, status_pb2.Status | None]:
        async with grpc.aio.insecure_channel(self.gateway.address) as channel:
            metadata = tuple(headers.items())
            # A message that is written when the answer has come already is an error of grpc.aio's.
            if path in CLIENT_STREAMED:
                call: Any = channel.stream_stream(path, None, None)(iter(()), metadata=metadata, timeout=20)
            else:
                call = channel.unary_stream(path, None, None)(b"", metadata=metadata, timeout=20)
            try:
                async for _ in call:
                    pass
            except grpc.aio.AioRpcError as error:
                return error.code(), rpc_status.from_call(error)  # type: ignore[arg-type]
            return grpc.StatusCode.OK, None

    async def grpc_web_call(
        self, path: str, headers: Mapping[str, str]
    ) -> tuple[grpc.StatusCode, status_pb2.Status | None]:
        kind = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": "http://localhost:3000"}
        answer = await self.gateway.client.post(path, content=b"\0\0\0\0\0", headers={**kind, **headers})
        code, status = grpc_web_status(answer)
        # A page has to be allowed to read why it was refused.
        assert not is_behind(path) or answer.headers["access-control-allow-origin"] == kind["origin"]
        return code, status


NUMBERS = itertools.count(1)
CODES = {code.value[0]: code for code in grpc.StatusCode}


def grpc_web_status(answer: httpx.Response) -> tuple[grpc.StatusCode, status_pb2.Status | None]:
    """Of trailers, which are headers when there is no message, and a frame of the body when there is."""
    # 404 is Envoy's own, of a method without a route.
    assert answer.status_code in (200, 404), answer.text
    trailers = {name: value for name, value in answer.headers.items() if name.startswith("grpc-")}
    content = answer.content
    while content:
        size = int.from_bytes(content[1:5], "big")
        if content[0] & 0x80:
            lines = content[5 : 5 + size].decode().splitlines()
            trailers |= dict(line.split(":", 1) for line in lines)
        content = content[5 + size :]
    details = trailers.get("grpc-status-details-bin")
    status = status_pb2.Status.FromString(base64.b64decode(details + "==")) if details else None
    return CODES[int(trailers["grpc-status"])], status


def reason_of(status: status_pb2.Status | None) -> str:
    """The reason of a google.rpc.Status with our ErrorInfo first; empty for none."""
    if status is None:
        return ""
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "tradeul"
    return str(info.reason)


@contextlib.asynccontextmanager
async def guarded_gateway(
    stores: Stores, data_dir: Path, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Guarded]:
    settings = gateway_settings(data_dir, {**stores.environment(), "TRADEUL_KEYS": "required", **(environment or {})})
    async with AsyncExitStack() as stack:
        echo, web = Echo(), EchoWeb()
        for name in BEHIND:
            if name == "websocket_server":
                server = await asyncio.start_server(web.answer, *settings.address(name))
                stack.callback(server.close)
            elif name != "access":
                grpc_server = grpc.aio.server()
                grpc_server.add_generic_rpc_handlers((echo,))
                grpc_server.add_insecure_port(str(settings.address(name)))
                await grpc_server.start()
                stack.push_async_callback(grpc_server.stop, 0)
        host = Host(AccessService(settings))
        await host.start()
        stack.push_async_callback(host.stop)
        gateway = await stack.enter_async_context(Gateway(settings))
        running = Guarded(settings, gateway, echo, web, host)
        for right in (Right.READ, Right.ADMIN):
            _, running.secrets[right] = await running.new_key(right, 100_000)
        yield running


def is_behind(path: str) -> bool:
    return any(f".{name}Service/" in path for name in ROUTED)


def check_refusal(answer: httpx.Response, status: int, reason: str) -> dict[str, Any]:
    """A google.rpc.Status as JSON with our ErrorInfo first, and a challenge for whoever has no right."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    info = body["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert (info["reason"], info["domain"]) == (reason, "tradeul")
    assert body["code"] == {401: 16, 403: 7, 429: 8, 503: 14}[status]
    assert body["message"]
    if status in (401, 403):
        assert answer.headers["www-authenticate"].startswith('Bearer realm="tradeul"')
    return body
