"""TLS in front of a real store on a unix socket: the embedded ones are built without it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from tests.support.certificates import Pair
from tests.support.first_to_end import first_to_end

# What a PostgreSQL client asks first, and the answer "yes".
SSL_REQUEST, WITH_TLS = bytes.fromhex("0000000804d2162f"), b"S"


@contextlib.asynccontextmanager
async def tls_proxy(socket: Path, pair: Pair, *, postgres: bool = False) -> AsyncIterator[int]:
    """A port on 127.0.0.1 that speaks TLS, as PostgreSQL does when `postgres`, and passes all on to the socket."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pair.certificate, pair.key)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError), contextlib.closing(writer):
            if postgres:
                assert await reader.readexactly(len(SSL_REQUEST)) == SSL_REQUEST, "expected a client that wants TLS"
                writer.write(WITH_TLS)
                await writer.start_tls(context)
            store_reader, store_writer = await asyncio.open_unix_connection(str(socket))
            with contextlib.closing(store_writer):
                await first_to_end(copy(reader, store_writer), copy(store_reader, writer))
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if postgres else context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
