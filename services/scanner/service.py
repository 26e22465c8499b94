"""The scanner as a service: a copy of the market that follows the sequencer, and its public methods."""

import asyncio
from collections.abc import Coroutine
from typing import Any, ClassVar

import grpc.aio
from redis.asyncio import Redis
from tradeul.v1 import scanner_pb2

from services.kit.lists.definitions import load_lists
from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.server import add_servicer
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import make_client
from services.kit.stores.redis_channels import RedisChannels
from services.scanner.core import ScannerCore
from services.scanner.hub import ListHub
from services.scanner.redis_lists import RedisLists
from services.scanner.scan_results import ScanRecorder
from services.scanner.scan_writer import ScanWriter
from services.scanner.servicer import ScannerServicer
from services.scanner.snapshot_channel import CHANNEL, SnapshotChannel

log = get_logger(__name__)


class ScannerService(Service):
    """Serves once it has a whole state; goes on with what it has while the sequencer is away."""

    name: ClassVar[str] = "scanner"

    def __init__(self, settings: Settings, **limits: int) -> None:
        """`limits`: those of ListHub."""
        super().__init__(settings)
        # Trades of a simulated or replayed feed are of another time than the wall's.
        self.hub = ListHub(ScannerCore(load_lists()), measures_lag=settings.clock == "wall", **limits)
        self._reading: asyncio.Task[None] | None = None
        self._writer: ScanWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._lists: RedisLists | None = None
        self._redis: Redis | None = None

    async def start(self) -> None:
        if self.settings.is_replay:
            log.info("scan results are not stored: what a day shows was stored when it happened")
        elif self.settings.database_url:
            recorder = ScanRecorder(self.hub.core)
            self.hub.listeners.append(recorder)
            self._writer = ScanWriter(self.settings.database_url, recorder)
            self._begin("writing", self._writer.run())
        else:
            log.warning("scan results are not stored: TRADEUL_DATABASE_URL is not set")
        if self.settings.redis_url:
            self._redis = make_client(self.settings.redis_url)
            self._lists = RedisLists(self._redis, self.hub)
            channels = RedisChannels(self._redis, (CHANNEL,))
            self._begin("redis", self._lists.run())
            self._begin("channels", channels.run())
            self._begin("snapshots", SnapshotChannel(self.hub.core, channels).run())
        else:
            log.warning("lists are not written to redis: TRADEUL_REDIS_URL is not set")
        reader = FrameReader(self.settings.address("data_ingest"), self.hub, self.name)
        self._reading = self._begin("reading", reader.run())
        current = asyncio.create_task(self.hub.until_current(), name="scanner.until_current")
        try:
            # A reader that ends is a defect: then nothing would ever come.
            await asyncio.wait({self._reading, current}, return_when=asyncio.FIRST_COMPLETED)
            if self._reading.done():
                await self._reading
        finally:
            current.cancel()

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = scanner_pb2.DESCRIPTOR.services_by_name["ScannerService"]
        return (add_servicer(server, service, ScannerServicer(self.hub)),)

    async def run(self) -> None:
        assert self._reading is not None, "start() first"
        await asyncio.gather(*self._tasks)

    async def drain(self) -> None:
        self.hub.close("the scanner is stopping")

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            await self._writer.close()
        if self._lists is not None:
            await self._lists.close()
        if self._redis is not None:
            await self._redis.aclose()

    def _begin(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"scanner.{name}")
        self._tasks.append(task)
        return task


def create(settings: Settings) -> ScannerService:
    """The service, for services/modules.py."""
    return ScannerService(settings)
