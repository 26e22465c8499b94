"""A past day's reference data from PostgreSQL alone, for who goes through many days: nothing is asked of the vendor
but the splits, and a day's daily bars are read once for all of them.

What is not stored is absent, and named in `lacks`.
"""

import asyncio
import datetime
from collections import Counter

import asyncpg

from services.data_ingest.reference.baseline_load import BaselineLoad
from services.data_ingest.reference.daily_load import DailyLoad
from services.data_ingest.reference.day_source import Day
from services.data_ingest.reference.load import Load
from services.data_ingest.reference.loader import ReferenceLoader
from services.data_ingest.reference.metadata_load import MetadataLoad
from services.kit.runtime.settings import Settings
from services.kit.stores.daily_bars import stored_bars
from services.kit.vendor.client import VendorClient
from services.market.daily_bars import DayBars, no_bars


class DailyBars:
    """The stored daily bars of many days, raw, each day read once."""

    def __init__(self) -> None:
        self.missing: set[datetime.date] = set()
        self._days: dict[datetime.date, DayBars] = {}
        # The same text for a symbol of every day: 250 days of 12,000 are millions of them.
        self._texts: dict[str, str] = {}

    async def read(self, pool: asyncpg.Pool, date: datetime.date, set_aside: Counter[str]) -> DayBars:
        """The bars of a day in the shares of that day; raises asyncpg's errors."""
        if (bars := self._days.get(date)) is None:
            bars = await stored_bars(pool, date, {}, set_aside)
            bars = bars._replace(symbols=[self._texts.setdefault(symbol, symbol) for symbol in bars.symbols])
            self._days[date] = bars
        return bars

    def forget_before(self, date: datetime.date) -> None:
        """Drops the days before `date`."""
        for each in [day for day in self._days if day < date]:
            del self._days[each]


class StoredDays:
    """See day_source.DaySource. A day without any stored bar is a hole."""

    def __init__(self, load: Load, bars: DailyBars) -> None:
        self._load = load
        self._bars = bars
        self.missing: set[datetime.date] = set()

    async def look_up(self) -> None:
        """See DaySource."""

    async def read(self, date: datetime.date) -> Day:
        """See DaySource."""
        load = self._load
        if load.pool is None:
            bars = no_bars()
        else:
            bars = await load.read("postgres", self._bars.read(load.pool, date, load.set_aside), no_bars())
        if not bars.symbols:
            self.missing.add(date)
            return Day(date, bars, True)
        return Day(date, bars.in_new_shares(load.splits.factors(date)), False)


class StoredLoader(ReferenceLoader):
    """See load.ReferenceSource; `bars` may serve several loaders."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, vendor: VendorClient, bars: DailyBars) -> None:
        super().__init__(settings, pool, None, vendor, retry_pause_s=0.0)
        self._bars = bars
        self._is_replay = True
        # What is not stored, for people.
        self.lacks: list[str] = []

    async def _read_splits(self, load: Load) -> bool:
        # Only stored symbols have something that splits adjust.
        return True if load.symbols is not None else await super()._read_splits(load)

    async def _load(self, load: Load) -> None:
        if load.symbols is not None:
            # Whoever is not among those that are stored is not stored.
            return
        days = load.days.before
        if days:
            self._bars.forget_before(days[0])
        source = StoredDays(load, self._bars)
        daily, metadata, baselines = DailyLoad(load, source), MetadataLoad(load), BaselineLoad(load)
        await daily.load_recent()
        await metadata.emit_summaries({}, daily.symbols)
        await baselines.load_stored(load.by_activity(load.universe))
        await daily.load_history()
        await daily.clear_averages(metadata.lack)
        if source.missing:
            self.lacks.append(f"daily bars of {len(source.missing)} of the {len(days)} days before it are not stored")
        if baselines.missing_days:
            counts = f"{len(baselines.missing_days)} of the {baselines.day_count} days"
            self.lacks.append(f"volume by time of day of {counts} before it is not stored")
        # Others may have a turn.
        await asyncio.sleep(0)
