"""Reads one URL over a number of kept-alive connections for some seconds: a process of its own.

    python -m bench.http_load HOST PORT PATH CONNECTIONS SECONDS

Prints {"requests", "seconds", "p50_ms", "p99_ms", "bytes"} as JSON; ends with an error at any answer but 200.
"""

import asyncio
import json
import re
import sys
from typing import Final, cast

import numpy as np
import uvloop

from services.kit.runtime.clock import monotonic

LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Reader(asyncio.Protocol):
    """One connection: the next request goes out when the answer before is whole."""

    def __init__(self, request: bytes, delays: list[float]) -> None:
        self.failed: str | None = None
        self.body_bytes = 0
        self._request = request
        self._delays = delays
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._missing = 0
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by its class.
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def connection_lost(self, error: Exception | None) -> None:
        self.failed = self.failed or (None if error is None else str(error))

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = LENGTH.search(self._head, 0, end)
            if not self._head.startswith(b"HTTP/1.1 200") or length is None:
                self.failed = f"expected 200 with a length, was {self._head[:200]!r}"
                self.close()
                return
            self.body_bytes = int(length[1])
            self._missing = self.body_bytes - (len(self._head) - end - 4)
            self._head = b""
        else:
            self._missing -= len(data)
        if not self._missing:
            self._delays.append(monotonic() - self._sent)
            self._ask()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _ask(self) -> None:
        assert self._transport is not None
        self._sent = monotonic()
        self._transport.write(self._request)


async def load(host: str, port: int, path: str, connections: int, seconds: float) -> dict[str, float]:
    delays: list[float] = []
    request = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAccept: application/json\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    readers = [
        (await loop.create_connection(lambda: Reader(request, delays), host, port))[1] for _ in range(connections)
    ]
    delays.clear()
    began = monotonic()
    await asyncio.sleep(seconds)
    took, measured = monotonic() - began, list(delays)
    for reader in readers:
        if reader.failed:
            raise RuntimeError(reader.failed)
        reader.close()
    p50, p99 = np.percentile(measured, [50, 99]) * 1e3
    size = max(reader.body_bytes for reader in readers)
    return {"requests": len(measured), "seconds": took, "p50_ms": float(p50), "p99_ms": float(p99), "bytes": size}


def main() -> None:
    host, port, path, connections, seconds = sys.argv[1:]
    result = uvloop.run(load(host, int(port), path, int(connections), float(seconds)))
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
