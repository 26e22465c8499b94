"""Streams and custom scans of each key: the real gateway, access service, scanner and WebSocket server, one mesh."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import grpc.aio
import httpx
import pytest
import websockets
from prometheus_client import REGISTRY
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc

from services.access import key_store
from services.access.methods import Right
from services.access.service import AccessService
from services.kit.rpc.key_streams import EXPIRES_HEADER, NAME_HEADER, STREAMS_HEADER
from services.kit.rpc.server import Host
from services.kit.runtime.clock import NS_PER_SECOND, wall_ns
from services.scanner.service import ScannerService
from services.websocket_server.service import WebSocketServer
from tests.support.gateway import Gateway, gateway_settings
from tests.support.refusals import Refusal, refusal
from tests.support.scripted_sequencer import ScriptedSequencer
from tests.support.stores import Stores, module_stores
from tests.support.tape import Tape
from tests.support.tokens import AUDIENCE, ISSUER, SigningKey, jwks

STREAM, WATCH = "/tradeul.v1.ScannerService/WatchList", "/api/v1/scanner/lists/winners:watch"
ISSUERS = SigningKey("first")
COSTLY = " AND ".join(f"price > {n}" for n in range(20))
# Revocation is promised within seconds; a loaded machine is given more.
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


class LimitedMesh:
    """A gateway that requires keys, before a real scanner and WebSocket server."""

    def __init__(self, gateway: Gateway, access: AccessService, database_url: str) -> None:
        self.gateway = gateway
        self._access = access
        self._database_url = database_url

    async def on_database(self, action: Any) -> Any:
        connection = await asyncpg.connect(self._database_url)
        try:
            return await action(connection)
        finally:
            await connection.close()

    async def new_key(self, name: str, **limits: int) -> dict[str, str]:
        """Creates a key, waits until it is accepted, and returns the headers that carry it."""
        secret = await self.on_database(lambda database: key_store.create(database, name, Right.READ, **limits))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while name not in self._access.control._by_name:
                await asyncio.sleep(0.01)
        return {"x-api-key": secret}

    @contextlib.asynccontextmanager
    async def calls(self, headers: dict[str, str]) -> AsyncIterator["Calls"]:
        async with grpc.aio.insecure_channel(self.gateway.address) as channel:
            yield Calls(scanner_pb2_grpc.ScannerServiceStub(channel), tuple(headers.items()))

    async def refusal_over_http(self, path: str, headers: dict[str, str]) -> tuple[int, str | None, dict[str, Any]]:
        """The status, Retry-After and error of a server-sent stream that is refused."""
        answer = await self.gateway.client.get(path, headers=headers)
        return answer.status_code, answer.headers.get("retry-after"), answer.json()


class Calls:
    """Native gRPC with a key."""

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self._metadata = metadata

    def watch(self) -> Any:
        return self._stub.WatchList(scanner_pb2.WatchListRequest(list="winners"), metadata=self._metadata)

    def watch_scan(self, filter_text: str) -> Any:
        return self._stub.WatchScan(scanner_pb2.WatchScanRequest(filter=filter_text), metadata=self._metadata)

    async def opened(self, call: Any) -> Any:
        """The call, once it is current."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await call.read()).WhichOneof("response") != "current":
                pass
        return call

    async def refused(self, call: Any) -> Refusal:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        return refusal(caught.value)


