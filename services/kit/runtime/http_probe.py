"""The answer of an HTTP server, as of its readiness endpoint; aiohttp would cost each prober some 12 MB."""

import asyncio
from typing import Any, Final, NamedTuple

from services.kit.runtime.address import Address, ServiceAddress
from services.kit.runtime.errors import StartError
from services.kit.runtime.mesh_certificates import certificates_of

ANSWER_SECONDS: Final = 2.0
LONGEST: Final = 1 << 16


class HttpAnswer(NamedTuple):
    """The status and the beginning of the body."""

    status: int
    body: bytes


async def http_status(address: Address, path: str) -> int | None:
    """Returns the status of a GET; None when no answer comes in time."""
    answer = await http_answer(address, path)
    return None if answer is None else answer.status


async def http_answer(address: Address, path: str) -> HttpAnswer | None:
    """Returns the answer to a GET, with the first LONGEST bytes of its body; None when none comes in time."""
    tls: dict[str, Any] = {}
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            if isinstance(address, ServiceAddress) and address.tls is not None:
                tls = {"ssl": certificates_of(address.tls).current().client, "server_hostname": address.tls.name}
            reader, writer = await asyncio.open_connection(*address, **tls)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address.host}\r\nConnection: close\r\n\r\n".encode())
                words = (await reader.readline()).split()
                if len(words) < 2 or not words[1].isdigit():
                    return None
                return HttpAnswer(int(words[1]), await _body(reader))
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError, StartError):
        return None


async def _body(reader: asyncio.StreamReader) -> bytes:
    """Returns as much of the body as comes, at most LONGEST bytes."""
    length = LONGEST
    try:
        while (line := await reader.readline()).strip():
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length" and value.strip().isdigit():
                length = min(int(value), LONGEST)
        return await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        return error.partial
    except OSError:
        return b""
