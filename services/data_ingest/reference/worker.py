"""The process that process.ReferenceProcess starts."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from typing import Final

import asyncpg
import msgspec
import uvloop
from redis.asyncio import Redis

from services.data_ingest.reference.batch import pack
from services.data_ingest.reference.loader import ReferenceLoader
from services.data_ingest.reference.process import BATCH, END, HEADER, STANDING, Request, Standing
from services.data_ingest.reference.source import TradingDays
from services.kit.runtime import logging
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings
from services.kit.stores.database import open_pool
from services.kit.stores.redis import open_redis
from services.kit.vendor.client import VendorClient

log = get_logger(__name__)

# Loading waits while those who serve need the processors.
NICENESS: Final = 10
# The vendor's answers are megabytes: what is asked for twice at once is decoded twice at once.
REQUESTS_AT_ONCE: Final = 12
# What still fails is asked for again at the end.
ATTEMPTS: Final = 4


class Writer:
    """Messages to the parent; waits when it does not read."""

    def __init__(self, file_descriptor: int) -> None:
        self._file_descriptor = file_descriptor

    async def send(self, kind: int, body: bytes) -> None:
        message = memoryview(HEADER.pack(len(body), kind) + body)
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
    """Loads what is asked for and writes it."""
    days = None if request.before is None else TradingDays(tuple(request.before), frozenset(request.early_closes))
    missing: dict[str, int] = {}
    async with AsyncExitStack() as stack:
        pool, redis = await stores(settings, stack, missing)
        polygon = settings.polygon
        vendor = await stack.enter_async_context(
            VendorClient(polygon.rest_url, polygon.api_key, concurrency=REQUESTS_AT_ONCE, attempts=ATTEMPTS)
        )
        loader = ReferenceLoader(settings, pool, redis, vendor, retry_pause_s=request.retry_pause_s)
        loader.failed.update(missing)
        async for batch in loader.load(request.day, request.symbols, days, request.kinds):
            await writer.send(BATCH, pack(batch))
            await writer.send(STANDING, standing(loader))
        await writer.send(STANDING, standing(loader))
    await writer.send(END, b"")


def standing(loader: ReferenceLoader) -> bytes:
    return msgspec.msgpack.encode(Standing(dict(loader.set_aside), dict(loader.failed)))


def main() -> None:
    os.nice(NICENESS)
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