@pytest.fixture
async def mesh(stores: Stores, tmp_path: Path) -> AsyncIterator[LimitedMesh]:
    tape = Tape([f"S{i:02}" for i in range(40)])
    async with contextlib.AsyncExitStack() as stack:
        sequencer = await stack.enter_async_context(ScriptedSequencer(tape))
        sequencer.send(*tape.opening())
        keys = tmp_path / "jwks.json"
        keys.write_text(jwks(ISSUERS))
        environment = {
            "TRADEUL_JWT_ISSUER": ISSUER,
            "TRADEUL_JWT_AUDIENCES": AUDIENCE,
            "TRADEUL_JWT_JWKS_FILE": str(keys),
            "TRADEUL_JWT_CLOCK_SKEW_SECONDS": "1",
            "TRADEUL_DATABASE_URL": stores.database_url,
            "TRADEUL_KEYS": "required",
            "TRADEUL_KEY_SCAN_STEPS": "30",
        }
        settings = gateway_settings(tmp_path, environment)
        addresses = {**settings.addresses, "data_ingest": settings.address("data_ingest")._replace(port=sequencer.port)}
        settings = settings.model_copy(update={"addresses": addresses})
        access = AccessService(settings)
        scanner = ScannerService(settings.model_copy(update={"database_url": ""}))
        for host in (Host(access), Host(scanner), Host(WebSocketServer(settings), serve_grpc=False)):
            await host.start()
            stack.push_async_callback(host.stop)
        gateway = await stack.enter_async_context(Gateway(settings))
        yield LimitedMesh(gateway, access, stores.database_url)


def metric(name: str, service: str, key: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, {"service": service, "key": key, **labels}) or 0.0


async def test_streams_of_a_key(mesh: LimitedMesh) -> None:
    """By gRPC, gRPC-Web and server-sent events they count together; each refusal is in the form of its protocol."""
    headers = await mesh.new_key("few", streams=2)
    other = await mesh.new_key("other", streams=1)
    async with mesh.calls(headers) as calls, mesh.gateway.client.stream("GET", WATCH, headers=headers) as events:
        assert events.status_code == 200
        # Kept: a response whose lines nobody holds is closed.
        lines = await until_opened(events)
        first = await calls.opened(calls.watch())
        answer = await calls.refused(calls.watch())
        assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS")
        assert answer.metadata == {"maximum": "2", "key": "few"}
        assert metric("tradeul_key_streams", "scanner", "few") == 2
        status, retry_after, error = await mesh.refusal_over_http(WATCH, headers)
        assert (status, retry_after) == (429, "1")
        assert error["message"] == "limit reached: 2 open streams of the key 'few'"
        assert error["details"][0]["reason"] == "TOO_MANY_STREAMS"
        web = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", **headers}
        body = scanner_pb2.WatchListRequest(list="winners").SerializeToString()
        framed = b"\0" + len(body).to_bytes(4, "big") + body
        answered = await mesh.gateway.client.post(STREAM, content=framed, headers=web)
        trailers = {**answered.headers, "body": answered.text}
        assert "8" in (trailers.get("grpc-status"), trailers["body"].partition("grpc-status:")[2][:1])
        # What a client sends as its key's name or limits is removed.
        forged = {**headers, NAME_HEADER: "other", STREAMS_HEADER: "99"}
        async with mesh.calls(forged) as others:
            assert (await others.refused(others.watch())).metadata["key"] == "few"
        assert metric("tradeul_key_refused_total", "scanner", "few", reason="TOO_MANY_STREAMS") == 4
        # Other keys are not concerned, and one that ends makes room.
        async with mesh.calls(other) as others:
            await others.opened(others.watch())
        first.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while metric("tradeul_key_streams", "scanner", "few") == 2:
                await asyncio.sleep(0.01)
        await calls.opened(calls.watch())
        await lines.aclose()


