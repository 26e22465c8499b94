"""One load of a day's reference data: where it comes from, its history, and what its parts share."""

import datetime
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol, TypeVar

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.data_ingest.reference.batch import ReferenceBatch
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS
from services.kit.stores.notifications import Kind
from services.kit.vendor.client import VendorClient
from services.market.calendar import TradingDay, nyse_calendar
from services.market.daily_bars import DayBars
from services.market.dates import ONE_DAY
from services.market.levels import YEAR_DAYS
from services.market.splits import SplitTable

Answer = TypeVar("Answer")

log = get_logger(__name__)

STORE_ERRORS: Final = (*DATABASE_ERRORS, RedisError)
# Up to so many symbols are requested one by one, more by whole days and pages.
FEW_SYMBOLS: Final = 100
# A year's trading days are less than that.
HISTORY_SPAN: Final = datetime.timedelta(days=400)


class HistoryDays(NamedTuple):
    """The trading days before the day of a load.

    `before`: the newest 254 or as many as there are, ascending; `early_closes`: those of them that close at 13:00.
    """

    before: tuple[datetime.date, ...]
    early_closes: frozenset[datetime.date]

    @classmethod
    def of(cls, before: Sequence[TradingDay]) -> "HistoryDays":
        """The newest of these days, which are ascending."""
        days = before[-YEAR_DAYS:]
        return cls(tuple(day.date for day in days), frozenset(day.date for day in days if day.is_early_close))

    @classmethod
    def of_nyse(cls, day: datetime.date) -> "HistoryDays":
        """Those of the NYSE's calendar; raises ServiceError for a day that it does not reach."""
        return cls.of(nyse_calendar(day).between(day - HISTORY_SPAN, day - ONE_DAY))


class ReferenceSource(Protocol):
    """Loads one trading day's reference data.

    There are two: `loader.ReferenceLoader` loads in the caller's event loop,
    `process.ReferenceProcess` in a process of its own, so that the caller's
    loop does nothing but receive, as the sequencer needs it.
    """

    set_aside: Counter[str]
    """Values that were not usable, by reason: grows while a load runs."""
    failed: Counter[str]
    """Failures that remained in the end, by kind: days, baselines, details, tickers, floats, splits, postgres ..."""

    def load(
        self,
        day: datetime.date,
        symbols: Sequence[str] | None = None,
        days: HistoryDays | None = None,
        kinds: Sequence[Kind] | None = None,
    ) -> AsyncIterator[ReferenceBatch]:
        """The batches for trading day `day`, those that lists need most first.

        First prev_close and prev_volume, then averages, metadata, baselines with
        the symbols that traded most on the day before first, levels and ATR. Later
        batches may correct earlier ones. A batch is small enough to be encoded and
        applied in less than a millisecond or two.

        Args:
            symbols: those to load; None is all that the stores or the vendor know.
                Batches name symbols, which may be new to the caller.
            days: those of history; None takes them from the NYSE's calendar.
            kinds: only these, as PostgreSQL has them now, of all symbols: what has
                changed there since the day was loaded. None is everything.

        Nothing is raised for a source that is down or a bad value: these are in
        `failed`, `set_aside` and the log. Close the iterator (`aclose()`, or cancel
        the task in it) to end early.
        """
        ...


@dataclass
class Load:
    """One load: its day, its sources, and where its batches go.

    `symbols` are those wanted, None all. `retry_pause_s`: how long the vendor is
    given before what failed is requested again; `details_per_s`: so many requests for companies' details.
    """

    day: datetime.date
    days: HistoryDays
    symbols: frozenset[str] | None
    pool: asyncpg.Pool | None
    redis: Redis | None
    vendor: VendorClient
    splits: SplitTable
    emit: Callable[[ReferenceBatch], Awaitable[None]]
    set_aside: Counter[str]
    failed: Counter[str]
    retry_pause_s: float
    details_per_s: int
    # The day is played again: what is known now need not be what was known then.
    is_replay: bool = False
    # Shares and dollars traded on the newest day: the symbols with most come first.
    activity: dict[str, float] = field(default_factory=dict)
    dollars: dict[str, float] = field(default_factory=dict)
    # All there are, once metadata have been read.
    universe: frozenset[str] = frozenset()

    @property
    def is_small(self) -> bool:
        """True if requests for each symbol cost less than requests for all there are."""
        return self.symbols is not None and len(self.symbols) <= FEW_SYMBOLS

    def add_activity(self, bars: DayBars) -> None:
        """Adds what was traded on the newest day."""
        self.activity.update(zip(bars.symbols, bars.volume.tolist(), strict=True))
        self.dollars.update(zip(bars.symbols, (bars.close * bars.volume).tolist(), strict=True))

    def by_activity(self, symbols: Set[str]) -> list[str]:
        """Those of which most shares were traded on the day before first, the others by name."""
        return sorted(symbols, key=lambda symbol: (-self.activity.get(symbol, 0.0), symbol))

    def by_dollars(self, symbols: Set[str]) -> list[str]:
        """Those for which most dollars were paid on the day before first, the others by name: the large companies."""
        return sorted(symbols, key=lambda symbol: (-self.dollars.get(symbol, 0.0), symbol))

    async def read(self, store: str, query: Awaitable[Answer], nothing: Answer) -> Answer:
        """Returns the answer of a store; `nothing` when it cannot be read, which is logged and counted."""
        try:
            return await query
        except STORE_ERRORS as error:
            self.failed[store] += 1
            log.error("store not read", store=store, error=reason_of(error))
            return nothing
