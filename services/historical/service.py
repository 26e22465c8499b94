"""The service: one pool, one vendor client, and the loads."""

import contextlib
from collections.abc import AsyncIterator
from typing import ClassVar, Final

import grpc.aio
from tradeul.v1 import historical_pb2

from services.historical.loads import Loads
from services.historical.runner import Runner
from services.historical.servicer import HistoricalServicer
from services.kit.rpc.server import add_servicer
from services.kit.runtime.clock import wall_seconds
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings
from services.kit.stores.database import DATABASE_ERRORS, open_pool
from services.kit.vendor.client import VendorClient

log = get_logger(__name__)

# A connection holds each kind's lock; writers take the others.
CONNECTIONS: Final = 12
REQUESTS_AT_ONCE: Final = 8


@contextlib.asynccontextmanager
async def open_runner(settings: Settings, database_url: str, attempts: int = 8) -> AsyncIterator[Runner]:
    """A runner with its pool and vendor client; raises StartError when the database is not there."""
    polygon = settings.polygon
    async with contextlib.AsyncExitStack() as stack:
        pool = await open_pool(database_url, max_size=CONNECTIONS)
        stack.push_async_callback(pool.close)
        vendor = VendorClient(polygon.rest_url, polygon.api_key, concurrency=REQUESTS_AT_ONCE, attempts=attempts)
        await stack.enter_async_context(vendor)
        runner = Runner(settings, pool, vendor)
        try:
            if closed := await runner.jobs.close_leftovers():
                log.warning("loads whose process is gone were interrupted", job_ids=closed)
        except DATABASE_ERRORS as error:
            log.warning("loads cannot be looked at", error=reason_of(error))
        yield runner


class Historical(Service):
    """See historical.proto."""

    name: ClassVar[str] = "historical"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._stack = contextlib.AsyncExitStack()

    async def start(self) -> None:
        runner = await self._stack.enter_async_context(open_runner(self.settings, self.settings.database_url))
        self._loads = Loads(runner, wall_seconds())
        self._stack.push_async_callback(self._loads.close)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = historical_pb2.DESCRIPTOR.services_by_name["HistoricalService"]
        return (add_servicer(server, service, HistoricalServicer(self._loads)),)

    async def drain(self) -> None:
        self._loads.end_streams("historical is stopping")

    async def stop(self) -> None:
        await self._stack.aclose()


def create(settings: Settings) -> Service:
    """The factory that services/modules.py names."""
    return Historical(settings)