async def test_custom_scans_of_a_key(mesh: LimitedMesh) -> None:
    """A limit of their number, and of what they cost together."""
    headers = await mesh.new_key("scans", scans=3)
    none = await mesh.new_key("no-scans", scans=0)
    async with mesh.calls(headers) as calls:
        opened = [await calls.opened(calls.watch_scan(text)) for text in ("price > 1", "price > 1", "price > 2")]
        answer = await calls.refused(calls.watch_scan("price > 3"))
        assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_SCANS")
        assert answer.metadata == {"maximum": "3", "key": "scans"}
        opened[0].cancel()
        opened[2].cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while metric("tradeul_key_streams", "scanner", "scans") > 1:
                await asyncio.sleep(0.01)
        costly = " AND ".join(f"price > {n}" for n in range(30))
        answer = await calls.refused(calls.watch_scan(costly))
        assert answer.reason == "TOO_MANY_SCANS"
        assert answer.metadata == {"maximum": "30", "steps": "30", "key": "scans"}
        assert "with the 30 of this one it would be 31" in answer.message
        # A query is none that stays open.
        query = {"filter": costly}
        answered = await mesh.gateway.client.post("/api/v1/scanner/scans:query", json=query, headers=headers)
        assert answered.status_code == 200
    status, retry_after, error = await mesh.refusal_over_http("/api/v1/scanner/scans:watch?filter=price%3E1", none)
    assert (status, retry_after, error["details"][0]["reason"]) == (429, "1", "TOO_MANY_SCANS")


async def until_opened(events: httpx.Response) -> AsyncGenerator[str, None]:
    lines = events.aiter_lines()
    assert isinstance(lines, AsyncGenerator)
    async for line in lines:
        if line.startswith("data:"):
            break
    return lines


async def test_a_revoked_keys_streams_end(mesh: LimitedMesh) -> None:
    headers = await mesh.new_key("gone")
    kept = await mesh.new_key("kept")
    url = f"ws://{mesh.gateway.address}/ws/scanner"
    async with contextlib.AsyncExitStack() as stack:
        calls = await stack.enter_async_context(mesh.calls(headers))
        others = await stack.enter_async_context(mesh.calls(kept))
        stream, other = await calls.opened(calls.watch()), await others.opened(others.watch())
        events = await stack.enter_async_context(mesh.gateway.client.stream("GET", WATCH, headers=headers))
        lines = await until_opened(events)
        socket = await stack.enter_async_context(websockets.connect(url, additional_headers=headers))
        other_socket = await stack.enter_async_context(websockets.connect(url, additional_headers=kept))
        await mesh.on_database(lambda database: key_store.revoke(database, "gone"))
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while True:
                    await stream.read()
            answer = refusal(caught.value)
            assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_KEY")
            with contextlib.suppress(httpx.RemoteProtocolError):
                async for _ in lines:
                    pass
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    await socket.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3000, "the key was revoked")
        # Those of another key go on.
        assert not other.done()
        await other_socket.send(json.dumps({"action": "ping"}))
        while json.loads(await other_socket.recv())["type"] != "pong":
            pass


async def test_websockets_of_a_key(mesh: LimitedMesh) -> None:
    headers = await mesh.new_key("sockets", streams=2, scans=2)
    url = f"ws://{mesh.gateway.address}/ws/scanner"
    async with websockets.connect(url, additional_headers=headers) as first:
        async with websockets.connect(url, additional_headers=headers) as second:
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(url, additional_headers=headers)
            assert (caught.value.response.status_code, caught.value.response.headers["retry-after"]) == (429, "1")
            assert metric("tradeul_key_streams", "websocket_server", "sockets") == 2
            # The scans of all its connections count.
            for socket, name in ((first, "a"), (second, "b"), (second, "c")):
                scan = {"action": "subscribe_scan", "scan": name, "filter": "price > 1"}
                await socket.send(json.dumps(scan))
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (message := json.loads(await second.recv()))["type"] != "error":
                    pass
            assert (message["scan"], message["message"]) == ("c", "limit reached: 2 open scans of the key 'sockets'")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while metric("tradeul_key_streams", "websocket_server", "sockets") == 2:
                await asyncio.sleep(0.01)
        async with websockets.connect(url, additional_headers=headers):
            pass


