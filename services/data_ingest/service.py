"""The service: one feed in, one sequenced stream out, and what else belongs into the stream."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final

import grpc.aio
from redis.asyncio import Redis
from tradeul.v1 import bars_pb2, data_ingest_pb2, market_session_pb2_grpc, session_pb2

from fastcore.admission import MAX_TIME
from fastcore.trade_rules import read_rules
from services.data_ingest import metrics
from services.data_ingest import startup as opening
from services.data_ingest.feed.feed_input import AHEAD_NS, FeedInput
from services.data_ingest.feed.feed_reader import FeedReader
from services.data_ingest.feed.halt_feed import HaltFeed
from services.data_ingest.feed.halts_follower import OPEN_SECONDS, HaltsFollower
from services.data_ingest.feed.rules_follower import RulesFollower
from services.data_ingest.feed.set_aside_watch import SetAsideWatch
from services.data_ingest.journal import Journal, JournalDirectory
from services.data_ingest.reference import ReferenceSource
from services.data_ingest.reference.changes import KnownSplits, ReferenceNotices
from services.data_ingest.reference.follower import ReferenceFollower
from services.data_ingest.reference.process import ReferenceProcess
from services.data_ingest.servicer import DataIngestServicer
from services.data_ingest.startup import vendor_now_ns
from services.data_ingest.stream.bar_stream import BarStream
from services.data_ingest.stream.epoch import next_epoch
from services.data_ingest.stream.filters_follower import FiltersFollower
from services.data_ingest.stream.frame_stream import FrameStream
from services.data_ingest.stream.redis_stream import JournalStream
from services.data_ingest.stream.replay_gate import ReplayGate
from services.data_ingest.stream.sequencer import LAST_SEQUENCE
from services.data_ingest.stream.watermarks import Watermarks
from services.data_ingest.vendor_snapshot.channel import CHANNEL, SnapshotChannel
from services.data_ingest.vendor_snapshot.poller import SnapshotPoller
from services.data_ingest.vendor_snapshot.rows import SnapshotRules
from services.data_ingest.vendor_snapshot.source import SnapshotProcess, SnapshotSource
from services.kit.lists.scan_filters import ScanFilter
from services.kit.rpc.channel import open_channel
from services.kit.rpc.server import add_servicer
from services.kit.runtime.clock import WallClock, monotonic, new_york_date, wall_ns
from services.kit.runtime.errors import StartError
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.logging import get_logger
from services.kit.runtime.metrics import CounterSync, SetAsideReport
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import make_client
from services.kit.stores.redis_channels import RedisChannels
from services.kit.vendor.client import VendorClient
from services.market.calendar import Calendar, TradingDay
from services.market.calendar_client import CalendarClient

log = get_logger(__name__)

COUNT_SECONDS: Final = 0.5
# What asks the vendor tries again by itself, and soon notices that it is back.
VENDOR_ATTEMPTS: Final = 3
VENDOR_PAUSE_SECONDS: Final = 5.0


class DataIngest(Service):
    """See data_ingest.proto. The sources of reference data and snapshots can be others for tests."""

    name = "data_ingest"

    def __init__(
        self,
        settings: Settings,
        reference: ReferenceSource | None = None,
        snapshots: SnapshotSource | None = None,
        last_sequence: int = LAST_SEQUENCE,
    ) -> None:
        super().__init__(settings)
        self._last_sequence = last_sequence
        self._epoch_due = asyncio.Event()
        self._set_aside = SetAsideWatch()
        # Why nothing comes, and why nothing of it is admitted.
        self._feed_trouble: str | None = None
        self._set_aside_trouble: str | None = None
        self._journal_stream: JournalStream | None = None
        self._reference_source = reference or ReferenceProcess(settings)
        self._own_snapshots = SnapshotProcess(settings) if snapshots is None else None
        self._snapshot_source: SnapshotSource = snapshots or self._own_snapshots  # type: ignore[assignment]
        self._vendor: VendorClient | None = None
        self._halt_feed = HaltFeed(settings.halts_url) if settings.halts_url else None
        self._halts: HaltsFollower | None = None
        self._channel: grpc.aio.Channel | None = None
        self._redis: Redis | None = None
        self._journal_directory: JournalDirectory | None = None
        self._journal: Journal | None = None
        self._channels: RedisChannels | None = None
        self._is_wall = settings.clock == "wall"
        self._forbids_last = 0
        self._day_changed = asyncio.Event()
        self._counters = CounterSync()
        self._report = SetAsideReport()
        self._lag_of_ns = 0

    async def start(self) -> None:
        settings = self.settings
        directory = self._journal_directory = opening.open_directory(settings)
        vendor = self._vendor = VendorClient(
            settings.polygon.rest_url,
            settings.polygon.api_key,
            attempts=VENDOR_ATTEMPTS,
            retry_max_s=VENDOR_PAUSE_SECONDS,
        )
        self._channel = open_channel(settings.address("market_session"))
        self._trading_days = CalendarClient(market_session_pb2_grpc.MarketSessionServiceStub(self._channel))
        now_ns, day = await self._first_day(vendor)

        found = await opening.find(directory, day, now_ns) if directory is not None else None
        recorded = await opening.recorded_market(settings)
        has_reference = recorded is not None and opening.has_reference(recorded, day)
        self.sequencer, self._journal = await opening.open_sequencer(
            settings, directory, found, self._last_sequence, recorded
        )
        sequencer = self.sequencer
        self.stream = FrameStream(sequencer, self._on_slow)
        self.bars = BarStream(sequencer)
        self.feed = FeedInput(sequencer, settings.clock, self._on_day, lambda day: self.reference.split_until(day))
        if found is not None:
            self.feed.go_on_after(found.feed, found.trade_identities)
        splits = KnownSplits(vendor.splits)
        self.reference = ReferenceFollower(self._reference_source, sequencer, lambda: self._calendar, splits)
        self._notices = ReferenceNotices(
            settings.database_url, self.reference.stores_changed, self.reference.stores_may_have_changed
        )
        self._watermarks = Watermarks(sequencer, self.feed, WallClock() if self._is_wall else None)
        if settings.redis_url:
            self._redis = make_client(settings.redis_url)
            self._binary_redis = make_client(settings.redis_url, decode_responses=False)
            self._channels = RedisChannels(self._redis, (CHANNEL,))
        self._snapshots = SnapshotPoller(
            self._snapshot_source,
            sequencer,
            self._snapshot_rules,
            self._is_closed,
            self._watermarks.events_came,
            SnapshotChannel(self._channels).publish if self._channels is not None else None,
        )
        if self._halt_feed is not None:
            self._halts = HaltsFollower(
                self._halt_feed,
                sequencer,
                self._latest_ns,
                self._is_closed,
                self._watermarks.events_came,
                halt_poll_seconds(settings),
            )
        self._filters = FiltersFollower(settings.database_url, self._take_filters)
        self._rules = RulesFollower(vendor, self._take_rules, settings.suspect_prints == "take")
        gate = None
        if settings.is_replay:
            gate = ReplayGate(self.reference, self.stream, has_reference, lambda: self.feed.names).open
        self._reader = FeedReader(
            settings.address("polygon_ws"), self.feed, self._on_events, self._on_lost, self._set_feed_trouble, gate
        )
        self._servicer = DataIngestServicer(
            sequencer, self.feed, self.stream, self.reference.holdings.counts, self._rejected, self._warnings
        )
        self.feed.begin(self._calendar, day)
        await self._rules.first()
        await self._filters.first()
        self._day_changed.clear()
        # The feed's time, until its first event comes. A market that goes on waits for what polygon_ws has kept.
        sequencer.add_watermark(now_ns if found is None and recorded is None else 0)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = data_ingest_pb2.DESCRIPTOR.services_by_name["DataIngestService"]
        bars = bars_pb2.DESCRIPTOR.services_by_name["BarService"]
        return (add_servicer(server, service, self._servicer), add_servicer(server, bars, self.bars))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._reader.run(), name="data_ingest.feed")
            if self._channels is not None:
                tasks.create_task(self._channels.run(), name="data_ingest.channels")
                self._journal_stream = JournalStream(self._binary_redis, self.sequencer.ring)
                tasks.create_task(self._journal_stream.run(), name="data_ingest.journal_stream")
            if self._journal is not None:
                tasks.create_task(self._journal.run(), name="data_ingest.journal")
            tasks.create_task(self._filters.run(), name="data_ingest.filters")
            if not self.settings.is_replay:
                # A replay says itself when lists refresh, has its reference data before it begins, and
                # today's market is no part of it.
                tasks.create_task(self._watermarks.run(), name="data_ingest.watermarks")
                tasks.create_task(self._snapshots.run(), name="data_ingest.snapshots")
                if self._halts is not None:
                    tasks.create_task(self._halts.run(), name="data_ingest.halts")
                tasks.create_task(self.reference.run(), name="data_ingest.reference")
                tasks.create_task(self._notices.run(), name="data_ingest.notices")
                tasks.create_task(self._rules.run(), name="data_ingest.rules")
            follow = self._trading_days.follow(lambda: self.sequencer.day.date, self._day_changed, self._take_calendar)
            tasks.create_task(follow, name="data_ingest.calendar")
            tasks.create_task(self._renew_epochs(), name="data_ingest.epochs")
            tasks.create_task(self._tick(), name="data_ingest.tick")

    async def drain(self) -> None:
        self._servicer.close("data_ingest is stopping")
        self.bars.close("data_ingest is stopping")

    async def stop(self) -> None:
        if self._own_snapshots is not None:
            await self._own_snapshots.close()
        if self._halt_feed is not None:
            await self._halt_feed.close()
        if self._vendor is not None:
            await self._vendor.aclose()
        if self._channel is not None:
            await self._channel.close(None)
        if self._redis is not None:
            await self._redis.aclose()
            await self._binary_redis.aclose()
        if self._journal is not None:
            self._journal.close()
        elif self._journal_directory is not None:
            self._journal_directory.close()

    async def _first_day(self, vendor: VendorClient) -> tuple[int, TradingDay]:
        """The stream's first time and day; raises StartError when the calendar does not know the day."""
        replayed = self.settings.replay.date
        now_ns = 0
        if replayed is None:
            now_ns = wall_ns() if self._is_wall else await vendor_now_ns(vendor)
        date = replayed or new_york_date(now_ns)
        self._calendar = await self._trading_days.calendar(date)
        if replayed is not None:
            day = self._calendar.find(date)
        else:
            day = self._calendar.in_force(now_ns) if self._is_wall else self._calendar.startup_day(now_ns)
        if day is None:
            raise StartError(f"expected market_session to know the trading day of {date}, knew none")
        return now_ns or day.pre_market_start_ns, day

    # --- what happens in the stream

    def _on_slow(self, is_slow: bool) -> None:
        metrics.SLOW_READERS.inc(1 if is_slow else -1)
        if is_slow:
            metrics.SLOW_EVENTS.inc()

    def _take_filters(self, filters: Sequence[ScanFilter]) -> bool:
        is_other = self.sequencer.set_list_filters(filters)
        if is_other and self.settings.is_replay and self.feed.position is not None:
            # The day may stand still.
            self.sequencer.add_watermark(0)
        return is_other

    def _on_events(self, events: int) -> None:
        newest_ns = self.feed.admission.newest_ns
        if self._is_wall and newest_ns > self._lag_of_ns:
            self._lag_of_ns = newest_ns
            metrics.LAG.observe(max(0.0, (wall_ns() - newest_ns) / 1e9))
        if not self.settings.is_replay:
            self._watermarks.events_came(events)

    def _on_lost(self) -> None:
        """What was lost is in the vendor's snapshot, as far as it can be had at all."""
        self._snapshots.line_returned()

    def _on_day(self) -> None:
        self._day_changed.set()
        if self.sequencer.is_epoch_due:
            self._epoch_due.set()
        self.reference.day_changed()
        self._snapshots.poke()
        if self._halts is not None:
            self._halts.day_changed()

    def _take_calendar(self, calendar: Calendar) -> None:
        self._calendar = calendar
        self.feed.set_calendar(calendar)

    def _take_rules(self, rules: bytes) -> None:
        fields = read_rules(rules)
        self._forbids_last = fields["forbids_last"]
        log.info("trade rules", suspect_prints="take" if fields["take_suspect_prints"] else "hold")
        self.feed.set_trade_rules(rules)

    def _snapshot_rules(self) -> SnapshotRules:
        day = self.sequencer.day
        return SnapshotRules(self._forbids_last, day.market_open_ns, day.market_close_ns)

    def _latest_ns(self) -> int:
        """What begins later is ahead of time."""
        return wall_ns() + AHEAD_NS if self._is_wall else MAX_TIME

    def _is_closed(self) -> bool:
        return self.sequencer.market.state.session == session_pb2.CLOSED

    def _set_feed_trouble(self, trouble: str | None) -> None:
        self._feed_trouble = trouble
        self._show_trouble()

    def _show_trouble(self) -> None:
        self.set_unhealthy_reason(self._feed_trouble or self._set_aside_trouble)

    def _look_at_set_aside(self) -> None:
        trouble = None
        # With the wall's clock nothing is admitted between two days' sessions, and that is right.
        if not (self._is_wall and self._is_closed()):
            admitted = sum(self.feed.admission.accepted.values())
            trouble = self._set_aside.look(monotonic(), admitted, self.feed.rejected)
        if trouble is not None:
            trouble = f"{trouble}; the trading day in force is {self.sequencer.day.date}"
            if self._set_aside_trouble is None:
                log.error("nothing of the feed is admitted", reason=trouble)
        self._set_aside_trouble = trouble
        self._show_trouble()

    def _warnings(self) -> list[str]:
        """What is wrong with the feed or the day, in words."""
        missing = [f"trading day {date} is missing: nothing of it came" for date in self.feed.missing_days]
        return [*missing, *([self._set_aside_trouble] if self._set_aside_trouble is not None else [])]

    def _rejected(self) -> dict[str, int]:
        """What was set aside since the start, by reason."""
        counts = self.feed.rejected
        counts.update(self._filters.wrong)
        if self._notices.wrong:
            counts["reference_notice"] += self._notices.wrong
        counts.update(self._snapshot_source.set_aside)
        if self._halts is not None:
            for reason, count in self._halts.set_aside.items():
                counts[f"halt_{reason}"] += count
        for reason, count in self._reference_source.set_aside.items():
            counts[f"reference_{reason}"] += count
        if self.sequencer.symbols.refused:
            counts["symbol"] += self.sequencer.symbols.refused
        return {reason: count for reason, count in counts.items() if count}

    # --- the end of a numbering

    async def _renew_epochs(self) -> None:
        """Begins a new epoch whenever one is due and a day has begun; until cancelled."""
        while True:
            await self._epoch_due.wait()
            self._epoch_due.clear()
            epoch = await next_epoch(self.settings.market_dir)
            if self._journal is None:
                self._begin_epoch(epoch)
                self.sequencer.announce_epoch()
            else:
                async with self._journal.beginning:
                    self._begin_epoch(epoch)
                    stored = self._journal.begin(self.feed.position, self.feed.first_identities)
                    self.sequencer.announce_epoch()
                    await stored
            self.feed.first_identities = b""

    def _begin_epoch(self, epoch: int) -> None:
        sequencer = self.sequencer
        log.info("a new epoch begins: positions have 32 bits", epoch=epoch, ended=str(sequencer.position))
        sequencer.begin_epoch(epoch, opening.renewed(sequencer.market))
        if self._journal_stream is not None:
            self._journal_stream.follow(sequencer.ring)

    # --- metrics

    async def _tick(self) -> None:
        """Counters go to the metrics now and then, not with every event."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            self.stream.release_snapshot()
            self._look_at_set_aside()
            self._count()

    def _count(self) -> None:
        raise_to = self._counters.raise_to
        feed, ring = self.feed, self.stream.ring
        metrics.HELD_FRAMES.set(ring.newest + 1 - ring.oldest)
        metrics.HELD_BYTES.set(ring.held_bytes)
        metrics.SYMBOLS.set(len(self.sequencer.symbols))
        for outcome, count in self.sequencer.market.state.suspect_prints.items():
            metrics.SUSPECT_PRINTS.labels(outcome).set(count)
        metrics.HALTED_SYMBOLS.set(self.sequencer.market.state.halted_count)
        raise_to(metrics.LOWERED_VOLUMES, "lowered_volumes", self.sequencer.market.state.lowered_volumes)
        raise_to(metrics.FEED_RESETS, "resets", feed.resets)
        raise_to(metrics.LOST_BATCHES, "lost_batches", feed.lost_batches)
        raise_to(metrics.TRADING_DAYS, "days", feed.days)
        raise_to(metrics.UNKNOWN_CONDITIONS, "conditions", feed.admission.unknown_condition_trades)
        if (journal := self._journal) is not None:
            metrics.JOURNAL_KEPT.set(journal.is_kept)
            raise_to(metrics.JOURNAL_BYTES, "journal_bytes", journal.bytes)
            raise_to(metrics.JOURNAL_ENTRIES, "journal_entries", journal.entries)
        for body, count in self.sequencer.frames.items():
            raise_to(metrics.frames(body), f"frame.{body}", count)
        for kind, count in feed.admission.accepted.items():
            raise_to(metrics.ticks(kind), f"tick.{kind}", count)
        for kind, count in self.reference.holdings.counts().items():
            metrics.REFERENCE_SYMBOLS.labels(kind).set(count)
        now = Counter(self._rejected())
        for reason, count in now.items():
            raise_to(metrics.rejected(reason), f"rejected.{reason}", count)
        self._report.update(now)


def halt_poll_seconds(settings: Settings) -> float:
    """A minute of the market's time: a simulated one may be shorter."""
    return max(1.0, OPEN_SECONDS / settings.sim.speed) if settings.uses_simulator else OPEN_SECONDS


def create(settings: Settings) -> Service:
    """The factory that services/modules.py names."""
    return DataIngest(settings)
