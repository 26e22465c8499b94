"""Loads a day's reference data in the caller's event loop: the order of it all.

What Redis and PostgreSQL hold is read there, the rest is fetched from the vendor's REST.
Decoding a day's bars of all symbols holds the loop up for tens of milliseconds
and a symbol's 5-minute bars for some; where that matters use
`process.ReferenceProcess`.
"""

import asyncio
import contextlib
import dataclasses
import datetime
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Final

import asyncpg
from redis.asyncio import Redis

from services.data_ingest.reference.baseline_load import BaselineLoad
from services.data_ingest.reference.batch import ReferenceBatch
from services.data_ingest.reference.daily_load import DailyLoad
from services.data_ingest.reference.day_source import day_source
from services.data_ingest.reference.load import HistoryDays, Load
from services.data_ingest.reference.metadata_load import MetadataLoad
from services.data_ingest.reference.stores import holds_raw
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.settings import Settings
from services.kit.stores.notifications import Kind
from services.kit.vendor.client import VendorClient, VendorError
from services.market.splits import SplitTable

log = get_logger(__name__)

# Their baselines come before everything that no list needs at once.
FIRST_SYMBOLS: Final = 2000
BATCHES_AHEAD: Final = 8
RETRY_PAUSE_SECONDS: Final = 30.0
# Stored prices wait for the splits, but not for ever.
SPLITS_SECONDS: Final = 10.0


class ReferenceLoader:
    """See source.ReferenceSource. Without a pool or a Redis that store counts as empty."""

    def __init__(
        self,
        settings: Settings,
        pool: asyncpg.Pool | None,
        redis: Redis | None,
        vendor: VendorClient,
        *,
        retry_pause_s: float = RETRY_PAUSE_SECONDS,
    ) -> None:
        self.set_aside: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self._pool = pool
        self._redis = redis
        self._vendor = vendor
        self._retry_pause_s = retry_pause_s
        self._is_replay = settings.is_replay
        self._details_per_s = settings.polygon.details_per_s

    async def load(
        self,
        day: datetime.date,
        symbols: Sequence[str] | None = None,
        days: HistoryDays | None = None,
        kinds: Sequence[Kind] | None = None,
    ) -> AsyncIterator[ReferenceBatch]:
        """See source.ReferenceSource."""
        days = HistoryDays.of_nyse(day) if days is None else days
        wanted = None if symbols is None else frozenset(symbols)
        queue: asyncio.Queue[ReferenceBatch] = asyncio.Queue(BATCHES_AHEAD)
        producer = asyncio.create_task(self._run(day, days, wanted, kinds, queue), name="reference.load")
        try:
            while not (producer.done() and queue.empty()):
                taken = asyncio.ensure_future(queue.get())
                await asyncio.wait({taken, producer}, return_when=asyncio.FIRST_COMPLETED)
                if not taken.done():
                    taken.cancel()
                    continue
                yield taken.result()
            await producer
        finally:
            producer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(producer, return_exceptions=True)

    async def _run(
        self,
        day: datetime.date,
        days: HistoryDays,
        wanted: frozenset[str] | None,
        kinds: Sequence[Kind] | None,
        queue: "asyncio.Queue[ReferenceBatch]",
    ) -> None:
        async def emit(batch: ReferenceBatch) -> None:
            if batch.symbols:
                for piece in batch.pieces():
                    await queue.put(piece)

        load = Load(
            day,
            days,
            wanted,
            self._pool,
            self._redis,
            self._vendor,
            SplitTable((), day, self.set_aside),
            emit,
            self.set_aside,
            self.failed,
            self._retry_pause_s,
            self._details_per_s,
            self._is_replay,
        )
        before = Counter(self._vendor.set_aside)
        has_splits = await self._read_splits(load)
        if kinds is not None:
            await self._refresh(load, kinds, has_splits)
        else:
            await self._load(load)
            if not has_splits:
                await self._load_again_what_split(load)
        self.set_aside.update(Counter(self._vendor.set_aside) - before)
        log.info(
            "reference data loaded",
            day=str(day),
            kinds="all" if kinds is None else list(kinds),
            symbols=len(load.universe),
            failed=dict(self.failed),
            set_aside=dict(self.set_aside),
        )

    async def _load(self, load: Load) -> None:
        async with asyncio.TaskGroup() as tasks:
            await self._load_all_but_details(load, tasks)

    async def _load_all_but_details(self, load: Load, tasks: asyncio.TaskGroup) -> None:
        """The details come in `tasks`, for minutes after this has returned and a month's bars are no longer held."""
        source = day_source(load)
        await source.look_up()
        daily, metadata, baselines = DailyLoad(load, source), MetadataLoad(load), BaselineLoad(load)
        summaries = tasks.create_task(metadata.fetch_summaries())
        await daily.load_recent()
        await metadata.emit_summaries(await summaries, daily.symbols)
        tasks.create_task(metadata.load_details())
        missing = await baselines.load_stored(load.by_activity(load.universe))
        await baselines.load_from_vendor(missing[:FIRST_SYMBOLS])
        await daily.load_history()
        await baselines.load_from_vendor(missing[FIRST_SYMBOLS:])
        await daily.retry_recent()
        await daily.clear_averages(metadata.lack)

    async def _refresh(self, load: Load, kinds: Collection[Kind], has_splits: bool) -> None:
        """Emits what PostgreSQL has of `kinds` now; without the splits only what they do not adjust.

        Nothing that only the vendor has is lost by it.
        """
        if "metadata" in kinds:
            await MetadataLoad(load).refresh()
        if not has_splits:
            load.failed["splits"] += 1
            log.error("splits not fetched: what was loaded before stays")
            return
        if "daily" in kinds or "atr" in kinds:
            source = day_source(load)
            await source.look_up()
            await DailyLoad(load, source).refresh()
        if "baselines" in kinds:
            await BaselineLoad(load).refresh()

    async def _read_splits(self, load: Load) -> bool:
        """Reads the splits that stored prices need; True if the load has them, or there are no stored prices."""
        if load.pool is None or not load.days.before or not await load.read("postgres", holds_raw(load.pool), False):
            return True
        try:
            async with asyncio.timeout(SPLITS_SECONDS):
                splits = await load.vendor.splits(load.days.before[0], load.day)
        except (VendorError, TimeoutError) as error:
            log.error("splits not fetched: stored values stay unadjusted", error=reason_of(error))
            return False
        load.splits = SplitTable(splits, load.day, load.set_aside)
        return True

    async def _load_again_what_split(self, load: Load) -> None:
        """Loads the symbols that split again, once the vendor gives the splits."""
        if not await self._read_splits(load):
            load.failed["splits"] += 1
            return
        split = load.universe & load.splits.symbols
        if split:
            await self._load(dataclasses.replace(load, symbols=split))
