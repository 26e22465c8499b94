"""The status of an HTTP server, by its readiness endpoint; httpx would cost each prober 0.2 s and some 15 MB."""

import asyncio
from typing import Any, Final

from services.kit.runtime.address import Address, ServiceAddress
from services.kit.runtime.errors import StartError
from services.kit.runtime.mesh_certificates import certificates_of

ANSWER_SECONDS: Final = 2.0


async def http_status(address: Address, path: str) -> int | None:
    """Returns the status of a GET; None when no answer comes in time."""
    tls: dict[str, Any] = {}
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            if isinstance(address, ServiceAddress) and address.tls is not None:
                tls = {"ssl": certificates_of(address.tls).current().client, "server_hostname": address.tls.name}
            reader, writer = await asyncio.open_connection(*address, **tls)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {address.host}\r\nConnection: close\r\n\r\n".encode())
                words = (await reader.readline()).split()
                return int(words[1]) if len(words) > 1 and words[1].isdigit() else None
            finally:
                writer.close()
                await writer.wait_closed()
    except (OSError, TimeoutError, StartError):
        return None
