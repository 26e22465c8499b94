"""Brings reference data into the stream: those of each day, and those of symbols that turn up later."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, cast

import numpy as np

from services.data_ingest.reference import HistoryDays, ReferenceBatch, ReferenceSource
from services.data_ingest.reference.batch import no_baselines
from services.data_ingest.reference.changes import KnownSplits
from services.data_ingest.reference.holdings import DAYS_BEFORE, Gathered, Holdings
from services.data_ingest.stream.sequencer import Sequencer
from services.data_ingest.stream.symbols import is_symbol
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.stores.notifications import KINDS, Kind, ReferenceChange
from services.market.calendar import Calendar, TradingDay
from services.market.levels import LEVELS

log = get_logger(__name__)

# Symbols that turn up are gathered for so long.
GATHER_SECONDS: Final = 5.0
# Splits are announced ahead, and now and then late.
SPLITS_EVERY_SECONDS: Final = 3600.0
SPLITS_SECONDS: Final = 5.0
# Batches come in bunches. Adding them takes at most this share of the event loop's time, for trades come first. Where
# one took long for another reason, such as a slow disk, the next one comes after the longest pause.
LOOP_SHARE: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 0.1


class ReferenceFollower:
    """Loads in the background, a day at a time; `calendar` gives the newest one.

    Without `splits` it is never known which symbols split from one day to the next.
    """

    def __init__(
        self,
        source: ReferenceSource,
        sequencer: Sequencer,
        calendar: Callable[[], Calendar],
        splits: KnownSplits | None = None,
    ) -> None:
        self.holdings = Holdings()
        self._source = source
        self._sequencer = sequencer
        self._calendar = calendar
        self._splits = splits
        # The day before the one in force, when this process saw it end, and who lost history with it; None: all.
        self._left: datetime.date | None = None
        self._split: frozenset[str] | None = None
        self._day_changed = asyncio.Event()
        self._loading_date: datetime.date | None = None
        # Symbols that were loaded or requested.
        self._requested: set[str] = set()
        # What has changed in the stores since it was loaded.
        self._stale: set[Kind] = set()
        self._stores_changed = asyncio.Event()
        self._gathered = Gathered()

    @property
    def gathered_counts(self) -> dict[str, int]:
        """Symbols that load_all() has so far, by kind of reference data."""
        return self._gathered.counts()

    def day_changed(self) -> None:
        """The stream has begun a day. When it is another one, what is being loaded is of no more use."""
        if self._loading_date != self._sequencer.day.date:
            split = None if self._split is None else self._sequencer.symbols.known_ids(self._split)
            self.holdings.forget_day(split)
            self._day_changed.set()

    def split_until(self, day: TradingDay) -> frozenset[str] | None:
        """The symbols that split between the day in force and `day`, which is about to begin; None: not known."""
        if self._loading_date is None or self._sequencer.day.date == day.date:
            return None
        self._left = self._sequencer.day.date
        self._split = None if self._splits is None else self._splits.between(self._left, day.date)
        return self._split

    def stores_changed(self, notice: ReferenceChange) -> None:
        """A kind has changed in the stores. Bars of the day in force or later are history tomorrow: left out."""
        if notice.kind == "metadata" or notice.date < self._sequencer.day.date:
            self._stale.add(notice.kind)
            self._stores_changed.set()

    def stores_may_have_changed(self) -> None:
        """Notices may have been lost."""
        self._stale.update(KINDS)
        self._stores_changed.set()

    async def run(self) -> None:
        """Loads until cancelled."""
        while True:
            self._day_changed.clear()
            day = self._sequencer.day
            self._loading_date = day.date
            loading = asyncio.create_task(self._load_day(day), name="data_ingest.reference_day")
            changed = asyncio.create_task(self._day_changed.wait(), name="data_ingest.day_changed")
            try:
                await asyncio.wait({loading, changed}, return_when=asyncio.FIRST_COMPLETED)
                if loading.done():
                    loading.result()
            finally:
                loading.cancel()
                changed.cancel()
                await asyncio.gather(loading, changed, return_exceptions=True)

    async def load_all(self, names: Sequence[str] = ()) -> None:
        """All of the day in force, and of the symbols there are, before it returns: for a replay.

        The same data makes the same frames. `names`: what the feed calls its symbols, which
        become some by what is known of them, or by their events.
        """
        day = self._sequencer.day
        days = HistoryDays.of(self._calendar().all_before(day.date))
        gathered = self._gathered = Gathered()
        log.info("reference data of the replay's day are loaded before it begins", day=str(day.date))
        await self._gather(gathered, day, None, days)
        wanted = {*self._sequencer.symbols.texts, *(name for name in names if is_symbol(name))}
        rest = sorted(wanted - gathered.symbols)
        if rest:
            await self._gather(gathered, day, rest, days)
            gathered.forget_unknown(set(rest).difference(self._sequencer.symbols.texts))
        for batch in gathered.batches():
            self._add(batch)
            await asyncio.sleep(0)
        log.info("reference data loaded, the replay begins", day=str(day.date), **gathered.counts())

    async def _gather(
        self, gathered: Gathered, day: TradingDay, symbols: Sequence[str] | None, days: HistoryDays
    ) -> None:
        batches = cast(AsyncGenerator[ReferenceBatch, None], self._source.load(day.date, symbols, days))
        async with contextlib.aclosing(batches):
            async for batch in batches:
                gathered.add(batch)

    async def _load_day(self, day: TradingDay) -> None:
        """All that is known of the day, then what turns up, for as long as the day lasts."""
        days = HistoryDays.of(self._calendar().all_before(day.date))
        self._requested = set()
        # What changed before is loaded now.
        self._stale.clear()
        self._stores_changed.clear()
        await self._look_up_splits(day)
        splits_at = monotonic() + SPLITS_EVERY_SECONDS
        await self._load(day, None, days)
        while True:
            self._stores_changed.clear()
            if monotonic() >= splits_at:
                await self._look_up_splits(day)
                splits_at = monotonic() + SPLITS_EVERY_SECONDS
            if self._stale:
                kinds, self._stale = sorted(self._stale), set()
                log.info("reference data that changed in the stores", kinds=kinds)
                await self._load(day, None, days, kinds)
            new = [symbol for symbol in self._sequencer.symbols.texts if symbol not in self._requested]
            if new:
                log.info("reference data of symbols that turned up", symbols=len(new))
                self._requested.update(new)
                await self._load(day, new, days)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GATHER_SECONDS):
                    await self._stores_changed.wait()

    async def _look_up_splits(self, day: TradingDay) -> None:
        """The splits to come; those that were not known when the day began take their symbols' history now."""
        if self._splits is None:
            return
        after = day.date if self._left is None else self._left
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SPLITS_SECONDS):
                await self._splits.look_up(after, day.date)
        if self._left is None or self._split is None:
            return
        late = (self._splits.between(self._left, day.date) or frozenset()) - self._split
        self._split |= late
        symbols = sorted(late.intersection(self._sequencer.symbols.texts))
        if symbols and self._sequencer.day.date == day.date:
            log.warning("splits that were not announced before the day began", symbols=symbols)
            nothing = {name: np.full(len(symbols), np.nan) for name in (*DAYS_BEFORE, *LEVELS)}
            self._add(ReferenceBatch(symbols, nothing))
            self._add(ReferenceBatch(symbols, baselines=no_baselines(len(symbols))))

    async def _load(
        self, day: TradingDay, symbols: Sequence[str] | None, days: HistoryDays, kinds: Sequence[Kind] | None = None
    ) -> None:
        batches = cast(AsyncGenerator[ReferenceBatch, None], self._source.load(day.date, symbols, days, kinds))
        async with contextlib.aclosing(batches):
            async for batch in batches:
                if self._sequencer.day.date != day.date:
                    return
                began = monotonic()
                self._add(batch)
                pause = (monotonic() - began) * (1 / LOOP_SHARE - 1)
                await asyncio.sleep(min(pause, LONGEST_PAUSE_SECONDS))

    def _add(self, batch: ReferenceBatch) -> None:
        ids = self._sequencer.add_symbols(batch.symbols)
        self._requested.update(batch.symbols)
        if min(ids, default=-1) < 0:
            kept = [row for row, each in enumerate(ids) if each >= 0]
            if not kept:
                return
            batch, ids = batch.select(kept), [ids[row] for row in kept]
        columns = batch.encode(ids)
        if batch.baselines is not None:
            self._sequencer.add_baselines(columns)
        else:
            self._sequencer.add_reference(columns)
        self.holdings.add(batch, ids)
