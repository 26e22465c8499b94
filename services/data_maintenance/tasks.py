"""What each task of the table is: the wiring."""

from contextlib import AsyncExitStack

import asyncpg

from services.data_maintenance.atr import CalculateATR
from services.data_maintenance.housekeeping import Housekeeping
from services.data_maintenance.notices import announced
from services.data_maintenance.redis_sync import SyncRedis
from services.data_maintenance.work import Tasks
from services.kit.redis import open_redis
from services.kit.settings import Settings
from services.kit.vendor import VendorClient


async def open_tasks(settings: Settings, pool: asyncpg.Pool, resources: AsyncExitStack) -> Tasks:
    """The tasks over the stores and the vendor of the settings; what they need is closed with `resources`.

    Raises StartError when Redis is not there.
    """
    redis = await open_redis(settings.redis_url)
    resources.push_async_callback(redis.aclose)
    vendor = VendorClient(settings.polygon.rest_url, settings.polygon.api_key)
    await resources.enter_async_context(vendor)
    return {
        "calculate_atr": announced(pool, "atr", CalculateATR(settings.database_url, pool, vendor)),
        "sync_redis": SyncRedis(pool, redis, vendor),
        "housekeeping": Housekeeping(pool),
    }
