"""A loader in a process of its own, so that decoding its megabytes of JSON never holds the caller's loop up.

The child is this module run as a program. It reads a Request from its standard input and writes messages to its
standard output (worker_messages.py), whose first byte says what they are: a batch, the loader's counters, or the end.
It dies with us.
"""

import asyncio
import datetime
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Final

import asyncpg
import msgspec
import uvloop
from redis.asyncio import Redis

from services.data_ingest.reference.batch import ReferenceBatch, pack, unpack
from services.data_ingest.reference.load import HistoryDays
from services.data_ingest.reference.loader import ReferenceLoader
from services.kit.runtime import logging
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.patient_starts import start_worker_patiently
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings
from services.kit.runtime.worker_messages import framed, read_message
from services.kit.runtime.workers import end_worker
from services.kit.stores.database import open_pool
from services.kit.stores.notifications import Kind
from services.kit.stores.redis import open_redis
from services.kit.vendor.client import VendorClient

log = get_logger(__name__)

WORKER: Final = "services.data_ingest.reference.process"
ATTEMPTS: Final = 3
BATCH, COUNTERS, END = 1, 2, 3
# The vendor's answers are megabytes: so many are decoded at once.
REQUESTS_AT_ONCE: Final = 12
# What still fails is requested again at the end.
VENDOR_ATTEMPTS: Final = 4


class Request(msgspec.Struct):
    """The load that the child has to do."""

    settings: str
    day: datetime.date
    symbols: list[str] | None
    before: list[datetime.date] | None
    early_closes: list[datetime.date]
    retry_pause_s: float
    kinds: list[Kind] | None = None


class Counters(msgspec.Struct):
    """The loader's counters so far."""

    set_aside: dict[str, int]
    failed: dict[str, int]


class WorkerError(Exception):
    """The child ended before it was done, or wrote what is no message."""


class ReferenceProcess:
    """See source.ReferenceSource. The stores and the vendor are those of the settings.

    A child that ends before it is done is started again, twice; what it had sent
    already comes again. `failed` then has "process" too. One that cannot be started
    for want of open files or memory is waited for.
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
        days: HistoryDays | None = None,
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
                    async for batch in self._read(process, *before):
                        yield batch
                finally:
                    await self._end(process)
            except (WorkerError, OSError) as error:
                before[1]["process"] += 1
                self.failed["process"] = before[1]["process"]
                log.error("reference loader ended early", error=reason_of(error), attempt=attempt + 1)
            else:
                return

    async def _start(self, request: Request) -> asyncio.subprocess.Process:
        process = await start_worker_patiently(WORKER, msgspec.msgpack.encode(request))
        self.pid = process.pid
        assert process.stdin is not None, "it is a pipe"
        process.stdin.close()
        return process

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        await end_worker(process)
        self.pid = None

    async def _read(
        self, process: asyncio.subprocess.Process, set_aside: Counter[str], failed: Counter[str]
    ) -> AsyncIterator[ReferenceBatch]:
        while True:
            try:
                message = await read_message(process)
                kind, body = message[0] if message else 0, memoryview(message)[1:]
                if kind == BATCH:
                    yield unpack(body)
                elif kind == COUNTERS:
                    counters = msgspec.msgpack.decode(body, type=Counters)
                    self.set_aside = set_aside + Counter(counters.set_aside)
                    self.failed = failed + Counter(counters.failed)
                elif kind == END:
                    return
                else:
                    raise WorkerError(f"expected a message of kind 1 to 3, was {kind}")
            except (asyncio.IncompleteReadError, OSError, msgspec.MsgspecError, ValueError) as error:
                raise WorkerError(reason_of(error)) from error


# --- the child


class Writer:
    """Messages to the parent; waits when it does not read."""

    def __init__(self, file_descriptor: int) -> None:
        self._file_descriptor = file_descriptor

    async def send(self, kind: int, body: bytes) -> None:
        message = memoryview(framed(bytes((kind,)) + body))
        while message:
            # A full pipe must not hold up the requests under way.
            written = await asyncio.to_thread(os.write, self._file_descriptor, message)
            message = message[written:]


async def stores(
    settings: Settings, stack: AsyncExitStack, loader_failed: dict[str, int]
) -> tuple[asyncpg.Pool | None, Redis | None]:
    """The pool and the Redis client of the settings; None for one that is not there, which counts as empty."""
    pool = redis = None
    if settings.database_url:
        try:
            pool = await open_pool(settings.database_url)
            stack.push_async_callback(pool.close)
        except StartError as error:
            loader_failed["postgres"] = 1
            log.error("no database", error=reason_of(error))
    # Redis holds what is current, which a day of the past must not see.
    if settings.redis_url and not settings.is_replay:
        try:
            redis = await open_redis(settings.redis_url)
            stack.push_async_callback(redis.aclose)
        except StartError as error:
            loader_failed["redis"] = 1
            log.error("no Redis", error=reason_of(error))
    return pool, redis


async def run(request: Request, settings: Settings, writer: Writer) -> None:
    """Loads what the request wants, and writes it."""
    days = None if request.before is None else HistoryDays(tuple(request.before), frozenset(request.early_closes))
    missing: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        pool, redis = await stores(settings, stack, missing)
        polygon = settings.polygon
        vendor = await stack.enter_async_context(
            VendorClient(polygon.rest_url, polygon.api_key, concurrency=REQUESTS_AT_ONCE, attempts=VENDOR_ATTEMPTS)
        )
        loader = ReferenceLoader(settings, pool, redis, vendor, retry_pause_s=request.retry_pause_s)
        loader.failed.update(missing)
        async for batch in loader.load(request.day, request.symbols, days, request.kinds):
            await writer.send(BATCH, pack(batch))
            await writer.send(COUNTERS, counters_of(loader))
        await writer.send(COUNTERS, counters_of(loader))
    await writer.send(END, b"")


def counters_of(loader: ReferenceLoader) -> bytes:
    return msgspec.msgpack.encode(Counters(dict(loader.set_aside), dict(loader.failed)))


def main() -> None:
    request = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Request)
    settings = Settings.model_validate_json(request.settings)
    logging.configure(settings, "data_ingest")
    try:
        uvloop.run(run(request, settings, Writer(sys.stdout.fileno())))
    except BrokenPipeError:
        # The parent wants no more.
        sys.exit(1)


if __name__ == "__main__":
    main()
