"""Fetches the vendor's full-market snapshot in a process of its own, so that ten megabytes of JSON delay no trade.

The child is this module run as a program. Its first line of input is the
settings, each further one (SnapshotRules as JSON) a request. It answers with
messages of a length and msgpack: [symbols, columns] for each part, then
{"error": text, "set_aside": {reason: count}}. It dies with us.
"""

import asyncio
import contextlib
import os
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Final, Protocol

import msgspec

from services.data_ingest.vendor_snapshot.rows import SnapshotPart, SnapshotRules, snapshot_parts
from services.kit.runtime.logging import configure
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.setting_groups import PolygonSettings
from services.kit.runtime.settings import Settings
from services.kit.runtime.workers import end_worker, send, start_worker
from services.kit.vendor.client import VendorClient, VendorError
from services.kit.vendor.models import SnapshotTicker

WORKER: Final = "services.data_ingest.vendor_snapshot.source"
LENGTH: Final = struct.Struct("<I")
# The first byte of a part, a msgpack array of two.
PART_MARK: Final = b"\x92"
ATTEMPTS: Final = 3
# Fetching waits while those who serve need the processors.
NICENESS: Final = 10


class SnapshotError(Exception):
    """The snapshot could not be had."""


class SnapshotSource(Protocol):
    """Where snapshots come from. `set_aside` counts malformed rows by reason."""

    set_aside: Counter[str]

    def fetch(self, rules: SnapshotRules) -> AsyncIterator[SnapshotPart]:
        """One snapshot, in parts; raises SnapshotError."""
        ...


class _End(msgspec.Struct):
    error: str
    set_aside: dict[str, int]


class SnapshotProcess:
    """A SnapshotSource; the child starts with the first fetch, and again when it has ended. Close it."""

    def __init__(self, settings: Settings) -> None:
        self.set_aside: Counter[str] = Counter()
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None

    async def fetch(self, rules: SnapshotRules) -> AsyncIterator[SnapshotPart]:
        is_whole = False
        try:
            process = await self._running()
            assert process.stdin is not None and process.stdout is not None, "both are pipes"
            send(process, msgspec.json.encode(rules) + b"\n")
            await process.stdin.drain()
            while True:
                (size,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
                message = await process.stdout.readexactly(size)
                if message[:1] == PART_MARK:
                    yield msgspec.msgpack.decode(message, type=SnapshotPart)
                    continue
                is_whole = True
                end = msgspec.msgpack.decode(message, type=_End)
                self.set_aside.update(end.set_aside)
                if end.error:
                    raise SnapshotError(end.error)
                return
        except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
            raise SnapshotError(f"the snapshot's process failed: {reason_of(error)}") from error
        finally:
            if not is_whole:
                # The rest of the answer must not be read as the next one.
                await self.close()

    async def close(self) -> None:
        """Ends the child."""
        process, self._process = self._process, None
        if process is not None:
            await end_worker(process)

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await start_worker(WORKER, self._settings.model_dump_json().encode() + b"\n")
        return self._process


def answer(polygon: PolygonSettings, rules: SnapshotRules) -> Iterator[bytes]:
    """The messages of one snapshot."""
    try:
        tickers, malformed = asyncio.run(_tickers(polygon))
    except VendorError as error:
        yield msgspec.msgpack.encode(_End(reason_of(error), {}))
        return
    for part in snapshot_parts(tickers, rules):
        yield msgspec.msgpack.encode(part)
    yield msgspec.msgpack.encode(_End("", {"snapshot_row": malformed} if malformed else {}))


async def _tickers(polygon: PolygonSettings) -> tuple[list[SnapshotTicker], int]:
    """The snapshot's rows, and how many were malformed."""
    async with VendorClient(polygon.rest_url, polygon.api_key, attempts=ATTEMPTS) as vendor:
        return await vendor.snapshot(), vendor.set_aside.total()


def main() -> None:
    """The child: ends when its parent closes the pipe."""
    os.nice(NICENESS)
    settings = Settings.model_validate_json(sys.stdin.buffer.readline())
    configure(settings, "data_ingest")
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            for message in answer(settings.polygon, msgspec.json.decode(line, type=SnapshotRules)):
                sys.stdout.buffer.write(LENGTH.pack(len(message)))
                sys.stdout.buffer.write(message)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
