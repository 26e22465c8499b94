"""The proxy of the robustness runs does what it says to real connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest_asyncio

from tests.support.fault_proxy import FaultProxy

SHORT = 0.1


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()


@pytest_asyncio.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with FaultProxy("127.0.0.1", server.sockets[0].getsockname()[1], seed=1) as proxy:
        yield proxy
    server.close()


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def echoed(self, data: bytes) -> bytes:
        """What comes back of it until the connection ends or all is there."""
        self.writer.write(data)
        received = b""
        with contextlib.suppress(OSError):
            while len(received) < len(data) and (part := await self.reader.read(65_536)):
                received += part
        return received


class Clients:
    """Connects clients to the proxy, and closes them at the end."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy = proxy
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        self._clients.append(client := Client(*await asyncio.open_connection("127.0.0.1", self._proxy.port)))
        return client

    async def close(self) -> None:
        for client in self._clients:
            client.writer.close()
            with contextlib.suppress(OSError):
                await client.writer.wait_closed()


@pytest_asyncio.fixture
async def clients(proxy: FaultProxy) -> AsyncIterator[Clients]:
    clients = Clients(proxy)
    yield clients
    await clients.close()


async def test_without_a_fault_everything_passes(clients: Clients) -> None:
    data = bytes(range(256)) * 4096
    assert await (await clients.connect()).echoed(data) == data


async def test_a_cut_ends_connections_and_refuses_new_ones_until_healed(proxy: FaultProxy, clients: Clients) -> None:
    client = await clients.connect()
    assert await client.echoed(b"before") == b"before"
    proxy.cut()
    assert await client.echoed(b"lost") == b""
    assert await (await clients.connect()).echoed(b"refused") == b""
    proxy.heal()
    assert await (await clients.connect()).echoed(b"after") == b"after"


async def test_what_is_held_passes_when_it_is_healed(proxy: FaultProxy, clients: Clients) -> None:
    client = await clients.connect()
    assert await client.echoed(b"before") == b"before"
    proxy.hold()
    waiting = asyncio.create_task(client.echoed(b"held"))
    done, _ = await asyncio.wait({waiting}, timeout=SHORT)
    assert not done
    proxy.heal()
    assert await waiting == b"held"


async def test_what_is_delayed_or_throttled_comes_later_and_whole(proxy: FaultProxy, clients: Clients) -> None:
    client = await clients.connect()
    proxy.delay(4 * SHORT)
    await not_before(SHORT, client.echoed(b"late"), b"late")
    proxy.heal()
    proxy.throttle(10_000)
    data = bytes(range(256)) * 16
    await not_before(SHORT, client.echoed(data), data)


async def not_before(seconds: float, receiving: Coroutine[Any, Any, bytes], data: bytes) -> None:
    """These data are received, later than that. Both times are timers of one loop, so that a stall delays both."""
    waiting = asyncio.create_task(receiving)
    done, _ = await asyncio.wait({waiting}, timeout=seconds)
    assert not done
    assert await waiting == data


async def test_a_truncated_connection_ends_in_the_middle(proxy: FaultProxy, clients: Clients) -> None:
    client = await clients.connect()
    assert await client.echoed(b"before") == b"before"
    proxy.truncate()
    data = b"0123456789"
    received = await client.echoed(data)
    assert data.startswith(received) and len(received) < len(data)


async def test_connections_get_ahead_of_each_other(proxy: FaultProxy, clients: Clients) -> None:
    proxy.reorder(10 * SHORT)
    several = [await clients.connect() for _ in range(8)]
    arrived: list[int] = []

    async def ask(number: int, client: Client) -> None:
        assert await client.echoed(b"x") == b"x"
        arrived.append(number)

    await asyncio.gather(*(ask(number, client) for number, client in enumerate(several)))
    assert sorted(arrived) == list(range(8))
    assert arrived != sorted(arrived)
