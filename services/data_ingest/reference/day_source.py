"""One day's bars of all symbols: from PostgreSQL as far as it holds them, from the vendor where it does not."""

import asyncio
import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from fastcore.feed_elements import SYMBOL
from services.data_ingest.reference.daily import DayBars
from services.data_ingest.reference.load import Load
from services.data_ingest.reference.stores import day_bars, no_bars, stored_bars, stored_days
from services.kit.logging import get_logger
from services.kit.vendor import VendorError
from services.kit.vendor_models import GroupedBar

log = get_logger(__name__)

# Not every symbol trades on every day: a stored day with this share of them is whole.
WHOLE_SHARE: Final = 0.8


class Day(NamedTuple):
    """A day's bars; in a hole, those of the vendor are missing."""

    date: datetime.date
    bars: DayBars
    is_hole: bool


class DaySource:
    """`await read(date)`, after `look_up()`. Prices and volumes are in the shares of the load's day.

    `expected` symbols make a day whole; 0 means that nobody knows, and asks the vendor.
    """

    def __init__(self, load: Load) -> None:
        self.expected = len(load.symbols or ())
        self._load = load
        self._stored: Mapping[datetime.date, int] = {}

    async def look_up(self) -> None:
        """Learns which days PostgreSQL has bars of."""
        load = self._load
        if load.pool is not None:
            self._stored = await load.held("postgres", stored_days(load.pool, load.days.before), {})

    async def read(self, date: datetime.date) -> Day:
        """The day's bars; a source that gives none makes a hole, not an exception."""
        load, stored = self._load, None
        if load.pool is not None and date in self._stored:
            asked = stored_bars(load.pool, date, load.splits.factors(date), load.set_aside)
            stored = await load.held("postgres", asked, no_bars())
            if self.expected and len(stored.symbols) >= WHOLE_SHARE * self.expected:
                return Day(date, self._only_wanted(stored), False)
        try:
            told = await load.vendor.grouped_daily(date)
        except VendorError as error:
            log.warning("daily bars not had", date=str(date), error=str(error))
            return Day(date, self._only_wanted(stored or no_bars()), True)
        vendors = _from_vendor(told, load.set_aside)
        # Others may have a turn after so many rows.
        await asyncio.sleep(0)
        return Day(date, self._only_wanted(vendors if stored is None else _merged(stored, vendors)), False)

    def _only_wanted(self, bars: DayBars) -> DayBars:
        if self._load.symbols is None:
            return bars
        return _select(bars, [row for row, symbol in enumerate(bars.symbols) if symbol in self._load.symbols])


def _from_vendor(told: Sequence[GroupedBar], set_aside: Counter[str]) -> DayBars:
    rows = [bar for bar in told if SYMBOL.fullmatch(bar.symbol)]
    set_aside["symbol"] += len(told) - len(rows)
    # The same symbol twice would be two rows of one place.
    rows = list({bar.symbol: bar for bar in rows if not bar.otc}.values())
    columns = [[getattr(bar, name) for bar in rows] for name in ("o", "h", "l", "c", "v")]
    return day_bars([bar.symbol for bar in rows], columns, set_aside)


def _merged(stored: DayBars, vendors: DayBars) -> DayBars:
    """The stored bars, and the vendor's of the other symbols."""
    held = set(stored.symbols)
    rest = _select(vendors, [row for row, symbol in enumerate(vendors.symbols) if symbol not in held])
    columns = (np.concatenate(pair) for pair in zip(stored[1:], rest[1:], strict=True))
    return DayBars(stored.symbols + rest.symbols, *columns)


def _select(bars: DayBars, rows: list[int]) -> DayBars:
    return DayBars([bars.symbols[row] for row in rows], *(column[rows] for column in bars[1:]))
