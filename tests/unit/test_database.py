"""A database that does not answer as one: an error of one line, and never a traceback."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from services.kit.runtime.errors import StartError
from services.kit.stores.database import claim_market, open_pool
from services.kit.stores.migrate import migrate


def refusal(code: str, message: str) -> bytes:
    fields = (
        b"".join(f"{kind}{value}\0".encode() for kind, value in (("S", "FATAL"), ("C", code), ("M", message))) + b"\0"
    )
    return b"E" + (4 + len(fields)).to_bytes(4) + fields


# What a server sends to the first bytes of a client before it closes the connection.
ANSWERS = {
    "nothing": b"",
    "another protocol": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "half a message": b"R\0\0",
    "starting up": refusal("57P03", "the database system is starting up"),
    "too many clients": refusal("53300", "sorry, too many clients already"),
}
USERS: dict[str, Callable[[str], Awaitable[object]]] = {
    "pool": lambda url: open_pool(url, wait_seconds=0.3),
    "migrations": migrate,
    "market": lambda url: claim_market(url, "SIMULATOR"),
}


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_database_that_refuses_ends_the_start_with_one_line(answer: str, user: str) -> None:
    clients = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal clients
        clients += 1
        await reader.read(8)
        writer.write(ANSWERS[answer])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StartError) as raised:
            await USERS[user](f"postgresql://user:secret@127.0.0.1:{port}/name?sslmode=disable")
    (line,) = str(raised.value).splitlines()
    assert f"127.0.0.1:{port}" in line and "secret" not in line
    # The pool waits for one that may soon be there.
    assert clients > 1 or user != "pool"


async def test_the_pool_waits_for_a_server_that_is_not_there_yet() -> None:
    with pytest.raises(StartError, match=r"no database at postgresql://user:\*\*\*@127.0.0.1:1/name: .*refused"):
        await open_pool("postgresql://user:secret@127.0.0.1:1/name", wait_seconds=0.3)
