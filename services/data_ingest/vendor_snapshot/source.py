"""Fetches the vendor's full-market snapshot in a process of its own, so that ten megabytes of JSON delay no trade.

The child is this module run as a program. Its input is two lines of JSON, the
settings and SnapshotRules. It answers with messages of a length and msgpack:
[symbols, columns] for each part, then {"error": text, "set_aside": {reason: count}},
and ends: waiting for the next one, it would hold 60 MB. It dies with us.
"""

import asyncio
import contextlib
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Final, Protocol

import msgspec

from services.data_ingest.vendor_snapshot.rows import SnapshotPart, SnapshotRules, snapshot_parts
from services.kit.runtime.logging import configure
from services.kit.runtime.patient_starts import start_worker_patiently
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.setting_groups import PolygonSettings
from services.kit.runtime.settings import Settings
from services.kit.runtime.worker_messages import read_message, write_message
from services.kit.runtime.workers import end_worker
from services.kit.vendor.client import VendorClient, VendorError
from services.kit.vendor.models import SnapshotTicker

WORKER: Final = "services.data_ingest.vendor_snapshot.source"
# The first byte of a part, a msgpack array of two.
PART_MARK: Final = b"\x92"
ATTEMPTS: Final = 3


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
    """A SnapshotSource with a child for each fetch. Close it."""

    def __init__(self, settings: Settings) -> None:
        self.set_aside: Counter[str] = Counter()
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None

    async def fetch(self, rules: SnapshotRules) -> AsyncIterator[SnapshotPart]:
        request = self._settings.model_dump_json().encode() + b"\n" + msgspec.json.encode(rules) + b"\n"
        try:
            self._process = process = await start_worker_patiently(WORKER, request)
            while True:
                message = await read_message(process)
                if message[:1] == PART_MARK:
                    yield msgspec.msgpack.decode(message, type=SnapshotPart)
                    continue
                end = msgspec.msgpack.decode(message, type=_End)
                self.set_aside.update(end.set_aside)
                if end.error:
                    raise SnapshotError(end.error)
                return
        except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError) as error:
            raise SnapshotError(f"the snapshot's process failed: {reason_of(error)}") from error
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends the child."""
        process, self._process = self._process, None
        if process is not None:
            await end_worker(process)


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
    """The child: ends after its answer, or when its parent closes the pipe."""
    settings = Settings.model_validate_json(sys.stdin.buffer.readline())
    configure(settings, "data_ingest")
    rules = msgspec.json.decode(sys.stdin.buffer.readline(), type=SnapshotRules)
    with contextlib.suppress(BrokenPipeError):
        for message in answer(settings.polygon, rules):
            write_message(sys.stdout.buffer, message)


if __name__ == "__main__":
    main()
