"""A WebSocket server whose system allows it few open files refuses clients by name, and keeps those it has."""

import asyncio
import contextlib
from typing import Final

import pytest
from websockets.exceptions import InvalidStatus

from tests.support import websocket_fixtures
from tests.support.few_files import with_few_files
from tests.support.scripted_scanner import ScriptedScanner
from tests.support.ws_client import ws_client

scanner = websocket_fixtures.scanner

OPEN_FILES: Final = 128
ROOM: Final = 64
PROGRAM: Final = """
import asyncio, sys
from tests.support.ws_client import ws_server

async def main():
    async with ws_server(sys.argv[1]) as server:
        print("listening", server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


async def test_clients_beyond_the_open_files_are_refused_and_the_others_stay(scanner: ScriptedScanner) -> None:
    async with (
        with_few_files(PROGRAM, OPEN_FILES, scanner.address) as found,
        asyncio.timeout(60),
        contextlib.AsyncExitStack() as stack,
    ):
        port = int(found)
        clients = [await stack.enter_async_context(ws_client(port)) for _ in range(ROOM)]
        for _ in range(OPEN_FILES):
            with pytest.raises(InvalidStatus) as refused:
                await stack.enter_async_context(ws_client(port))
            assert refused.value.response.status_code == 503
            assert f"limit reached: {ROOM} clients".encode() in refused.value.response.body
        # A client of before is served on, with a list that the server begins to follow only now.
        await clients[0].subscribe("winners")
        await clients[0].expect("snapshot")
        await clients[-1].connection.close()
        await _is_admitted(port)


async def _is_admitted(port: int) -> None:
    """Waits until the server has noticed that a client left."""
    while True:
        try:
            async with ws_client(port):
                return
        except InvalidStatus:
            await asyncio.sleep(0.01)
