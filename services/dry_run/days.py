"""The common parts of a dry run's days, read once: the calendar, trade rules, daily bars."""

from collections.abc import Sequence
from pathlib import Path

import asyncpg

from services.data_ingest.reference.follower import ReferenceFollower
from services.data_ingest.reference.stored_load import DailyBars, StoredLoader
from services.data_ingest.stream.rules import FiltersFollower, TradeRulesFollower
from services.dry_run.core import DayMarket
from services.historical.universe import UniverseStore
from services.kit.lists.definitions import ListSpec, load_lists
from services.kit.runtime.clock import new_york_today
from services.kit.runtime.settings import Settings
from services.kit.vendor.client import VendorClient
from services.market.calendar import Calendar, nyse_calendar


class PastDays:
    """`scratch`: a directory for files of one day."""

    def __init__(self, settings: Settings, pool: asyncpg.Pool, vendor: VendorClient, scratch: Path) -> None:
        self.settings = settings
        self.scratch = scratch
        self.lists: Sequence[ListSpec] = load_lists()
        self._pool = pool
        self._vendor = vendor
        self._bars = DailyBars()
        self._calendar: Calendar | None = None
        self._trade_rules = b""

    async def calendar(self) -> Calendar:
        """The NYSE's, with the announced changes that are stored; raises asyncpg's errors."""
        if self._calendar is None:
            holidays = await UniverseStore(self._pool, wait_seconds=0).holidays()
            calendar = nyse_calendar(new_york_today())
            self._calendar = calendar.with_changes(holidays)
        return self._calendar

    async def set_rules(self, market: DayMarket) -> None:
        """Sets which trades count, and, where lists are ranked, the scanner filters as they are now."""
        if not self._trade_rules:
            await TradeRulesFollower(
                self._vendor, self._keep_trade_rules, self.settings.suspect_prints == "take"
            ).load_first()
        market.feed.set_trade_rules(self._trade_rules)
        if market.has_lists:
            await FiltersFollower(self.settings.database_url, market.sequencer).load_first()

    async def load_reference(self, market: DayMarket, calendar: Calendar) -> list[str]:
        """Loads the day's reference data as they are stored; returns what is not."""
        loader = StoredLoader(self.settings, self._pool, self._vendor, self._bars)
        follower = ReferenceFollower(loader, market.sequencer, lambda: calendar)
        await follower.load_all(market.feed.names)
        lacks = list(loader.lacks)
        if loader.failed["splits"]:
            lacks.append("splits are not known: the vendor does not answer")
        if not follower.gathered_counts["company_name"]:
            lacks.append("companies are not stored")
        return lacks

    def _keep_trade_rules(self, rules: bytes) -> None:
        self._trade_rules = rules
