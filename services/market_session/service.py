"""The service: one timer sends the session to however many watch."""

import asyncio
import contextlib
from datetime import date
from typing import ClassVar, Final

import grpc.aio
from tradeul.v1 import market_session_pb2

from services.kit.rpc.clock_follower import ClockFollower
from services.kit.rpc.server import add_servicer
from services.kit.runtime.clock import (
    NS_PER_SECOND,
    FeedClock,
    MeshClock,
    WallClock,
    monotonic,
    new_york_date,
    new_york_today,
    wall_seconds,
)
from services.kit.runtime.errors import ServiceError
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Settings
from services.market.calendar import Calendar, Session, SessionAt, nyse_calendar
from services.market.closures import Closures
from services.market_session import core, metrics
from services.market_session.broadcast import SessionBroadcast
from services.market_session.closure_watch import ClosureWatch
from services.market_session.redis_copy import RedisCopy
from services.market_session.servicer import MarketSessionServicer

log = get_logger(__name__)

# The session is shown again at least so often, and looked at more often.
SHOW_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 10.0
# A timer may fire a moment before the wall clock is there.
SHORTEST_SECONDS: Final = 0.001


class MarketSession(Service):
    """See market_session.proto. The calendar answers from the start, the session once the time is known."""

    name: ClassVar[str] = "market_session"

    def __init__(self, settings: Settings, clock: MeshClock | None = None) -> None:
        super().__init__(settings)
        self._clock = clock or (WallClock() if settings.clock == "wall" else FeedClock())
        self._shown: SessionAt | None = None
        self._shown_at = 0.0
        self._time_known = asyncio.Event()

    async def start(self) -> None:
        self._moved = asyncio.Event()
        self.broadcast = SessionBroadcast(wall_seconds())
        self.calendar = nyse_calendar(new_york_today())
        self._closures = Closures(self.calendar)
        self._copy = RedisCopy(self.settings.redis_url)
        self._servicer = MarketSessionServicer(lambda: self.calendar, self._clock.now_ns, self.broadcast)
        self._tick()

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = market_session_pb2.DESCRIPTOR.services_by_name["MarketSessionService"]
        return (add_servicer(server, service, self._servicer),)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._show(), name="market_session.show")
            tasks.create_task(self._copy.run(), name="market_session.redis")
            tasks.create_task(self._watch_closures(), name="market_session.closures")
            if isinstance(self._clock, FeedClock | WallClock):
                follower = ClockFollower(self.settings.sequencer_addresses, self._clock, self._moved.set)
                tasks.create_task(follower.run(), name="market_session.clock")

    async def drain(self) -> None:
        self.broadcast.close("market_session is stopping")

    async def _show(self) -> None:
        """Shows the session at each change and each minute."""
        while True:
            delay = self._tick()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._moved.wait()
            self._moved.clear()

    def _tick(self) -> float:
        """Shows what is due; returns the seconds until there is something to do again, unless the time moves."""
        if (now_ns := self._clock.now_ns()) is None:
            return LOOK_SECONDS
        self._time_known.set()
        try:
            at = self.calendar.session_at(now_ns)
        except ServiceError as error:
            self.set_unhealthy_reason(f"time outside of the calendar: {error.message}")
            return LOOK_SECONDS
        self.set_unhealthy_reason(None)
        now = monotonic()
        if at != self._shown or now - self._shown_at >= SHOW_SECONDS:
            if self._shown is None or at.session != self._shown.session:
                log.info("session", session=at.session.name, trading_date=str(at.trading_date))
            for each in Session:
                metrics.CURRENT.labels(each.name).set(each is at.session)
            self._shown, self._shown_at = at, now
            session = core.current_session(at, now_ns)
            metrics.SESSIONS.inc()
            self.broadcast.send(session)
            self._copy.put(core.session_json(session))
        if self._clock.kind == "feed":
            return LOOK_SECONDS
        return min(LOOK_SECONDS, max((at.next_session_ns - now_ns) / NS_PER_SECOND, SHORTEST_SECONDS))

    async def _watch_closures(self) -> None:
        # With a feed's time the vendor may be the simulator, which is there once there is a time.
        await self._time_known.wait()
        await ClosureWatch(self.settings.polygon, self._closures, self._today, self._take_calendar).run()

    def _today(self) -> date:
        now_ns = self._clock.now_ns()
        return new_york_today() if now_ns is None else new_york_date(now_ns)

    def _take_calendar(self, calendar: Calendar) -> None:
        self.calendar = calendar
        self._moved.set()


def create(settings: Settings) -> Service:
    """The factory that services/modules.py names."""
    return MarketSession(settings)
