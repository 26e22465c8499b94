"""A loader in a process of its own, so that decoding its megabytes of JSON never holds the caller's loop up.

The child reads a Request from its standard input and writes messages to its
standard output, each after its length: a batch, or how things stand. It dies with us.
"""

import asyncio
import datetime
import struct
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from services.data_ingest.reference.batch import ReferenceBatch, unpack
from services.data_ingest.reference.source import TradingDays
from services.data_ingest.worker_process import end_worker, start_worker
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings
from services.kit.stores.notifications import Kind

log = get_logger(__name__)

WORKER: Final = "services.data_ingest.reference.worker"
ATTEMPTS: Final = 3
HEADER: Final = struct.Struct("<IB")
BATCH, STANDING, END = 1, 2, 3
# More than a message ever has; longer is not ours.
LONGEST: Final = 64 * 1024 * 1024


class Request(msgspec.Struct):
    """What the child is to load."""

    settings: str
    day: datetime.date
    symbols: list[str] | None
    before: list[datetime.date] | None
    early_closes: list[datetime.date]
    retry_pause_s: float
    kinds: list[Kind] | None = None


class Standing(msgspec.Struct):
    """The loader's counters so far."""

    set_aside: dict[str, int]
    failed: dict[str, int]


class WorkerError(Exception):
    """The child ended before it was done, or wrote what is no message."""


class ReferenceProcess:
    """See source.ReferenceSource. The stores and the vendor are those of the settings.

    A child that ends before it is done is started again, twice; what it had sent
    already comes again. `failed` then has "process" too.
    """

    def __init__(self, settings: Settings, *, retry_pause_s: float = 30.0) -> None:
        self.set_aside: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.pid: int | None = None
        """The child's, while there is one."""
        self._settings = settings
        self._retry_pause_s = retry_pause_s

    async def load(
        self,
        day: datetime.date,
        symbols: Sequence[str] | None = None,
        days: TradingDays | None = None,
        kinds: Sequence[Kind] | None = None,
    ) -> AsyncIterator[ReferenceBatch]:
        """See source.ReferenceSource."""
        request = Request(
            self._settings.model_dump_json(),
            day,
            None if symbols is None else list(symbols),
            None if days is None else list(days.before),
            [] if days is None else sorted(days.early_closes),
            self._retry_pause_s,
            None if kinds is None else list(kinds),
        )
        before = (Counter(self.set_aside), Counter(self.failed))
        for attempt in range(ATTEMPTS):
            try:
                process = await self._start(request)
                try:
                    assert process.stdout is not None
                    async for batch in self._read(process.stdout, *before):
                        yield batch
                finally:
                    await self._end(process)
            except WorkerError as error:
                before[1]["process"] += 1
                self.failed["process"] = before[1]["process"]
                log.error("reference loader ended early", error=reason_of(error), attempt=attempt + 1)
            else:
                return

    async def _start(self, request: Request) -> asyncio.subprocess.Process:
        process = await start_worker(WORKER, msgspec.msgpack.encode(request))
        self.pid = process.pid
        assert process.stdin is not None, "it is a pipe"
        process.stdin.close()
        return process

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        await end_worker(process)
        self.pid = None

    async def _read(
        self, stream: asyncio.StreamReader, set_aside: Counter[str], failed: Counter[str]
    ) -> AsyncIterator[ReferenceBatch]:
        while True:
            try:
                length, kind = HEADER.unpack(await stream.readexactly(HEADER.size))
                if length > LONGEST:
                    raise WorkerError(f"expected at most {LONGEST} bytes, was {length}")
                body = await stream.readexactly(length)
                if kind == BATCH:
                    yield unpack(body)
                elif kind == STANDING:
                    standing = msgspec.msgpack.decode(body, type=Standing)
                    self.set_aside = set_aside + Counter(standing.set_aside)
                    self.failed = failed + Counter(standing.failed)
                elif kind == END:
                    return
                else:
                    raise WorkerError(f"expected a message of kind 1 to 3, was {kind}")
            except (asyncio.IncompleteReadError, msgspec.MsgspecError, ValueError) as error:
                raise WorkerError(reason_of(error)) from error
