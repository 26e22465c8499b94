"""What the sequencer codes against: where reference batches come from."""

import datetime
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from services.data_ingest.reference.batch import ReferenceBatch
from services.kit.stores.notifications import Kind


class TradingDays(NamedTuple):
    """The calendar that a load needs.

    `before`: the trading days before the day of the load, ascending, the newest
    250 or as many as there are; `early_closes`: those of them that close at 13:00.
    """

    before: tuple[datetime.date, ...]
    early_closes: frozenset[datetime.date]


class ReferenceSource(Protocol):
    """Loads one trading day's reference data.

    Two things are one: `loader.ReferenceLoader` loads in the caller's event loop,
    `process.ReferenceProcess` has a process of its own do it, so that the caller's
    loop does nothing but receive (what the sequencer wants).
    """

    set_aside: Counter[str]
    """Values that were not usable, by reason: grows while a load runs."""
    failed: Counter[str]
    """What could not be had in the end, by kind: days, baselines, details, tickers, floats, splits, redis, postgres."""

    def load(
        self,
        day: datetime.date,
        symbols: Sequence[str] | None = None,
        days: TradingDays | None = None,
        kinds: Sequence[Kind] | None = None,
    ) -> AsyncIterator[ReferenceBatch]:
        """The batches for trading day `day`, those that lists need most first.

        First prev_close and prev_volume, then averages, ATR, metadata, and
        baselines with the symbols that traded most on the day before first. Later
        batches may correct earlier ones. A batch is small enough to be encoded and
        applied in less than a millisecond or two.

        Args:
            symbols: those to load; None is all that the stores or the vendor know.
                Batches name symbols, which may be new to the caller.
            days: the calendar; None takes the NYSE rules of market_session.
            kinds: only these, as PostgreSQL has them now, of all symbols: what has
                changed there since the day was loaded. None is everything.

        Nothing is raised for a source that is down or a bad value: `failed`,
        `set_aside` and the log tell. Close the iterator (`aclose()`, or cancel
        the task in it) to end early.
        """
        ...
