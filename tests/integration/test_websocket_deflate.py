"""Compressed messages over real connections: whoever offers permessage-deflate gets them, and may send them."""

import asyncio
import json
import random
import zlib

import pytest
from websockets.extensions.permessage_deflate import PerMessageDeflate

from services.websocket_server.service import WebSocketServer
from tests.support import raw_ws, websocket_fixtures
from tests.support.raw_ws import raw_client
from tests.support.scripted_scanner import EPOCH, ScriptedScanner, ticker_row
from tests.support.ws_client import ws_client

OFFER = "permessage-deflate; client_max_window_bits"
RSV1 = 4

scanner = websocket_fixtures.scanner
server = websocket_fixtures.server
rng = websocket_fixtures.rng


def compressed(payload: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return (deflater.compress(payload) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def test_with_and_without_compression_clients_have_the_same(
    scanner: ScriptedScanner,
    server: WebSocketServer,
    rng: random.Random,
) -> None:
    winners = scanner.lists["winners"]
    winners.change_to([ticker_row(rng, f"S{i}") for i in range(30)])
    async with ws_client(server.port) as some, ws_client(server.port, compression=None) as others:
        (extension,) = some.connection.protocol.extensions
        assert isinstance(extension, PerMessageDeflate)
        assert extension.remote_no_context_takeover
        assert extension.local_no_context_takeover
        assert not others.connection.protocol.extensions
        for client in (some, others):
            await client.subscribe("winners")
            await client.expect("snapshot")
        for _ in range(20):
            winners.shuffle(rng)
        for client in (some, others):
            view = await client.until("winners", (EPOCH, winners.sequence))
            assert view.ranked == winners.json_rows
            assert (view.snapshots, view.deltas) == (1, 20)


async def test_large_messages_are_compressed_and_small_ones_are_not(
    scanner: ScriptedScanner,
    server: WebSocketServer,
    rng: random.Random,
) -> None:
    scanner.lists["winners"].change_to([ticker_row(rng, f"S{i}") for i in range(10)])
    async with raw_client(server.port) as client:
        head = await client.upgrade(extensions=OFFER)
        assert b"permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n" in head
        kind = {}
        client.send(raw_ws.TEXT, compressed(b'{"action":"subscribe_list","list":"winners"}'), rsv=RSV1)
        for _ in range(3):
            first, payload = await client.read_first()
            is_deflated = bool(first & raw_ws.RSV1_BIT)
            text = raw_ws.inflated(payload) if is_deflated else payload
            kind[json.loads(text)["type"]] = is_deflated
        assert kind == {"connected": False, "subscribed_list": False, "snapshot": True}


async def test_a_compressed_message_may_come_in_parts(server: WebSocketServer) -> None:
    message = compressed(b'{"action":"ping"}')
    async with raw_client(server.port) as client:
        await client.upgrade(extensions=OFFER)
        client.send(raw_ws.TEXT, message[:5], fin=False, rsv=RSV1)
        client.send(raw_ws.CONTINUATION, message[5:])
        assert [await client.read() for _ in range(2)][1] == (raw_ws.TEXT, b'{"type":"pong"}')


@pytest.mark.parametrize(
    ("extensions", "payload", "code"),
    [
        ("", compressed(b'{"action":"ping"}'), 1002),
        (OFFER, b"\xff\xff\xff\xff", 1007),
        (OFFER, compressed(b"\xff"), 1007),
        (OFFER, compressed(b" " * 1_000_000), 1009),
    ],
)
async def test_what_cannot_be_read_closes(
    server: WebSocketServer,
    extensions: str,
    payload: bytes,
    code: int,
) -> None:
    async with raw_client(server.port) as client:
        await client.upgrade(extensions=extensions)
        client.send(raw_ws.TEXT, payload, rsv=RSV1)
        async with asyncio.timeout(60):
            assert await client.close_code() == code
