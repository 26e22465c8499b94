"""analytics as a service: a copy of the market, its methods, and its writers to the stores."""

import asyncio
from typing import ClassVar, Final

import grpc.aio
from tradeul.v1 import analytics_pb2

from services.analytics import metrics
from services.analytics.bar_catch_up import BarCatchUp
from services.analytics.bar_queue import BarQueue
from services.analytics.bar_writer import BarWriter
from services.analytics.core import AnalyticsCore
from services.analytics.metrics_broadcast import MetricsBroadcast
from services.analytics.redis_mirror import AGGREGATES_CHANNEL, LatestBars, RedisMirror
from services.analytics.servicer import AnalyticsServicer
from services.kit.rpc.frames import Frame
from services.kit.rpc.market_copy import MarketCopy, MarketCopyService
from services.kit.rpc.server import add_servicer
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import make_client
from services.kit.stores.redis_channels import RedisChannels

log = get_logger(__name__)

TICK_SECONDS: Final = 1.0


class AnalyticsService(MarketCopyService):
    """Without a store, what would be written there is left out."""

    name: ClassVar[str] = "analytics"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.core = AnalyticsCore(BarQueue())
        self.broadcast = MetricsBroadcast(self.core)
        self._bars = LatestBars()
        self._channels: RedisChannels | None = None

    async def start(self) -> None:
        settings = self.settings
        catch_up = BarCatchUp(self.core, settings.address("data_ingest"))
        self.copy = AnalyticsCopy(self, catch_up)
        if settings.database_url:
            writer = BarWriter(settings.database_url, self.core, catch_up.since)
            self.begin("bars", writer.run(), writer.close)
        else:
            log.warning("minute bars are not stored: TRADEUL_DATABASE_URL is not set")
            self.begin("bars", self._drop_bars())
        if settings.redis_url:
            redis = make_client(settings.redis_url)
            self.close_at_stop(redis.aclose)
            self._channels = RedisChannels(redis, (AGGREGATES_CHANNEL,))
            self.begin("redis", RedisMirror(redis, self.core).run())
            self.begin("channels", self._channels.run())
        else:
            log.warning("rvol, intraday and slot keys are not written: TRADEUL_REDIS_URL is not set")
        self.close_at_stop(catch_up.close)
        self.begin("ticking", self._tick())
        await self.follow(self.copy)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"]
        return (add_servicer(server, service, AnalyticsServicer(self.core, self.broadcast)),)

    async def drain(self) -> None:
        self.broadcast.close("analytics is stopping")

    def take_bars(self, frame: Frame) -> None:
        """Keeps the newest bars while somebody is subscribed to their channel."""
        if self._channels is not None and self._channels.is_wanted(AGGREGATES_CHANNEL):
            self._bars.apply(self.core, frame)

    async def _tick(self) -> None:
        """Once a second: publishes what streams show, and the channel's message."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.core.is_loaded:
                self.broadcast.tick()
            if self._channels is not None and (message := self._bars.take()):
                self._channels.publish(AGGREGATES_CHANNEL, message)

    async def _drop_bars(self) -> None:
        """Without a database nobody takes the bars."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.core.collect_bars()
            self.core.queue.clear()


class AnalyticsCopy(MarketCopy[None]):
    """The service's copy of the market."""

    def __init__(self, service: AnalyticsService, catch_up: BarCatchUp) -> None:
        super().__init__(service.core, metrics.SERVICE, metrics.IS_CURRENT)
        self._service = service
        self._catch_up = catch_up

    def frame_applied(self, frame: Frame, applied: None) -> None:
        self._service.take_bars(frame)

    def market_replaced(self, reason: str) -> None:
        self._catch_up.begin()
        self._service.broadcast.tick()


def create(settings: Settings) -> AnalyticsService:
    """The service, for services/modules.py."""
    return AnalyticsService(settings)
