"""The service: one feed in, one sequenced stream out, and what else belongs into the stream.

feed, vendor_snapshot, reference -> stream -> journal, then readers
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import grpc.aio
from tradeul.v1 import bars_pb2, data_ingest_pb2, market_session_pb2_grpc

from services.data_ingest import metrics
from services.data_ingest.feed.feed_health import FeedHealth, SetAsideWatch
from services.data_ingest.feed.feed_input import FeedInput, FeedProgress
from services.data_ingest.feed.feed_reader import FeedReader
from services.data_ingest.feed.halt_feed import HaltFeed
from services.data_ingest.feed.halts_follower import HaltsFollower, poll_seconds
from services.data_ingest.feed.replay_gate import ReplayGate
from services.data_ingest.feed.watermarks import Watermarks
from services.data_ingest.journal import Journal
from services.data_ingest.reference import ReferenceSource
from services.data_ingest.reference.changes import KnownSplits, ReferenceNotices
from services.data_ingest.reference.follower import ReferenceFollower
from services.data_ingest.reference.process import ReferenceProcess
from services.data_ingest.servicer import DataIngestServicer
from services.data_ingest.startup import StartingPoint, open_directory, open_sequencer, starting_point
from services.data_ingest.status import SetAside, Status
from services.data_ingest.stream.bar_stream import BarStream
from services.data_ingest.stream.epochs import EpochRenewal
from services.data_ingest.stream.frame_stream import FrameStream
from services.data_ingest.stream.redis_stream import JournalStream
from services.data_ingest.stream.rules import FiltersFollower, TradeRulesFollower
from services.data_ingest.stream.sequencer import LAST_SEQUENCE, Sequencer
from services.data_ingest.vendor_snapshot.channel import CHANNEL, SnapshotChannel
from services.data_ingest.vendor_snapshot.poller import SnapshotPoller
from services.data_ingest.vendor_snapshot.rows import SnapshotRules
from services.data_ingest.vendor_snapshot.source import SnapshotProcess, SnapshotSource
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import add_servicer
from services.kit.runtime.clock import WallClock
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import make_client
from services.kit.stores.redis_channels import RedisChannels
from services.kit.vendor.client import VendorClient
from services.market.calendar_client import CalendarClient

# What asks the vendor tries again by itself, and soon notices that it is back.
VENDOR_ATTEMPTS: Final = 3
VENDOR_PAUSE_SECONDS: Final = 5.0

Background = dict[str, Callable[[], Coroutine[None, None, None]]]


@dataclass(frozen=True)
class Parts:
    """What start() makes; `background` is what runs until the stop, by name."""

    sequencer: Sequencer
    journal: Journal | None
    feed: FeedInput
    reference: ReferenceFollower
    trade_rules: TradeRulesFollower
    filters: FiltersFollower
    stream: FrameStream
    bars: BarStream
    servicer: DataIngestServicer
    background: Background


class DataIngest(Service):
    """See data_ingest.proto. For tests the sources of reference data and snapshots and the limits can be others."""

    name = "data_ingest"

    def __init__(
        self,
        settings: Settings,
        reference: ReferenceSource | None = None,
        snapshots: SnapshotSource | None = None,
        last_sequence: int = LAST_SEQUENCE,
        set_aside: SetAsideWatch | None = None,
    ) -> None:
        super().__init__(settings)
        self._reference = reference or ReferenceProcess(settings)
        self._snapshots = snapshots
        self._last_sequence = last_sequence
        self._set_aside = set_aside or SetAsideWatch()
        self._resources = AsyncExitStack()
        self._parts: Parts | None = None

    @property
    def parts(self) -> Parts:
        """RuntimeError before start()."""
        if self._parts is None:
            raise RuntimeError("expected start() to have been called, was not")
        return self._parts

    async def start(self) -> None:
        settings, resources = self.settings, self._resources
        if (directory := open_directory(settings)) is not None:
            resources.callback(directory.close)
        polygon = settings.polygon
        vendor = await resources.enter_async_context(
            VendorClient(polygon.rest_url, polygon.api_key, attempts=VENDOR_ATTEMPTS, retry_max_s=VENDOR_PAUSE_SECONDS)
        )
        channel = await resources.enter_async_context(open_channel(settings.address("market_session")))
        calendars = CalendarClient(market_session_pb2_grpc.MarketSessionServiceStub(channel))
        start = await starting_point(settings, directory, calendars, vendor)
        sequencer, journal = await open_sequencer(settings, directory, start, self._last_sequence)
        self._parts = parts = self._assemble(start, sequencer, journal, vendor, calendars)
        parts.feed.days.begin(start.calendar, start.day)
        await parts.trade_rules.load_first()
        await parts.filters.load_first()
        sequencer.add_watermark(start.first_watermark_ns)

    def _assemble(
        self,
        start: StartingPoint,
        sequencer: Sequencer,
        journal: Journal | None,
        vendor: VendorClient,
        calendars: CalendarClient,
    ) -> Parts:
        """Makes the parts, each with those that it needs; nothing is in the stream yet."""
        settings, resources = self.settings, self._resources
        stream, bars = FrameStream(sequencer, metrics.count_slow_reader), BarStream(sequencer)
        background: Background = {}
        channels: RedisChannels | None = None
        if journal is not None:
            resources.callback(journal.close)
            background["journal"] = journal.run
        if settings.redis_url:
            text, binary = make_client(settings.redis_url), make_client(settings.redis_url, decode_responses=False)
            resources.push_async_callback(text.aclose)
            resources.push_async_callback(binary.aclose)
            channels = RedisChannels(text, (CHANNEL,))
            background["channels"] = channels.run
            background["journal_stream"] = JournalStream(binary, lambda: sequencer.ring).run

        reference = ReferenceFollower(
            self._reference, sequencer, lambda: feed.days.calendar, KnownSplits(vendor.splits)
        )
        notices = ReferenceNotices(settings.database_url, reference.stores_changed, reference.stores_may_have_changed)
        feed = FeedInput(sequencer, settings.clock, reference.split_until)
        if start.found is not None:
            feed.resume_after(FeedProgress(start.found.feed, start.found.trade_identities))
        health = FeedHealth(feed, sequencer, self.set_unhealthy_reason, self._set_aside)
        watermarks = Watermarks(sequencer, feed.days, WallClock() if feed.is_wall else None)
        trade_rules = TradeRulesFollower(vendor, feed.set_trade_rules, settings.suspect_prints == "take")
        filters = FiltersFollower(
            settings.database_url, sequencer, lambda: settings.is_replay and feed.position is not None
        )
        if (snapshot_source := self._snapshots) is None:
            snapshot_source = process = SnapshotProcess(settings)
            resources.push_async_callback(process.close)
        snapshots = SnapshotPoller(
            snapshot_source,
            sequencer,
            lambda: SnapshotRules(
                trade_rules.forbids_last, sequencer.day.market_open_ns, sequencer.day.market_close_ns
            ),
            watermarks.events_came,
            SnapshotChannel(channels).publish if channels is not None else None,
        )
        epochs = EpochRenewal(sequencer, journal, settings.market_dir, feed.progress_of_epoch)
        calendar_due = asyncio.Event()
        for listener in (calendar_due.set, epochs.day_began, reference.day_changed, snapshots.request):
            feed.days.listen(listener)

        set_aside: list[SetAside] = [
            ("", lambda: filters.set_aside),
            ("", lambda: notices.set_aside),
            ("", lambda: snapshot_source.set_aside),
            ("reference_", lambda: self._reference.set_aside),
        ]
        if settings.halts_url:
            halt_feed = HaltFeed(settings.halts_url)
            resources.push_async_callback(halt_feed.close)
            halts = HaltsFollower(halt_feed, sequencer, feed.latest_ns, watermarks.events_came, poll_seconds(settings))
            feed.days.listen(halts.day_changed)
            set_aside.append(("halt_", lambda: halts.set_aside))
        status = Status(sequencer, journal, stream, feed, health, reference, set_aside)

        background["filters"] = filters.run
        background["epochs"] = epochs.run
        background["status"] = status.run
        background["calendar"] = lambda: calendars.follow(
            lambda: sequencer.day.date, calendar_due, feed.days.set_calendar
        )
        before_batch = None
        if settings.is_replay:
            # A replay has its own watermarks, and its reference data before it begins; today's market is no part of it.
            before_batch = ReplayGate(reference, stream, start.has_reference, lambda: feed.names).open
        else:
            background["watermarks"] = watermarks.run
            background["snapshots"] = snapshots.run
            background["reference"] = reference.run
            background["notices"] = notices.run
            background["trade_rules"] = trade_rules.run
            if settings.halts_url:
                background["halts"] = halts.run
        background["feed"] = FeedReader(
            settings.address("polygon_ws"),
            feed,
            (lambda events: None) if settings.is_replay else watermarks.events_came,
            snapshots.request_after_loss,
            health.set_line,
            before_batch,
        ).run
        servicer = DataIngestServicer(sequencer, feed, stream, status.reference, status.rejected, status.warnings)
        return Parts(sequencer, journal, feed, reference, trade_rules, filters, stream, bars, servicer, background)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = data_ingest_pb2.DESCRIPTOR.services_by_name["DataIngestService"]
        bars = bars_pb2.DESCRIPTOR.services_by_name["BarService"]
        return (
            add_servicer(server, service, self.parts.servicer),
            add_servicer(server, bars, self.parts.bars),
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for name, run in self.parts.background.items():
                tasks.create_task(run(), name=f"data_ingest.{name}")

    async def drain(self) -> None:
        self.parts.servicer.close("data_ingest is stopping")
        self.parts.bars.close("data_ingest is stopping")

    async def stop(self) -> None:
        await self._resources.aclose()


def create(settings: Settings) -> Service:
    """The factory that services/modules.py names."""
    return DataIngest(settings)
