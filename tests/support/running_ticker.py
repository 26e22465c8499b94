"""The real ticker service in this process, with real stores, a real scanner and a scripted vendor."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from typing import Any

import asyncpg
import grpc.aio
from redis.asyncio import Redis
from tradeul.v1 import alert_rules_pb2_grpc, filters_pb2_grpc, ticker_pb2_grpc, webhooks_pb2_grpc

from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import Host
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import open_redis
from services.ticker.service import TickerService
from tests.support.stores import Stores

TABLES = ("ticker_metadata", "ticker_metadata_history", "daily_ohlc", "aggregates_1min", "scan_results")

# As the vendor answers /v3/reference/tickers/{ticker}.
VENDOR_DETAILS: Mapping[str, Any] = {
    "ticker": "NEWCO",
    "name": "New Company Inc.",
    "market": "stocks",
    "locale": "us",
    "primary_exchange": "XNAS",
    "type": "CS",
    "active": True,
    "currency_name": "usd",
    "market_cap": 1.5e9,
    "share_class_shares_outstanding": 5e7,
    "weighted_shares_outstanding": 4.9e7,
    "sic_code": "3571",
    "sic_description": "ELECTRONIC COMPUTERS",
    "description": "Makes computers.",
    "homepage_url": "https://newco.example",
    "total_employees": 1200,
    "list_date": "2020-01-02",
    "address": {"city": "Boston", "state": "MA"},
}


def vendor_details(path: str, _: Mapping[str, str]) -> Any:
    """The scripted vendor: it knows NEWCO only."""
    if path == "/v1/marketstatus/now":
        return {"market": "open", "serverTime": "2026-03-10T12:00:00-04:00"}
    return {"status": "OK", "results": VENDOR_DETAILS} if path == "/v3/reference/tickers/NEWCO" else None


async def empty(stores: Stores) -> None:
    """Tables and Redis as a new mesh has them."""
    redis = await open_redis(stores.redis_url)
    await redis.flushall()
    await redis.aclose()
    async with connected(stores) as database:
        await database.execute(f"TRUNCATE {', '.join(TABLES)}")


@contextlib.asynccontextmanager
async def connected(stores: Stores) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(stores.database_url)
    try:
        yield connection
    finally:
        await connection.close()


async def insert(database: asyncpg.Connection, table: str, *rows: Mapping[str, Any]) -> None:
    for row in rows:
        places = ", ".join(f"${i}" for i in range(1, len(row) + 1))
        await database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", *row.values())


def bar(symbol: str, when: Any, prices: Sequence[float], volume: float = 100.0, **further: Any) -> dict[str, Any]:
    """A row of daily_ohlc (a date) or aggregates_1min (a time): open, high, low, close."""
    column = "date" if type(when) is date else "time"
    return {
        "symbol": symbol,
        column: when,
        **dict(zip(("open", "high", "low", "close"), prices, strict=True)),
        "volume": volume,
        **further,
    }


class RunningTicker:
    """A ticker service that serves, with clients of its services and of its stores."""

    def __init__(self, host: Host, channel: grpc.aio.Channel, redis: Redis, database: asyncpg.Connection) -> None:
        self.host = host
        self.tickers = ticker_pb2_grpc.TickerServiceStub(channel)
        self.alert_rules = alert_rules_pb2_grpc.AlertRulesServiceStub(channel)
        self.webhooks = webhooks_pb2_grpc.WebhooksServiceStub(channel)
        self.filters = filters_pb2_grpc.FiltersServiceStub(channel)
        self.redis = redis
        self.database = database


@contextlib.asynccontextmanager
async def running_ticker(stores: Stores, settings: Settings) -> AsyncIterator[RunningTicker]:
    """Serves the ticker service at the address of `settings`."""
    host = Host(TickerService(settings))
    await host.start()
    redis = await open_redis(stores.redis_url)
    channel = open_channel(f"127.0.0.1:{host.port}")
    try:
        async with connected(stores) as database:
            yield RunningTicker(host, channel, redis, database)
    finally:
        await channel.close(None)
        await redis.aclose()
        await host.stop()
