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
from services.analytics.redis_mirror import AGGREGATES_CHANNEL, AggregatesChannel, RedisMirror
from services.analytics.servicer import AnalyticsServicer
from services.kit.rpc.frame_reader import PATIENT_SECONDS
from services.kit.rpc.frames import Frame
from services.kit.rpc.market_copy import MarketCopy, MarketCopyService
from services.kit.rpc.server import add_servicer
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import make_client
from services.kit.stores.redis_channels import RedisChannels

log = get_logger(__name__)

TICK_SECONDS: Final = 1.0


class AnalyticsCopy(MarketCopy[None]):
    """The copy of the market, and what follows from its frames."""

    def __init__(self, core: AnalyticsCore, broadcast: MetricsBroadcast, catch_up: BarCatchUp) -> None:
        super().__init__(core, metrics.SERVICE, metrics.IS_CURRENT)
        self.aggregates: AggregatesChannel | None = None
        self._analytics = core
        self._broadcast = broadcast
        self._catch_up = catch_up

    def frame_applied(self, frame: Frame, applied: None) -> None:
        if self.aggregates is not None:
            self.aggregates.apply(self._analytics, frame)

    def market_replaced(self, reason: str) -> None:
        self._catch_up.begin()
        self._broadcast.tick()


class AnalyticsService(MarketCopyService):
    """Without a store, what would be written there is left out."""

    name: ClassVar[str] = "analytics"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.core = AnalyticsCore(BarQueue())
        self.broadcast = MetricsBroadcast(self.core)
        self._catch_up = BarCatchUp(self.core, settings.sequencer_addresses)
        self.copy = AnalyticsCopy(self.core, self.broadcast, self._catch_up)

    async def start(self) -> None:
        settings = self.settings
        if settings.database_url:
            writer = BarWriter(settings.database_url, self.core, self._catch_up.since)
            self.begin("bars", writer.run(), writer.close)
        else:
            log.warning("minute bars are not stored: TRADEUL_DATABASE_URL is not set")
            self.begin("bars", self._drop_bars())
        if settings.redis_url:
            redis = make_client(settings.redis_url)
            self.close_at_stop(redis.aclose)
            channels = RedisChannels(redis, (AGGREGATES_CHANNEL,))
            self.copy.aggregates = AggregatesChannel(channels)
            self.begin("redis", RedisMirror(redis, self.core).run())
            self.begin("channels", channels.run())
        else:
            log.warning("rvol, intraday and slot keys are not written: TRADEUL_REDIS_URL is not set")
        self.close_at_stop(self._catch_up.close)
        self.begin("ticking", self._tick())
        await self.follow(self.copy, patience_seconds=PATIENT_SECONDS)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = analytics_pb2.DESCRIPTOR.services_by_name["AnalyticsService"]
        return (add_servicer(server, service, AnalyticsServicer(self.core, self.broadcast)),)

    async def drain(self) -> None:
        self.broadcast.close("analytics is stopping")

    async def _tick(self) -> None:
        """Once a second: publishes what streams show, and the channel's message."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            if self.core.is_loaded:
                self.broadcast.tick()
            if self.copy.aggregates is not None:
                self.copy.aggregates.publish()

    async def _drop_bars(self) -> None:
        """Drops the bars, which without a database are not stored."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.core.collect_bars()
            self.core.queue.clear()


def create(settings: Settings) -> AnalyticsService:
    """The service, for services/modules.py."""
    return AnalyticsService(settings)
