"""The service: one market, one port, the market's own clock."""

import asyncio
from typing import Final

from services.kit.runtime.lifecycle import Service, State
from services.kit.runtime.logging import get_logger
from services.kit.runtime.metrics import FRAMES, REJECTED, SUBSCRIBERS, TICKS
from services.kit.runtime.settings import Settings
from services.simulator.calendar import new_york_time
from services.simulator.feed import Feed
from services.simulator.halt_feed import document
from services.simulator.market import Market
from services.simulator.pace import Pace
from services.simulator.rest import Rest
from services.simulator.server import MarketServer

log = get_logger(__name__)

COUNT_SECONDS: Final = 1.0


class Simulator(Service):
    """Replaces the vendor; docs/operations.md has its settings."""

    name = "simulator"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._server: MarketServer | None = None
        self.market: Market | None = None

    @property
    def port(self) -> int:
        """The port it listens on, after start()."""
        return self._server.port if self._server is not None else 0

    @property
    def market_symbols(self) -> list[str]:
        """The tickers, the most active first, after start()."""
        return self.market.universe.tickers if self.market is not None else []

    async def start(self) -> None:
        sim = self.settings.sim
        self.market = market = await asyncio.to_thread(Market, sim)
        self._feed = Feed(market.universe.tickers, sim.channels)
        self._rest = Rest(market, sim.seed)
        self._pace = Pace(market, self._feed, sim.speed)
        self._server = MarketServer(self._feed, self._rest, self._pace, lambda: document(market), self._why_not_ready)
        await self._server.start(self.settings.listen_address(self.name))
        begins = new_york_time(market.now_ns).isoformat(timespec="seconds")
        log.info("market", seed=sim.seed, symbols=sim.symbols, time=begins, speed=sim.speed, port=self._server.port)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pace.run(), name="simulator.pace")
            tasks.create_task(self._count(), name="simulator.count")

    async def drain(self) -> None:
        if self._server is not None:
            self._server.go_away()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
            self._rest.close()

    def _why_not_ready(self) -> str | None:
        return None if self.state is State.RUNNING else self.condition

    async def _count(self) -> None:
        """Updates the metrics now and then, not with every event."""
        sent = requests = slow = 0
        while True:
            TICKS.labels(self.name, "events").inc(self._pace.sent - sent)
            FRAMES.labels(self.name, "rest").inc(self._rest.requests - requests)
            REJECTED.labels(self.name, "slow_client").inc(self._feed.slow - slow)
            sent, requests, slow = self._pace.sent, self._rest.requests, self._feed.slow
            SUBSCRIBERS.labels(self.name, "feed").set(len(self._feed.clients))
            await asyncio.sleep(COUNT_SECONDS)


def create(settings: Settings) -> Service:
    """The factory that services/modules.py names."""
    return Simulator(settings)
