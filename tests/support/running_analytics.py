"""The real analytics in this process, following a scripted sequencer, and a client of it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc.aio
from prometheus_client import REGISTRY
from tradeul.v1 import analytics_pb2, analytics_pb2_grpc

from services.analytics.service import AnalyticsService
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer

START_SECONDS = 60


class RunningAnalytics:
    """An analytics that serves, with a client."""

    def __init__(self, service: AnalyticsService, channel: grpc.aio.Channel) -> None:
        self.service = service
        self.core = service.core
        self.stub: Any = analytics_pb2_grpc.AnalyticsServiceStub(channel)

    async def rvol(self, symbol: str) -> analytics_pb2.Rvol:
        answer: analytics_pb2.Rvol = await self.stub.GetRvol(analytics_pb2.GetRvolRequest(symbol=symbol))
        return answer

    async def intraday(self, symbol: str) -> analytics_pb2.Intraday:
        answer: analytics_pb2.Intraday = await self.stub.GetIntraday(analytics_pb2.GetIntradayRequest(symbol=symbol))
        return answer

    def watch(self, *symbols: str, **request: Any) -> Any:
        return self.stub.WatchMetrics(analytics_pb2.WatchMetricsRequest(symbols=symbols, **request))

    async def until_at(self, sequencer: ScriptedSequencer) -> None:
        """Waits until it has applied all that the sequencer has sent."""
        position = (sequencer.tape.epoch, sequencer.market.sequence)
        while self.core.position != position or self.service.copy.unhealthy_reason:
            await asyncio.sleep(POLL_SECONDS)


@contextlib.asynccontextmanager
async def running_analytics(
    sequencer: ScriptedSequencer, environment: Mapping[str, str] | None = None
) -> AsyncIterator[RunningAnalytics]:
    """Serves analytics, which follows the sequencer already: what is sent now reaches it as frames.

    When it is left, nobody may be left who watches.
    """
    settings = Settings.load(
        {
            "TRADEUL_ANALYTICS_ADDRESS": "127.0.0.1:0",
            "TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{sequencer.port}",
            "TRADEUL_METRICS_PORT_OFFSET": "0",
            **(environment or {}),
        }
    )
    service = AnalyticsService(settings)
    host = Host(service)
    await host.start()
    channel = open_channel(f"127.0.0.1:{host.port}")
    try:
        async with asyncio.timeout(START_SECONDS):
            await service.copy.until_current()
        yield RunningAnalytics(service, channel)
    finally:
        await channel.close(None)
        await host.stop()
    assert (REGISTRY.get_sample_value("tradeul_subscribers", {"service": "analytics", "stream": "metrics"}) or 0) == 0
