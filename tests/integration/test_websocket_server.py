"""The WebSocket door with real clients (the `websockets` package) and a scripted scanner."""

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from services.websocket_server.service import WebSocketServer
from tests.support.scripted_scanner import EPOCH, ScriptedScanner, scripted_scanner, ticker_row
from tests.support.ws_client import ws_client, ws_server


@pytest.fixture
async def scanner() -> AsyncIterator[ScriptedScanner]:
    async with scripted_scanner("gappers_up", "winners", "losers") as scanner:
        yield scanner


@pytest.fixture
async def server(scanner: ScriptedScanner) -> AsyncIterator[WebSocketServer]:
    async with ws_server(scanner.address) as server:
        yield server


async def test_a_new_subscriber_gets_the_list_and_then_every_change(
    scanner: ScriptedScanner, server: WebSocketServer
) -> None:
    rng = random.Random(1)
    winners = scanner.lists["winners"]
    winners.change_to([ticker_row(rng, symbol) for symbol in "ABC"])
    async with ws_client(server.port) as client:
        await client.subscribe("winners")
        snapshot = await client.expect("snapshot")
        assert snapshot["rows"] == winners.json_rows
        for _ in range(200):
            winners.shuffle(rng)
            await client.until("winners", (EPOCH, winners.sequence))
            assert client.lists["winners"].ranked == winners.json_rows
        assert client.heard == ["connected", "subscribed_list", "snapshot"] + 200 * ["delta"]
