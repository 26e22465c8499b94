"""The parts of data_ingest, and who needs whom.

The rooms' arrows, all of them one way:

    feed, vendor_snapshot, reference  ->  standby  ->  stream  ->  journal

A batch goes feed_reader -> feed_input -> sequencer -> journal, ring; then readers get it by frame_stream.
"""

import functools
import socket
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.data_ingest import metrics
from services.data_ingest.feed.feed_health import FeedHealth, SetAsideWatch
from services.data_ingest.feed.feed_input import FeedInput, FeedProgress
from services.data_ingest.feed.feed_reader import FeedReader
from services.data_ingest.feed.frame_traces import FrameTraces
from services.data_ingest.feed.gap_bars import GapBarsProcess
from services.data_ingest.feed.gap_healer import GapHealer
from services.data_ingest.feed.halt_feed import HaltFeed
from services.data_ingest.feed.halts_follower import HaltsFollower, poll_seconds
from services.data_ingest.feed.line_gaps import LineGaps
from services.data_ingest.feed.market_clock import MarketClock
from services.data_ingest.feed.replay_gate import ReplayGate
from services.data_ingest.feed.vendor_clock import VendorClock
from services.data_ingest.feed.watermarks import Pacer, Watermarks
from services.data_ingest.journal import Journal
from services.data_ingest.reference import ReferenceSource
from services.data_ingest.reference.changes import KnownSplits, ReferenceNotices
from services.data_ingest.reference.follower import ReferenceFollower
from services.data_ingest.reference.process import ReferenceProcess
from services.data_ingest.servicer import DataIngestServicer
from services.data_ingest.standby.journal_feed import JournalFeed
from services.data_ingest.standby.lease import LEASE_CONSUMER, Leadership
from services.data_ingest.standby.synchronous import Synchronous
from services.data_ingest.startup import StartingPoint
from services.data_ingest.status import SetAside, Status
from services.data_ingest.store_health import DatabaseProbe, StoreState
from services.data_ingest.stream.alert_rules import AlertRulesFollower
from services.data_ingest.stream.bar_stream import BarStream
from services.data_ingest.stream.epochs import EpochRenewal
from services.data_ingest.stream.frame_stream import FrameStream
from services.data_ingest.stream.redis_stream import JournalStream
from services.data_ingest.stream.rules import FiltersFollower, TradeRulesFollower
from services.data_ingest.stream.sequencer import Sequencer
from services.data_ingest.vendor_snapshot.channel import CHANNEL, SnapshotChannel
from services.data_ingest.vendor_snapshot.poller import SnapshotPoller
from services.data_ingest.vendor_snapshot.rows import SnapshotRules
from services.data_ingest.vendor_snapshot.source import SnapshotProcess, SnapshotSource
from services.kit.alerts.definitions import load_alerts
from services.kit.lists.definitions import load_lists
from services.kit.rpc.market_stream import Consumer
from services.kit.runtime.clock import wall_ns
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import make_client
from services.kit.stores.redis_channels import RedisChannels
from services.kit.vendor.client import VendorClient
from services.market.calendar_client import CalendarClient

if TYPE_CHECKING:
    from services.kit.runtime.spans import Traces

Background = dict[str, Callable[[], Coroutine[None, None, None]]]


@dataclass(frozen=True)
class Parts:
    """All that runs while the service does; `background` names what runs by itself until the stop."""

    sequencer: Sequencer
    journal: Journal | None
    feed: FeedInput
    reference: ReferenceFollower
    trade_rules: TradeRulesFollower
    filters: FiltersFollower
    alert_rules: AlertRulesFollower
    stream: FrameStream
    bars: BarStream
    servicer: DataIngestServicer
    # For those who stand by; None for the only sequencer.
    journal_feed: JournalFeed | None
    background: Background


@dataclass(frozen=True)
class Sources:
    """Where reference data and snapshots come from, None for a process of our own; and what watches rows set aside."""

    reference: ReferenceSource | None = None
    snapshots: SnapshotSource | None = None
    set_aside: SetAsideWatch = field(default_factory=SetAsideWatch)


def sequencer_name(settings: Settings) -> str:
    """Names this sequencer to others: its host and data directory."""
    return f"{socket.gethostname()}:{settings.market_dir.absolute()}"


