"""The ticker service: four services of the API over Redis, PostgreSQL, the scanner and the vendor; and webhooks."""

import asyncio
from contextlib import AsyncExitStack
from typing import ClassVar

import grpc.aio
from tradeul.v1 import alert_rules_pb2, alerts_pb2_grpc, filters_pb2, ticker_pb2, webhooks_pb2

from services.kit.alerts.definitions import load_alerts
from services.kit.lists.definitions import load_lists
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import add_servicer
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.settings import Settings
from services.kit.stores.database import open_pool
from services.kit.stores.redis import open_redis
from services.kit.vendor.client import VendorClient
from services.market.flat_files import RECORDINGS
from services.ticker.alert_rules import AlertRuleStore
from services.ticker.alert_rules_servicer import AlertRulesServicer
from services.ticker.companies import Companies
from services.ticker.dry_runs import DryRuns
from services.ticker.filters import FilterStore
from services.ticker.minute_fill import MinuteFill
from services.ticker.redis_cache import RedisCache
from services.ticker.scanner_client import ScannerClient
from services.ticker.servicer import FiltersServicer, TickerServicer
from services.ticker.store import Queries, TickerStore
from services.ticker.tickers import Tickers
from services.ticker.webhooks.addresses import Resolver
from services.ticker.webhooks.deliverer import Deliverer
from services.ticker.webhooks.sender import Sender
from services.ticker.webhooks.servicer import WebhooksServicer
from services.ticker.webhooks.store import WebhookStore

# A client is waiting: better no answer than a late one.
VENDOR_CONCURRENCY = 4
VENDOR_ATTEMPTS = 2
VENDOR_TIMEOUT_SECONDS = 4.0


class TickerService(Service):
    """Needs both stores to start; afterwards each of its sources may go away and come back."""

    name: ClassVar[str] = "ticker"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._resources = AsyncExitStack()
        # Of a replay, whose alerts are of another day, nothing is sent.
        self._deliverer: Deliverer | None = None

    async def start(self) -> None:
        settings, resources = self.settings, self._resources
        redis = await open_redis(settings.redis_url)
        resources.push_async_callback(redis.aclose)
        pool = await open_pool(settings.database_url)
        resources.push_async_callback(pool.close)
        channel = await resources.enter_async_context(open_channel(settings.address("scanner")))
        scanner = ScannerClient(channel, settings.clock)
        vendor = VendorClient(
            settings.polygon.rest_url,
            settings.polygon.api_key,
            concurrency=VENDOR_CONCURRENCY,
            attempts=VENDOR_ATTEMPTS,
            timeout_s=VENDOR_TIMEOUT_SECONDS,
        )
        await resources.enter_async_context(vendor)
        queries = Queries(pool)
        store = TickerStore(queries, settings.replay.date)
        self._cache = RedisCache(redis)
        companies = Companies(self._cache, store, vendor)
        resources.push_async_callback(companies.close)
        tickers = Tickers(scanner, self._cache, store, companies)
        fill = None
        if not settings.is_replay:
            fill = MinuteFill(store, vendor)
            resources.push_async_callback(fill.close)
        lists = frozenset(spec.name for spec in load_lists())
        self._servicer = TickerServicer(tickers, store, scanner, lists, fill)
        self._filters = FiltersServicer(FilterStore(queries))
        shipped = {rule.name: rule for rule in load_alerts(lists)}
        self._dry_runs = DryRuns(settings)
        await asyncio.to_thread(self._dry_runs.remove_leftovers)
        self._alert_rules = AlertRulesServicer(
            AlertRuleStore(queries, shipped), lists, self._dry_runs, queries, settings.market_dir / RECORDINGS
        )
        resolver = Resolver(settings.webhook.allows_private)
        sender = await resources.enter_async_context(Sender(resolver))
        alerts = alerts_pb2_grpc.AlertsServiceStub(channel)
        self._webhooks = WebhooksServicer(WebhookStore(queries), resolver, sender, alerts, shipped)
        if not settings.is_replay:
            self._deliverer = Deliverer(settings.database_url, alerts.WatchAlerts, queries, sender)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        return (
            add_servicer(server, webhooks_pb2.DESCRIPTOR.services_by_name["WebhooksService"], self._webhooks),
            add_servicer(server, ticker_pb2.DESCRIPTOR.services_by_name["TickerService"], self._servicer),
            add_servicer(server, filters_pb2.DESCRIPTOR.services_by_name["FiltersService"], self._filters),
            add_servicer(server, alert_rules_pb2.DESCRIPTOR.services_by_name["AlertRulesService"], self._alert_rules),
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._cache.run(), name="ticker.cache")
            if self._deliverer is not None:
                tasks.create_task(self._deliverer.run(), name="ticker.webhooks")

    async def drain(self) -> None:
        self._dry_runs.end_all("ticker is stopping")

    async def stop(self) -> None:
        async with asyncio.timeout(10):
            await self._resources.aclose()


def create(settings: Settings) -> TickerService:
    """The service, for services/modules.py."""
    return TickerService(settings)
