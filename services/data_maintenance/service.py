"""The service: the timetable and its tasks over PostgreSQL, Redis and the vendor, and DataMaintenanceService."""

import asyncio
import contextlib
import os
import socket
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import date, datetime
from typing import ClassVar, Final

import asyncpg
import grpc.aio
from redis.asyncio import Redis
from tradeul.v1 import data_maintenance_pb2, historical_pb2_grpc, market_session_pb2_grpc

from services.data_maintenance.broadcast import RunBroadcast
from services.data_maintenance.context import Tasks, announced
from services.data_maintenance.daily_values import Averages, CalculateATR
from services.data_maintenance.housekeeping import Housekeeping
from services.data_maintenance.load_task import LoadTask, companies, ohlc, slots
from services.data_maintenance.redis_sync import SyncRedis
from services.data_maintenance.redis_watch import RedisWatch
from services.data_maintenance.run_store import LEASE_SECONDS, RETRY_SECONDS, RunStore
from services.data_maintenance.runner import PROGRESS_SECONDS, Runner
from services.data_maintenance.servicer import DataMaintenanceServicer
from services.data_maintenance.session_log import SessionLog
from services.data_maintenance.timetable import LOOK_SECONDS, Timetable
from services.kit.rpc.channel import open_channel
from services.kit.rpc.clock_follower import ClockFollower
from services.kit.rpc.server import add_servicer
from services.kit.runtime.clock import FeedClock, MeshClock, WallClock, new_york_date, new_york_today, utc_time
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Settings
from services.kit.stores.database import open_pool
from services.kit.stores.redis import open_redis
from services.kit.vendor.client import VendorClient
from services.market.calendar import Calendar
from services.market.calendar_client import CalendarClient

log = get_logger(__name__)

CLOSE_SECONDS: Final = 10.0
POOL_SIZE: Final = 6
# A sequencer that is not there for so long is not waited for any more.
SEQUENCER_SECONDS: Final = 60.0


class DataMaintenance(Service):
    """See data_maintenance.proto.

    Times before its start are made up for with the wall's clock only: a feed's
    stands still while the mesh is down. For tests the clock, the tasks, what is made
    up for and the intervals can be others.
    """

    name: ClassVar[str] = "data_maintenance"

    def __init__(
        self,
        settings: Settings,
        *,
        clock: MeshClock | None = None,
        tasks: Tasks | None = None,
        catch_up: bool | None = None,
        lease_seconds: float = LEASE_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
        look_seconds: float = LOOK_SECONDS,
        progress_seconds: float = PROGRESS_SECONDS,
    ) -> None:
        super().__init__(settings)
        self.holder = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"
        self.calendar: Calendar | None = None
        self._clock = clock or (WallClock() if settings.clock == "wall" else FeedClock())
        self._tasks = tasks
        self._catch_up = settings.clock == "wall" if catch_up is None else catch_up
        self._lease_seconds = lease_seconds
        self._retry_seconds = retry_seconds
        self._look_seconds = look_seconds
        self._progress_seconds = progress_seconds
        self._resources = AsyncExitStack()
        self._time_known = asyncio.Event()
        self._redis_watch: RedisWatch | None = None

    async def start(self) -> None:
        settings, resources = self.settings, self._resources
        pool = await open_pool(settings.database_url, max_size=POOL_SIZE)
        resources.push_async_callback(pool.close)
        tasks, redis = self._tasks, None
        if tasks is None:
            redis = await open_redis(settings.redis_url)
            resources.push_async_callback(redis.aclose)
            tasks = await open_tasks(settings, pool, redis, resources, self.now)
        channel = await resources.enter_async_context(open_channel(settings.address("market_session")))
        self._trading_days = CalendarClient(market_session_pb2_grpc.MarketSessionServiceStub(channel))
        store = RunStore(pool, self.holder, self._lease_seconds, self._retry_seconds)
        runner = Runner(store, self._progress_seconds)
        self.broadcast = RunBroadcast(settings.database_url, store, runner.poke)
        self.timetable = Timetable(
            store, runner, tasks, self.now, lambda: self.calendar, self._catch_up, self._look_seconds
        )
        if redis is not None:
            self._redis_watch = RedisWatch(redis, settings.market, self.timetable.sync)
        self._session_log = SessionLog(pool, self.now, lambda: self.calendar)
        self._servicer = DataMaintenanceServicer(store, self.timetable, self.broadcast)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = data_maintenance_pb2.DESCRIPTOR.services_by_name["DataMaintenanceService"]
        return (add_servicer(server, service, self._servicer),)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            if isinstance(self._clock, FeedClock | WallClock):
                follower = ClockFollower(self.settings.sequencer_addresses, self._clock, self._time_known.set)
                tasks.create_task(follower.run(), name="data_maintenance.clock")
            else:
                self._time_known.set()
            tasks.create_task(self._follow_calendar(), name="data_maintenance.calendar")
            tasks.create_task(self.broadcast.run(), name="data_maintenance.broadcast")
            tasks.create_task(self._session_log.run(), name="data_maintenance.sessions")
            tasks.create_task(self.timetable.run(), name="data_maintenance.timetable")
            if self._redis_watch is not None:
                tasks.create_task(self._redis_watch.run(), name="data_maintenance.redis")

    async def drain(self) -> None:
        self.broadcast.close("data_maintenance is stopping")

    async def stop(self) -> None:
        async with asyncio.timeout(CLOSE_SECONDS):
            await self._resources.aclose()

    def now(self) -> datetime | None:
        """The mesh's time; None while it is not known."""
        ns = self._clock.now_ns()
        return None if ns is None else utc_time(ns)

    def _today(self) -> date:
        ns = self._clock.now_ns()
        return new_york_today() if ns is None else new_york_date(ns)

    async def _follow_calendar(self) -> None:
        # The calendar is around a date. By a wall clock that is a year ahead, all that is stored would be too old.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SEQUENCER_SECONDS if self._clock.kind == "wall" else None):
                await self._time_known.wait()
        self._take_calendar(await self._trading_days.calendar(self._today()))
        await self._trading_days.follow(self._today, asyncio.Event(), self._take_calendar)

    def _take_calendar(self, calendar: Calendar) -> None:
        is_first = self.calendar is None
        self.calendar = calendar
        if is_first:
            for name in self.timetable.specs:
                self.timetable.look(name)


async def open_tasks(
    settings: Settings,
    pool: asyncpg.Pool,
    redis: Redis,
    resources: AsyncExitStack,
    now: Callable[[], datetime | None],
) -> Tasks:
    """The tasks over the stores and the vendor of the settings; what they need is closed with `resources`."""
    vendor = VendorClient(settings.polygon.rest_url, settings.polygon.api_key)
    await resources.enter_async_context(vendor)
    channel = await resources.enter_async_context(open_channel(settings.address("historical")))
    historical = historical_pb2_grpc.HistoricalServiceStub(channel)
    averages = Averages(pool, vendor)
    return {
        "load_ohlc": announced(pool, "daily", LoadTask(historical, ohlc)),
        "calculate_atr": announced(pool, "atr", CalculateATR(settings.database_url, pool, vendor)),
        "load_volume_slots": announced(pool, "baselines", LoadTask(historical, slots)),
        "enrich_metadata": announced(pool, "metadata", LoadTask(historical, companies, averages)),
        "sync_redis": SyncRedis(pool, redis, vendor),
        "housekeeping": Housekeeping(pool, settings.keep, now),
    }


def create(settings: Settings) -> Service:
    """The factory that services/modules.py names."""
    return DataMaintenance(settings)
