"""The scanner as a service: a copy of the market, its public methods, and its writers to the stores."""

from typing import ClassVar

import grpc.aio
from tradeul.v1 import alerts_pb2, scanner_pb2

from services.kit.lists.definitions import load_lists
from services.kit.rpc.market_copy import MarketCopyService
from services.kit.rpc.server import add_servicer
from services.kit.runtime.logging import get_logger
from services.kit.runtime.memory import prepare_memory
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import make_client
from services.kit.stores.redis_channels import RedisChannels
from services.scanner import metrics
from services.scanner.alert_events import AlertHistory, alert_writer
from services.scanner.alert_log import AlertLog
from services.scanner.alert_servicer import AlertsServicer
from services.scanner.alert_stream import AlertStreams
from services.scanner.core import MarketSource, ScannerCore
from services.scanner.feed_line import FeedLine
from services.scanner.list_hub import ListHub
from services.scanner.list_log import ListLog
from services.scanner.missed_alerts import MissedAlerts
from services.scanner.record_queue import RecordQueue
from services.scanner.record_spool import Record, RecordSpool
from services.scanner.redis_alerts import RedisAlerts
from services.scanner.redis_lists import CHANNEL, RedisLists, SnapshotChannel
from services.scanner.scan_requests import ScanRequests
from services.scanner.scan_results import ScanRecorder, ScanWriter
from services.scanner.servicer import ScannerServicer
from services.scanner.turns import Turns

log = get_logger(__name__)


class ScannerService(MarketCopyService):
    """`limits`: those of ListHub."""

    name: ClassVar[str] = "scanner"

    def __init__(self, settings: Settings, **limits: int) -> None:
        super().__init__(settings)
        # Trades of a simulated or replayed feed are of another time than the wall's.
        limits = {"max_key_steps": settings.key.scan_steps, **limits}
        self.hub = ListHub(ScannerCore(load_lists()), measures_lag=settings.clock == "wall", **limits)
        self.turns = Turns()
        self.requests = ScanRequests(self.turns)
        self.log = ListLog(self.hub.core)
        self.alerts = AlertLog(self.hub.core)
        # In this order: alerts have subscribers who wait.
        self.hub.listeners += [self.alerts, self.log]
        # Of a replay, there are no stored alerts.
        self.history: AlertHistory | None = None
        # Made on the event loop, when there is a server.
        self.alert_streams: AlertStreams | None = None
        self.line = FeedLine(settings.sequencer_addresses, self.hub.core)

    async def start(self) -> None:
        prepare_memory()
        settings = self.settings
        if settings.redis_url:
            redis = make_client(settings.redis_url)
            self.close_at_stop(redis.aclose)
            lists = RedisLists(redis, self.hub, also_write=[RedisAlerts(redis, self.alerts).follow])
            channels = RedisChannels(redis, (CHANNEL,))
            self.begin("redis", lists.run(), lists.close)
            self.begin("channels", channels.run())
            self.begin("snapshots", SnapshotChannel(self.hub.core, channels).run())
        else:
            log.warning("lists are not written to redis: TRADEUL_REDIS_URL is not set")
        if settings.is_replay:
            log.info("scan results are not stored: what a day shows was stored when it happened")
        elif settings.database_url:
            recorder = ScanRecorder(self.hub.core)
            self.hub.listeners.append(recorder)
            writer = ScanWriter(settings.database_url, recorder, RecordSpool(settings.market_dir / "scan_results"))
            self.begin("writing", writer.run(), writer.close)
            alerts = RecordQueue(metrics.ALERT_RECORDS_DROPPED)
            self.alerts.store = lambda encoded: alerts.keep(Record(0, encoded))
            alerts_writer = alert_writer(settings.database_url, alerts, RecordSpool(settings.market_dir / "alerts"))
            self.begin("alerts", alerts_writer.run(), alerts_writer.close)
            self.history = AlertHistory(settings.database_url)
            self.close_at_stop(self.history.close)
            missed = MissedAlerts(self.history, lambda: alerts_writer.is_idle)
            self.alerts.began = missed.look_before
            self.begin("missed_alerts", missed.run())
        else:
            log.warning("scan results are not stored: TRADEUL_DATABASE_URL is not set")
        self.begin("line", self.line.run())
        self.begin("compiling", self.requests.compiler.run())
        await self.follow(self.hub, take_alerts=self.alerts.take_recent, settle=self.hub.settle)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        servicer = ScannerServicer(self.hub, self.turns, self.requests, self.log, market_of(self.settings), self.line)
        self.alert_streams = AlertStreams(self.alerts)
        alerts = AlertsServicer(self.hub.core, self.alerts, self.alert_streams, self.turns, self.requests, self.history)
        return (
            add_servicer(server, scanner_pb2.DESCRIPTOR.services_by_name["ScannerService"], servicer),
            add_servicer(server, alerts_pb2.DESCRIPTOR.services_by_name["AlertsService"], alerts),
        )

    async def drain(self) -> None:
        self.hub.close("the scanner is stopping")
        if self.alert_streams is not None:
            self.alert_streams.close("the scanner is stopping")


def market_of(settings: Settings) -> MarketSource:
    """The source of the market's events."""
    if settings.is_replay:
        return scanner_pb2.ScannerStatus.REPLAY
    return scanner_pb2.ScannerStatus.SIMULATOR if settings.uses_simulator else scanner_pb2.ScannerStatus.VENDOR


def create(settings: Settings) -> ScannerService:
    """The service, for services/modules.py."""
    return ScannerService(settings)
