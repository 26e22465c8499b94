"""What the parts of one load share."""

import datetime
from collections import Counter
from collections.abc import Awaitable, Callable, Set
from dataclasses import dataclass, field
from typing import Final, TypeVar

import asyncpg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from services.data_ingest.reference.batch import ReferenceBatch
from services.data_ingest.reference.source import TradingDays
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorClient
from services.market.splits import SplitTable

Answer = TypeVar("Answer")

log = get_logger(__name__)

STORE_ERRORS: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, RedisError, OSError, TimeoutError)
# The vendor lets this key not see that: asking for the next symbol is no use.
REFUSED: Final = frozenset({401, 403})


# Up to so many symbols are asked for one by one, more by whole days and pages.
FEW_SYMBOLS: Final = 100


@dataclass
class Load:
    """One load: its day, its sources, and where its batches go.

    `symbols` are those wanted, None all. `retry_pause_s`: how long the vendor is
    given before what failed is asked for again.
    """

    day: datetime.date
    days: TradingDays
    symbols: frozenset[str] | None
    pool: asyncpg.Pool | None
    redis: Redis | None
    vendor: VendorClient
    splits: SplitTable
    emit: Callable[[ReferenceBatch], Awaitable[None]]
    set_aside: Counter[str]
    failed: Counter[str]
    retry_pause_s: float
    # Whether the day is played again: what is known now need not be what was known then.
    is_replay: bool = False
    # Shares of the newest day, which says who comes first.
    activity: dict[str, float] = field(default_factory=dict)
    # All there are, once metadata have been read.
    universe: frozenset[str] = frozenset()

    @property
    def is_small(self) -> bool:
        """Whether asking for each symbol costs less than asking for all there are."""
        return self.symbols is not None and len(self.symbols) <= FEW_SYMBOLS

    def by_activity(self, symbols: Set[str]) -> list[str]:
        """Those that traded most on the day before first, the others by name."""
        return sorted(symbols, key=lambda symbol: (-self.activity.get(symbol, 0.0), symbol))

    async def held(self, store: str, asked: Awaitable[Answer], nothing: Answer) -> Answer:
        """What a store says; `nothing` when it cannot be asked, which is told and counted."""
        try:
            return await asked
        except STORE_ERRORS as error:
            self.failed[store] += 1
            log.error("store not read", store=store, error=reason_of(error))
            return nothing