def make_parts(
    settings: Settings,
    resources: AsyncExitStack,
    sources: Sources,
    start: StartingPoint,
    sequencer: Sequencer,
    journal: Journal | None,
    vendor: VendorClient,
    calendars: CalendarClient,
    clock: MarketClock,
    set_unhealthy_reason: Callable[[str | None], None],
    traces: "Traces | None" = None,
    leadership: Leadership | None = None,
    synchronous: Synchronous | None = None,
) -> Parts:
    """Makes the parts, each with those that it needs; nothing is in the stream yet.

    What is to be closed is added to `resources`. `clock`: the market's, with TRADEUL_CLOCK=wall. `traces`: None where
    they are off. `leadership`: the lease under which this sequencer leads, None for the only one. `synchronous`: None
    where readers do not wait for a standby.
    """
    stream, bars = FrameStream(sequencer, metrics.count_slow_reader), BarStream(sequencer)
    if leadership is not None:
        stream.fencing_number, stream.may_show = leadership.fencing_number, leadership.is_sure
        leadership.on_sure = stream.wake
    background: Background = {}
    channels: RedisChannels | None = None
    stores: list[StoreState] = []
    if journal is not None:
        background["journal"] = journal.run
    if settings.redis_url:
        text, binary = make_client(settings.redis_url), make_client(settings.redis_url, decode_responses=False)
        resources.push_async_callback(text.aclose)
        resources.push_async_callback(binary.aclose)
        channels = RedisChannels(text, (CHANNEL,))
        background["channels"] = channels.run
        stores.append(redis_state := StoreState("Redis"))
        newest = sequencer.committed.newest
        background["journal_stream"] = JournalStream(binary, lambda: sequencer.ring, newest, redis_state).run
    if settings.database_url:
        probe = DatabaseProbe(settings.database_url)
        stores.append(probe.state)
        background["database_probe"] = probe.run

    reference_source = sources.reference or ReferenceProcess(settings)
    reference = ReferenceFollower(reference_source, sequencer, lambda: feed.days.calendar, KnownSplits(vendor.splits))
    notices = ReferenceNotices(settings.database_url, reference.stores_changed, reference.stores_may_have_changed)
    feed = FeedInput(sequencer, settings.clock, reference.split_until, clock.now_ns)
    if start.found is not None:
        feed.resume_after(FeedProgress(start.found.feed, start.found.trade_identities))
    admission = feed.admission
    pacer = Pacer(ranking_seconds=lambda: sequencer.ranking_seconds, behind_seconds=lambda: stream.behind_seconds)
    watermarks = Watermarks(sequencer, feed.days, clock if feed.is_wall else None, pacer)
    trade_rules = TradeRulesFollower(vendor, feed.set_trade_rules, settings.suspect_prints == "take")
    filters = FiltersFollower(
        settings.database_url, sequencer, lambda: settings.is_replay and feed.position is not None
    )
    shipped_rules = load_alerts([spec.name for spec in load_lists()])
    alert_rules = AlertRulesFollower(settings.database_url, sequencer, shipped_rules)
    if (snapshot_source := sources.snapshots) is None:
        snapshot_source = process = SnapshotProcess(settings)
        resources.push_async_callback(process.close)
    snapshots = SnapshotPoller(
        snapshot_source,
        sequencer,
        lambda: SnapshotRules(trade_rules.forbids_last, sequencer.day.market_open_ns, sequencer.day.market_close_ns),
        watermarks.events_came,
        SnapshotChannel(channels).publish if channels is not None else None,
    )
    gaps: LineGaps | None = None
    if not settings.is_replay:
        healer = GapHealer(GapBarsProcess(settings), sequencer, admission, watermarks.events_came)
        gaps = LineGaps(
            sequencer,
            lambda: admission.newest_ns,
            clock.now_ns if feed.is_wall else lambda: admission.newest_ns,
            healer.gap_opened,
            healer.gap_ended,
            snapshots.request_after_loss,
            settings.market_dir,
            can_pause=settings.uses_simulator,
        )
        feed.days.listen(gaps.day_began)
        background["gaps"] = functools.partial(healer.run, gaps)
    health = FeedHealth(feed, sequencer, set_unhealthy_reason, sources.set_aside, gaps, clock if feed.is_wall else None)
    epochs = EpochRenewal(sequencer, journal, settings.market_dir, feed.progress_of_epoch)
    for listener in (epochs.day_began, reference.day_changed, snapshots.request):
        feed.days.listen(listener)

    set_aside: list[SetAside] = [
        ("", lambda: filters.set_aside),
        ("", lambda: alert_rules.set_aside),
        ("", lambda: notices.set_aside),
        ("", lambda: snapshot_source.set_aside),
        ("reference_", lambda: reference_source.set_aside),
    ]
    if settings.halts_url:
        halt_feed = HaltFeed(settings.halts_url)
        resources.push_async_callback(halt_feed.close)
        halts = HaltsFollower(halt_feed, sequencer, feed.latest_ns, watermarks.events_came, poll_seconds(settings))
        feed.days.listen(halts.day_changed)
        set_aside.append(("halt_", lambda: halts.set_aside))
    status = Status(sequencer, journal, stream, feed, health, reference, set_aside, gaps, stores)

    background["filters"] = filters.run
    background["alert_rules"] = alert_rules.run
    background["epochs"] = epochs.run
    background["status"] = status.run
    if feed.is_wall:
        background["vendor_clock"] = VendorClock(vendor, clock, lambda: sequencer.now_ns).run
    background["calendar"] = lambda: feed.days.follow_calendar(calendars)
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
    journal_feed: JournalFeed | None = None
    consumer = Consumer(sequencer_name(settings), wall_ns())
    if leadership is not None:
        consumer = Consumer(LEASE_CONSUMER, leadership.fencing_number, is_leased=True)
        journal_feed = JournalFeed(
            sequencer,
            leadership.fencing_number,
            lambda: feed.position,
            gaps.kept if gaps is not None else bytes,
            lambda: reader.acknowledge_soon(),
            start.found.trade_identities if start.found is not None else b"",
            synchronous,
        )
        background["journal_feed"] = journal_feed.run
    reader = FeedReader(
        settings.address("polygon_ws"),
        feed,
        (lambda events: None) if settings.is_replay else watermarks.events_came,
        snapshots.request_after_loss,
        health.set_line,
        before_batch,
        consumer,
        gaps,
        FrameTraces(traces, sequencer, feed) if traces is not None else None,
        leadership,
        journal_feed.acknowledgeable if journal_feed is not None else None,
    )
    background["feed"] = reader.run
    servicer = DataIngestServicer(sequencer, feed, stream, status)
    return Parts(
        sequencer,
        journal,
        feed,
        reference,
        trade_rules,
        filters,
        alert_rules,
        stream,
        bars,
        servicer,
        journal_feed,
        background,
    )
