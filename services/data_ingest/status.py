"""The service's account of itself: rows set aside, warnings, and its counts as metrics."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from services.data_ingest import metrics
from services.data_ingest.feed.feed_health import FeedHealth
from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.feed.line_gaps import Gap, LineGaps
from services.data_ingest.journal import Journal
from services.data_ingest.reference.follower import ReferenceFollower
from services.data_ingest.store_health import StoreState
from services.data_ingest.stream.frame_stream import FrameStream
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.runtime.metrics import CounterSync, SetAsideReport

COUNT_SECONDS: Final = 0.5

# A source of rows set aside since the start, by reason; and what its reasons are prefixed with.
SetAside = tuple[str, Callable[[], Mapping[str, int]]]


class Status:
    """Counts are kept where they arise; they come to the metrics now and then, not with every event.

    `set_aside`: what else than the feed sets rows aside.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        journal: Journal | None,
        stream: FrameStream,
        feed: FeedInput,
        health: FeedHealth,
        reference: ReferenceFollower,
        set_aside: Sequence[SetAside],
        gaps: LineGaps | None = None,
        stores: Sequence[StoreState] = (),
    ) -> None:
        self._sequencer = sequencer
        self._journal = journal
        self._stream = stream
        self._feed = feed
        self._health = health
        self._reference = reference
        self._set_aside = set_aside
        self._gaps = gaps
        self._stores = stores
        self._counters = CounterSync()
        self._report = SetAsideReport()

    async def run(self) -> None:
        """Looks after the feed's health and the metrics until cancelled."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            self._stream.snapshots.release()
            self._health.check()
            self._count()

    def reference(self) -> dict[str, int]:
        """Symbols by the kind of reference data that they have."""
        return self._reference.holdings.counts()

    @property
    def stale_seconds(self) -> float:
        """How long nothing has come from the vendor although something should have; else 0."""
        return self._gaps.stale_seconds if self._gaps is not None else 0.0

    @property
    def gaps(self) -> Sequence[Gap]:
        """Today's gaps of the vendor's line, oldest first."""
        return self._gaps.gaps if self._gaps is not None else ()

    def warnings(self) -> list[str]:
        """Those of the feed, a journal that is not kept, and stores that take nothing, in words."""
        found = [*self._health.warnings, *(store.warning for store in self._stores if store.warning is not None)]
        if self._journal is not None and not self._journal.is_kept:
            found.append("the journal is not kept: a restart would begin a new epoch")
        return found

    def rejected(self) -> dict[str, int]:
        """Rows set aside since the start, by reason."""
        counts = self._feed.rejected
        for prefix, source in self._set_aside:
            counts.update({f"{prefix}{reason}": count for reason, count in source().items()})
        counts["symbol"] += self._sequencer.symbols.refused
        return {reason: count for reason, count in counts.items() if count}

    def _count(self) -> None:
        raise_to = self._counters.raise_to
        feed, sequencer, ring = self._feed, self._sequencer, self._sequencer.ring
        state = sequencer.market.state
        metrics.HELD_FRAMES.set(ring.newest + 1 - ring.oldest)
        metrics.HELD_BYTES.set(ring.held_bytes)
        metrics.SYMBOLS.set(len(sequencer.symbols))
        for outcome, count in state.suspect_prints.items():
            metrics.SUSPECT_PRINTS.labels(outcome).set(count)
        metrics.READERS_BEHIND.set(self._stream.behind_seconds)
        metrics.STALE_SECONDS.set(self.stale_seconds)
        metrics.CLOCK_AHEAD.set(self._health.clock_ahead_seconds)
        metrics.HALTED_SYMBOLS.set(state.halted_count)
        raise_to(metrics.LOWERED_VOLUMES, "lowered_volumes", state.lowered_volumes)
        raise_to(metrics.FEED_RESETS, "resets", feed.resets)
        raise_to(metrics.LOST_BATCHES, "lost_batches", feed.lost_batches)
        raise_to(metrics.TRADING_DAYS, "days", feed.days.count)
        raise_to(metrics.UNKNOWN_CONDITIONS, "conditions", feed.admission.unknown_condition_trades)
        if (journal := self._journal) is not None:
            metrics.JOURNAL_KEPT.set(journal.is_kept)
            raise_to(metrics.JOURNAL_BYTES, "journal_bytes", journal.bytes)
            raise_to(metrics.JOURNAL_ENTRIES, "journal_entries", journal.entries)
        for body, count in sequencer.frames.items():
            raise_to(metrics.frames(body), f"frame.{body}", count)
        for kind, count in feed.admission.accepted.items():
            raise_to(metrics.ticks(kind), f"tick.{kind}", count)
        for kind, count in self.reference().items():
            metrics.REFERENCE_SYMBOLS.labels(kind).set(count)
        rejected = Counter(self.rejected())
        for reason, count in rejected.items():
            raise_to(metrics.rejected(reason), f"rejected.{reason}", count)
        self._report.update(rejected)
