"""What each task of the table is: the wiring."""

import functools
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime

import asyncpg

from services.data_maintenance.atr import CalculateATR
from services.data_maintenance.averages import Averages
from services.data_maintenance.housekeeping import Housekeeping
from services.data_maintenance.loads import Load, companies, ohlc, slots
from services.data_maintenance.notices import announced
from services.data_maintenance.redis_sync import SyncRedis
from services.data_maintenance.work import Tasks
from services.historical.service import open_runner
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import open_redis
from services.kit.vendor.client import VendorClient


async def open_tasks(
    settings: Settings, pool: asyncpg.Pool, resources: AsyncExitStack, now: Callable[[], datetime | None]
) -> Tasks:
    """The tasks over the stores and the vendor of the settings; what they need is closed with `resources`.

    Raises StartError when Redis is not there.
    """
    redis = await open_redis(settings.redis_url)
    resources.push_async_callback(redis.aclose)
    vendor = VendorClient(settings.polygon.rest_url, settings.polygon.api_key)
    await resources.enter_async_context(vendor)
    # Its loads are many requests: they have a client and connections of their own.
    runner = functools.partial(open_runner, settings, settings.database_url)
    averages = Averages(pool, vendor)
    return {
        "load_ohlc": announced(pool, "daily", Load(runner, ohlc)),
        "calculate_atr": announced(pool, "atr", CalculateATR(settings.database_url, pool, vendor)),
        "load_volume_slots": announced(pool, "baselines", Load(runner, slots)),
        "enrich_metadata": announced(pool, "metadata", Load(runner, companies, averages)),
        "sync_redis": SyncRedis(pool, redis, vendor),
        "housekeeping": Housekeeping(pool, settings.keep, now),
    }
