"""Clients that break rules, flood, or do not read: each gets a clear answer, and nobody else notices."""

import asyncio
import contextlib
import json
import random

import httpx
import pytest
from prometheus_client import REGISTRY
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.websocket_server.limits import Limits
from services.websocket_server.service import WebSocketServer
from tests.support import raw_ws, websocket_fixtures
from tests.support.raw_ws import raw_client
from tests.support.scripted_scanner import EPOCH, ScriptedList, ScriptedScanner, ticker_row
from tests.support.ws_client import WsClient, eventually, ws_client, ws_server

scanner = websocket_fixtures.scanner
server = websocket_fixtures.server
rng = websocket_fixtures.rng


def rejected(reason: str) -> float:
    labels = {"service": "websocket_server", "reason": reason}
    return REGISTRY.get_sample_value("tradeul_rejected_total", labels) or 0.0


def closed_with(code: int) -> float:
    return REGISTRY.get_sample_value("tradeul_ws_closes_total", {"code": str(code)}) or 0.0


async def close_code(client: WsClient) -> int:
    """Receives until the server has closed the connection."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            await client.receive()
    assert closed.value.rcvd is not None, "the connection was cut without a close code"
    return closed.value.rcvd.code


# --- what clients send


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("", "invalid_json", "expected a JSON object"),
        ("{", "invalid_json", "expected a JSON object"),
        ("[" * 4000, "invalid_request", "expected"),
        ('{"x":' * 800, "invalid_json", "expected"),
        ("null", "invalid_request", "expected"),
        ("[]", "invalid_request", "expected"),
        ("{}", "invalid_request", "action"),
        ('{"action":7}', "invalid_request", "action"),
        ('{"action":"subscribe"}', "unknown_action", "'subscribe'"),
        ('{"action":"subscribe_list"}', "list_missing", "expected a list"),
        ('{"action":"subscribe_list","list":["winners"]}', "invalid_request", "list"),
        ('{"action":"subscribe_list","list":"winner"}', "unknown_list", "'winners'"),
        ('{"action":"resync","list":"winners"}', "not_subscribed", "'winners'"),
        ('{"action":"subscribe_list","list":"winners","epoch":1}', "invalid_position", "epoch and sequence"),
        ('{"action":"subscribe_list","list":"winners","epoch":-1,"sequence":1}', "invalid_request", "epoch"),
        ('{"action":"subscribe_list","list":"winners","epoch":1,"sequence":4294967296}', "invalid_request", "sequence"),
        ('{"action":"subscribe_list","list":"winners","epoch":"1","sequence":1}', "invalid_request", "epoch"),
    ],
)
async def test_a_wrong_message_is_answered_and_counted_and_the_connection_goes_on(
    server: WebSocketServer, text: str, reason: str, said: str
) -> None:
    before = rejected(reason)
    async with ws_client(server.port) as client:
        await client.connection.send(text)
        error = await client.expect("error")
        assert said in error["message"]
        assert rejected(reason) == before + 1
        await client.subscribe("winners")
        await client.expect("snapshot")


async def test_what_is_unknown_in_a_message_is_ignored(server: WebSocketServer) -> None:
    async with ws_client(server.port) as client:
        await client.send(action="ping", list="no such list", other={"x": 1})
        await client.expect("pong")


async def test_a_binary_message_is_an_error_and_closes_with_1003(server: WebSocketServer) -> None:
    async with ws_client(server.port) as client:
        await client.connection.send(b'{"action":"ping"}')
        assert "binary" in (await client.expect("error"))["message"]
        assert await close_code(client) == 1003


async def test_a_message_of_a_megabyte_closes_with_1009(server: WebSocketServer) -> None:
    before, closes = rejected("message_too_big"), closed_with(1009)
    async with ws_client(server.port) as client:
        await client.connection.send("x" * 1_000_000)
        assert await close_code(client) == 1009
    await eventually(lambda: closed_with(1009) == closes + 1)
    assert rejected("message_too_big") == before + 1


async def test_the_parts_of_a_message_are_bounded_together(server: WebSocketServer) -> None:
    async with raw_client(server.port) as client:
        await client.upgrade()
        client.send(raw_ws.TEXT, b"x" * 3000, fin=False)
        client.send(raw_ws.CONTINUATION, b"x" * 3000, fin=False)
        assert await client.close_code() == 1009


async def test_a_message_in_parts_is_one_message(server: WebSocketServer) -> None:
    async with raw_client(server.port) as client:
        await client.upgrade()
        await client.read()
        for part, fin in ((b'{"action"', False), (b':"pi', False), (b'ng"}', True)):
            client.send(raw_ws.CONTINUATION if part[:1] == b":" or fin else raw_ws.TEXT, part, fin=fin)
            # Control frames may come in between.
            client.send(raw_ws.PING, b"beat")
        frames = [await client.read() for _ in range(4)]
        assert sorted(frames) == [(raw_ws.TEXT, b'{"type":"pong"}'), *3 * [(raw_ws.PONG, b"beat")]]


@pytest.mark.parametrize(
    ("opcode", "options", "code"),
    [
        (raw_ws.TEXT, {"masked": False}, 1002),
        (raw_ws.TEXT, {"rsv": 4}, 1002),
        (raw_ws.CONTINUATION, {}, 1002),
        (raw_ws.PING, {"fin": False}, 1002),
        (3, {}, 1002),
    ],
)
async def test_broken_frames_close_with_1002(
    server: WebSocketServer, opcode: int, options: dict[str, bool], code: int
) -> None:
    async with raw_client(server.port) as client:
        await client.upgrade()
        client.send(opcode, b"x", **options)
        assert await client.close_code() == code


async def test_a_text_within_a_message_in_parts_closes_with_1002(server: WebSocketServer) -> None:
    async with raw_client(server.port) as client:
        await client.upgrade()
        client.send(raw_ws.TEXT, b"x", fin=False)
        client.send(raw_ws.TEXT, b"x")
        assert await client.close_code() == 1002


async def test_a_text_that_is_no_utf8_closes_with_1007(server: WebSocketServer) -> None:
    async with raw_client(server.port) as client:
        await client.upgrade()
        client.send(raw_ws.TEXT, b'{"action":"\xff"}')
        assert await client.close_code() == 1007


async def test_a_flood_gets_one_error_and_is_closed_with_1008(scanner: ScriptedScanner, rng: random.Random) -> None:
    limits = Limits(message_burst=20, messages_per_second=5, excess_messages=50)
    async with ws_server(scanner.address, limits) as server, ws_client(server.port) as other:
        await other.subscribe("winners")
        await other.expect("snapshot")
        async with ws_client(server.port) as client:
            with contextlib.suppress(ConnectionClosed):
                for _ in range(20_000):
                    await client.send(action="ping")
            assert await close_code(client) == 1008
            assert client.heard.count("error") == 1
            assert 20 <= client.heard.count("pong") < 70
        scanner.lists["winners"].shuffle(rng)
        await other.until("winners", (EPOCH, 1))


async def test_more_than_the_rate_for_a_moment_is_an_error_only(scanner: ScriptedScanner) -> None:
    limits = Limits(message_burst=10, messages_per_second=2, excess_messages=50)
    async with ws_server(scanner.address, limits) as server, ws_client(server.port) as client:
        for _ in range(15):
            await client.send(action="ping")
        while (message := await client.receive())["type"] == "pong":
            pass
        assert "messages per second" in message["message"]
        # One more for each half of a second that it took.
        assert 10 <= client.heard.count("pong") < 15
        while True:
            await client.send(action="ping")
            try:
                async with asyncio.timeout(0.1):
                    message = json.loads(await client.connection.recv())
            except TimeoutError:
                continue
            assert message["type"] == "pong"
            break


async def test_pings_count_in_the_rate(scanner: ScriptedScanner) -> None:
    limits = Limits(message_burst=10, messages_per_second=5, excess_messages=20)
    async with ws_server(scanner.address, limits) as server, raw_client(server.port) as client:
        await client.upgrade()
        for _ in range(100):
            client.send(raw_ws.PING, b"")
        assert await client.close_code() == 1008


# --- clients that do not read


def big_change(each: ScriptedList, rng: random.Random) -> None:
    """All rows anew: about 100 KB."""
    rows = [ticker_row(rng, f"S{i}") for i in range(10)]
    for row in rows:
        row.industry = "x" * 10_000
    each.change_to(rows)


async def fill(server: WebSocketServer, each: ScriptedList, rng: random.Random) -> None:
    """Changes the list until a client cannot take more."""
    channel = server.hub.broadcast("winners")
    for _ in range(500):
        big_change(each, rng)
        await eventually(lambda: channel.feed.position.sequence == each.sequence and not channel.pending)
        if server.hub.slow_clients:
            return
    raise AssertionError("no client fell behind")


async def test_a_slow_client_gets_a_fresh_list_and_no_hole_and_nobody_waits_for_it(
    scanner: ScriptedScanner, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    limits = Limits(unsent_bytes=256 * 1024, kernel_unsent_bytes=16 * 1024)
    async with (
        ws_server(scanner.address, limits) as server,
        ws_client(server.port) as quick,
        # Compressed, little would be under way.
        ws_client(server.port, max_queue=1, compression=None) as slow,
    ):
        for client in (quick, slow):
            await client.subscribe("winners")
            await client.expect("snapshot")
        while winners.sequence < 60:
            big_change(winners, rng)
            view = await quick.until("winners", (EPOCH, winners.sequence))
        assert server.hub.slow_clients == 1
        assert (view.snapshots, view.deltas) == (1, winners.sequence)
        assert view.ranked == winners.json_rows
        view = await slow.until("winners", (EPOCH, winners.sequence))
        assert view.ranked == winners.json_rows
        assert view.snapshots >= 2
        assert view.deltas < winners.sequence - 20
        # Both are equals again.
        winners.shuffle(rng)
        snapshots = view.snapshots
        await slow.until("winners", (EPOCH, winners.sequence))
        assert view.snapshots == snapshots
        assert not server.hub.slow_clients


async def test_a_client_that_was_slow_for_a_moment_gets_the_little_that_it_missed(
    scanner: ScriptedScanner, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    limits = Limits(unsent_bytes=64 * 1024, kernel_unsent_bytes=16 * 1024)
    async with ws_server(scanner.address, limits) as server, ws_client(server.port, max_queue=1) as slow:
        await slow.subscribe("winners")
        await slow.expect("snapshot")
        await fill(server, winners, rng)
        moved = winners.rows[1::-1] + winners.rows[2:]
        winners.change_to(moved)
        await eventually(lambda: server.hub.broadcast("winners").feed.position.sequence == winners.sequence)
        view = await slow.until("winners", (EPOCH, winners.sequence))
        assert view.snapshots == 1
        assert view.ranked == winners.json_rows


async def test_a_client_that_does_not_read_at_all_is_closed_with_3008(
    scanner: ScriptedScanner, rng: random.Random
) -> None:
    winners = scanner.lists["winners"]
    limits = Limits(unsent_bytes=64 * 1024, kernel_unsent_bytes=16 * 1024, stall_seconds=0.4)
    closes = closed_with(3008)
    async with ws_server(scanner.address, limits) as server, ws_client(server.port) as other:
        await other.subscribe("winners")
        reading = asyncio.create_task(other.until("winners", (EPOCH, 100)))
        async with raw_client(server.port, receive_buffer=16 * 1024) as client:
            await client.upgrade()
            client.send(raw_ws.TEXT, b'{"action":"subscribe_list","list":"winners"}')
            await eventually(lambda: server.hub.broadcast("winners").subscribers == 2)
            await fill(server, winners, rng)
            await eventually(lambda: server.hub.closing)
            assert await client.close_code() == 3008
        await eventually(lambda: closed_with(3008) == closes + 1)
        while winners.sequence < 100:
            winners.change_to(winners.rows[::-1])
        assert (await reading).ranked == winners.json_rows


async def test_a_client_that_reads_slowly_is_not_closed(scanner: ScriptedScanner, rng: random.Random) -> None:
    winners = scanner.lists["winners"]
    limits = Limits(unsent_bytes=64 * 1024, kernel_unsent_bytes=16 * 1024, stall_seconds=0.4)
    async with ws_server(scanner.address, limits) as server:
        async with raw_client(server.port, receive_buffer=16 * 1024) as client:
            await client.upgrade()
            client.send(raw_ws.TEXT, b'{"action":"subscribe_list","list":"winners"}')
            await fill(server, winners, rng)
            began = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < began + 5 * limits.stall_seconds:
                await client.reader.read(2048)
                await asyncio.sleep(0.02)
                if not server.hub.slow_clients:
                    big_change(winners, rng)
            assert len(server.hub.clients) == 1


async def test_a_client_without_a_sign_of_life_is_closed_with_3008(scanner: ScriptedScanner) -> None:
    limits = Limits(ping_after_seconds=0.1, pong_within_seconds=0.1, close_seconds=0.1)
    async with ws_server(scanner.address, limits) as server, raw_client(server.port) as client:
        await client.upgrade()
        assert (await client.read())[0] == raw_ws.TEXT
        assert (await client.read())[0] == raw_ws.PING
        assert await client.close_code() == 3008
        # It does not answer that either: the connection is cut.
        await client.ended()


async def test_a_client_that_answers_pings_stays(scanner: ScriptedScanner) -> None:
    async with ws_server(scanner.address, Limits(ping_after_seconds=0.05)) as server, raw_client(server.port) as client:
        await client.upgrade()
        assert (await client.read())[0] == raw_ws.TEXT
        # There is no second ping before the answer to the first.
        for _ in range(3):
            opcode, payload = await client.read()
            assert opcode == raw_ws.PING
            client.send(raw_ws.PONG, payload)
        client.send(raw_ws.TEXT, b'{"action":"ping"}')
        while (frame := await client.read())[0] == raw_ws.PING:
            client.send(raw_ws.PONG, frame[1])
        assert frame == (raw_ws.TEXT, b'{"type":"pong"}')


async def test_a_cut_connection_is_forgotten(scanner: ScriptedScanner, server: WebSocketServer) -> None:
    async with raw_client(server.port) as client:
        await client.upgrade()
        client.send(raw_ws.TEXT, b'{"action":"subscribe_list","list":"winners"}')
        await eventually(lambda: server.hub.broadcast("winners").subscribers == 1)
        client.writer.transport.abort()
        await eventually(lambda: not server.hub.clients)
    assert server.hub.broadcast("winners").subscribers == 0


async def test_a_client_may_close_with_any_code(server: WebSocketServer) -> None:
    for code in (1000, 1001, 3000, 4999):
        async with raw_client(server.port) as client:
            await client.upgrade()
            client.send(raw_ws.CLOSE, code.to_bytes(2) + b"bye")
            assert await client.close_code() == code
            await client.ended()


# --- the handshake, and plain HTTP


async def test_plain_requests(server: WebSocketServer) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"websocket_server": "running"})
        health = await http.get("/health")
        assert health.status_code == 200
        assert health.json()["status"] == "healthy"
        server.set_unhealthy_reason("the scanner is away")
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/health")).json()["websocket_server"] == "running: the scanner is away"
        for path in ("/", "/ws", "/ws/scanner/", "/ws/scannerx"):
            assert (await http.get(path)).status_code == 404
        refused = await http.get("/ws/scanner?x=1")
        assert refused.status_code == 426
        body = refused.json()
        assert body["message"] == body["error"] == "expected a WebSocket upgrade at /ws/scanner"
        assert (body["code"], body["details"][0]["reason"]) == (3, "INVALID_REQUEST")
        assert (await http.post("/ws/scanner", content=b"x")).status_code == 400


async def test_a_websocket_on_another_path_is_404(server: WebSocketServer) -> None:
    async with raw_client(server.port) as client:
        assert b" 404 " in await client.upgrade(path="/ws/other")


@pytest.mark.parametrize("key", ["", "short", "dGhlIHNhbXBsZSBub25jZQ"])
async def test_a_websocket_without_a_key_gets_an_error_in_our_form(server: WebSocketServer, key: str) -> None:
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as http:
        refused = await http.get("/ws/scanner", headers={**upgrade, **({"sec-websocket-key": key} if key else {})})
    assert (refused.status_code, refused.json()["details"][0]["reason"]) == (400, "INVALID_REQUEST")
    assert refused.json()["message"] == "expected a Sec-WebSocket-Key of 16 bytes in base64"


@pytest.mark.parametrize("connection", ["Upgrade", "upgrade", "keep-alive, Upgrade", "Upgrade, keep-alive"])
async def test_browsers_write_the_upgrade_in_several_ways(server: WebSocketServer, connection: str) -> None:
    async with raw_client(server.port) as client:
        assert b" 101 " in await client.upgrade(connection=connection)


async def test_a_connection_that_does_not_ask_for_anything_is_cut(scanner: ScriptedScanner) -> None:
    async with ws_server(scanner.address, Limits(handshake_seconds=0.1)) as server:
        async with raw_client(server.port) as client:
            await client.ended()


async def test_bytes_that_are_no_http_are_answered_with_400(server: WebSocketServer) -> None:
    async with raw_client(server.port) as client:
        client.writer.write(b"\x16\x03\x01\x02\x00\r\n\r\n")
        assert b" 400 " in await client.reader.readline()
        await client.ended()


async def test_clients_above_the_bound_are_refused_with_503(scanner: ScriptedScanner) -> None:
    before = rejected("too_many_clients")
    async with ws_server(scanner.address, Limits(clients=2)) as server:
        async with ws_client(server.port) as first, ws_client(server.port):
            with pytest.raises(InvalidStatus) as refused:
                async with ws_client(server.port):
                    pass
            assert refused.value.response.status_code == 503
            assert rejected("too_many_clients") == before + 1
            await first.connection.close()
            await eventually(lambda: len(server.hub.clients) == 1)
            async with ws_client(server.port):
                pass
