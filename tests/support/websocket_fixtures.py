"""Fixtures of the WebSocket gateway's tests; a file names those that it uses: `rng = websocket_fixtures.rng`."""

import random
from collections.abc import AsyncIterator
from typing import Final

import pytest

from services.websocket_server.service import WebSocketServer
from tests.support.scripted_scanner import ScriptedScanner, scripted_scanner
from tests.support.ws_client import ws_server

LISTS: Final = ("gappers_up", "winners", "losers")


@pytest.fixture
async def scanner() -> AsyncIterator[ScriptedScanner]:
    """Its lists, those of LISTS, are empty."""
    async with scripted_scanner(*LISTS) as scanner:
        yield scanner


@pytest.fixture
async def server(scanner: ScriptedScanner) -> AsyncIterator[WebSocketServer]:
    """Fed by `scanner`, with the usual limits."""
    async with ws_server(scanner.address) as server:
        yield server


@pytest.fixture
def rng() -> random.Random:
    return random.Random(11)