async def until_refused(socket: websockets.ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (message := json.loads(await socket.recv()))["type"] != "error":
            pass
    return dict(message)


async def test_the_cost_of_a_keys_scans_is_one_budget(mesh: LimitedMesh) -> None:
    """Over gRPC and WebSocket alike; a scan over a connection is no stream beside it."""
    headers, other = await mesh.new_key("budget", streams=1), await mesh.new_key("another")
    url = f"ws://{mesh.gateway.address}/ws/scanner"
    async with mesh.calls(headers) as calls:
        opened = await calls.opened(calls.watch_scan(COSTLY))
        async with websockets.connect(url, additional_headers=headers) as socket:
            for name, text in (("cheap", "price > 1"), ("costly", COSTLY.replace(">", "<"))):
                await socket.send(json.dumps({"action": "subscribe_scan", "scan": name, "filter": text}))
            error = await until_refused(socket)
            assert (error["scan"], error["reason"]) == ("costly", "TOO_MANY_SCANS")
            assert error["metadata"] == {"maximum": "30", "steps": "20", "key": "budget"}
            # Another key has its own, for the same scan, too.
            async with websockets.connect(url, additional_headers=other) as second:
                await second.send(
                    json.dumps({"action": "subscribe_scan", "scan": "x", "filter": COSTLY.replace(">", "<")})
                )
                while json.loads(await second.recv())["type"] != "subscribed_scan":
                    pass
            # And the other way round: what is open over the WebSocket leaves less for gRPC.
            opened.cancel()
            async with asyncio.timeout(PATIENCE_SECONDS):
                while metric("tradeul_key_streams", "scanner", "budget"):
                    await asyncio.sleep(0.01)
            await socket.send(json.dumps({"action": "subscribe_scan", "scan": "costly", "filter": COSTLY}))
            while json.loads(await socket.recv()) != {"type": "subscribed_scan", "scan": "costly"}:
                pass
            answer = await calls.refused(calls.watch_scan(COSTLY.replace(">", "!=")))
            assert (answer.reason, answer.metadata["key"]) == ("TOO_MANY_SCANS", "budget")
            assert "with the 20 of this one it would be 41" in answer.message


async def test_streams_end_with_the_token_that_opened_them(mesh: LimitedMesh) -> None:
    """By gRPC, server-sent events and WebSocket, and those that a ticket of the token has opened; others go on."""
    # Until then all of them have to be opened.
    expires = wall_ns() // NS_PER_SECOND + 8
    headers = {"authorization": f"Bearer {ISSUERS.token(sub='brief', exp=expires)}"}
    # The same subject with a newer token; and what a client sends as its token's end is removed.
    longer = {"authorization": f"Bearer {ISSUERS.token(sub='brief')}", EXPIRES_HEADER: "1"}
    url = f"ws://{mesh.gateway.address}/ws/scanner"
    client = mesh.gateway.client
    ticket = (await client.post("/api/v1/tickets", json={}, headers=headers)).json()["ticket"]
    async with contextlib.AsyncExitStack() as stack:
        calls = await stack.enter_async_context(mesh.calls(headers))
        others = await stack.enter_async_context(mesh.calls(longer))
        stream, other = await calls.opened(calls.watch()), await others.opened(others.watch())
        events = await stack.enter_async_context(client.stream("GET", WATCH, params={"ticket": ticket}))
        lines = await until_opened(events)
        socket = await stack.enter_async_context(websockets.connect(url, additional_headers=headers))
        other_socket = await stack.enter_async_context(websockets.connect(url, additional_headers=longer))
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                while True:
                    await stream.read()
            answer = refusal(caught.value)
            assert (answer.code, answer.reason) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_TOKEN")
            assert answer.message == "the token has expired: open the stream again with a new one"
            with contextlib.suppress(httpx.RemoteProtocolError):
                async for _ in lines:
                    pass
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    await socket.recv()
            assert closed.value.rcvd is not None
            assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (3000, answer.message)
        # Not before its time, which is `exp` and the tolerance of a second; from then on it opens nothing.
        assert wall_ns() / NS_PER_SECOND >= expires + 1
        assert (await client.get(WATCH, headers=headers)).status_code == 401
        assert not other.done()
        await other_socket.send(json.dumps({"action": "ping"}))
        while json.loads(await other_socket.recv())["type"] != "pong":
            pass
