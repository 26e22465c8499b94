"""The answer of an HTTP server, as of its readiness endpoint; httpx would cost each prober 0.2 s and some 15 MB."""

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
                data = b""
                while len(data) < LONGEST and (chunk := await reader.read(LONGEST)):
                    data += chunk
                head, _, body = data.partition(b"\r\n\r\n")
                words = head.split(maxsplit=2)
                return HttpAnswer(int(words[1]), body) if len(words) > 1 and words[1].isdigit() else None
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError, StartError):
        return None
