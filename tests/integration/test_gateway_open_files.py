"""A gateway whose system allows it few open files closes the clients that it has no room for, and serves the others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.few_files import with_few_files

OPEN_FILES: Final = 200
# Half of the limit is left to the gateway, and half of the rest is for connections behind those of clients.
ROOM: Final = 50
# By the gateway: the service is not there.
SERVED: Final = "HTTP/1.1 503 Service Unavailable"
REQUEST: Final = b"GET /api/v1/scanner/lists HTTP/1.1\r\nHost: %s\r\n\r\n"
PROGRAM: Final = """
import asyncio, sys
from pathlib import Path
from tests.support.gateway import Gateway, gateway_settings

async def main():
    async with Gateway(gateway_settings(Path(sys.argv[1]))) as gateway:
        print("listening", gateway.address, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(main())
"""


class Client(NamedTuple):
    """A connection that stays open between requests."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    address: str

    async def status(self) -> str:
        """The status line of an answer; empty where the connection is closed without one."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(REQUEST % self.address.encode())
            if head := await self.reader.read(1 << 16):
                return head.split(b"\r\n")[0].decode()
        return ""


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator[Client]:
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Client(reader, writer, address)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def is_served(address: str) -> bool:
    """True if a new client is, of which nothing is left."""
    async with connected(address) as client:
        return await client.status() == SERVED


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """The gateway's, in a process that may open few files; nothing is behind it."""
    async with with_few_files(PROGRAM, OPEN_FILES, str(tmp_path)) as found:
        yield found


async def test_clients_beyond_the_open_files_are_closed_and_the_others_are_served(address: str) -> None:
    async with asyncio.timeout(60), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(address)) for _ in range(ROOM)]
        assert {await client.status() for client in clients} == {SERVED}
        refused = [await stack.enter_async_context(connected(address)) for _ in range(OPEN_FILES)]
        assert {await client.status() for client in refused} == {""}
        assert await clients[0].status() == SERVED
        clients[-1].writer.close()
        # Noticed a moment later.
        while not await is_served(address):
            await asyncio.sleep(0.01)
