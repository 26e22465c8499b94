"""analytics as a service: a copy of the market that follows the sequencer, its methods, and its writers."""

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, ClassVar, Final

import grpc.aio
from tradeul.v1 import analytics_pb2

from services.analytics.aggregates import CHANNEL, LatestBars
from services.analytics.bar_queue import BarQueue
from services.analytics.bar_writer import BarWriter
from services.analytics.board import MetricsBoard
from services.analytics.core import AnalyticsCore
from services.analytics.follower import MarketFollower
from services.analytics.redis_mirror import RedisMirror
from services.analytics.servicer import AnalyticsServicer
from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.server import add_servicer
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import make_client
from services.kit.stores.redis_channels import RedisChannels

log = get_logger(__name__)

TICK_SECONDS: Final = 1.0


class AnalyticsService(Service):
    """Serves once it has a whole state; goes on with what it has while the sequencer or a store is away."""

    name: ClassVar[str] = "analytics"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.core = AnalyticsCore(BarQueue())
        self.board = MetricsBoard(self.core)
        self._bars = LatestBars()
        self._channels: RedisChannels | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._resources = AsyncExitStack()

    async def start(self) -> None:
        settings = self.settings
        sequencer = settings.address("data_ingest")
        follower = MarketFollower(self.core, sequencer, self.board.tick, self._applied)
        self.follower = follower
        if settings.database_url:
            writer = BarWriter(settings.database_url, self.core, follower.catch_up)
            self._begin("bars", writer.run(), writer.close)
        else:
            log.warning("minute bars are not stored: TRADEUL_DATABASE_URL is not set")
            self._begin("bars", self._let_bars_go())
        if settings.redis_url:
            redis = make_client(settings.redis_url)
            self._resources.push_async_callback(redis.aclose)
            self._channels = RedisChannels(redis, (CHANNEL,))
            self._begin("redis", RedisMirror(redis, self.core).run())
            self._begin("channels", self._channels.run())
        else:
            log.warning("rvol, intraday and slot keys are not written: TRADEUL_REDIS_URL is not set")
        self._resources.push_async_callback(follower.close)
        reading = self._begin("reading", FrameReader(sequencer, follower, self.name).run())
        self._begin("ticking", self._tick())
        current = asyncio.create_task(follower.until_current(), name="analytics.until_current")
        try:
            # A reader that ends is a defect: then nothing would ever come.
            await asyncio.wait({reading, current}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
        finally:
            current.cancel()

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"]
        return (add_servicer(server, service, AnalyticsServicer(self.core, self.board)),)

    async def run(self) -> None:
        await asyncio.gather(*self._tasks)

    async def drain(self) -> None:
        self.board.close("analytics is stopping")

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._resources.aclose()

    def _begin(self, name: str, work: Coroutine[Any, Any, None], close: Any = None) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"analytics.{name}")
        self._tasks.append(task)
        if close is not None:
            self._resources.push_async_callback(close)
        return task

    def _applied(self, frame: memoryview) -> None:
        if self._channels is not None and self._channels.is_wanted(CHANNEL):
            self._bars.apply(self.core, frame)

    async def _tick(self) -> None:
        """Once a second: what streams show, and what the channel says."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.core.is_loaded:
                self.board.tick()
            if self._channels is not None and (message := self._bars.take()):
                self._channels.publish(CHANNEL, message)

    async def _let_bars_go(self) -> None:
        """Without a database nobody takes the bars."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.core.collect_bars()
            self.core.queue.clear()


def create(settings: Settings) -> AnalyticsService:
    """The service, for services/modules.py."""
    return AnalyticsService(settings)
