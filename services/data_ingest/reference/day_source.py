"""One day's bars of all symbols: from PostgreSQL as far as it holds them, from the vendor where it does not."""

import asyncio
import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from fastcore.feed_elements import SYMBOL
from services.data_ingest.reference.load import Load
from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.daily_bars import stored_bars, stored_days, stored_history
from services.kit.vendor.client import VendorError
from services.kit.vendor.models import GroupedBar
from services.market.daily_bars import DayBars, day_bars, no_bars

log = get_logger(__name__)

# Open, high, low, close, volume.
Bar = tuple[float, float, float, float, float]

# Not every symbol trades on every day: a stored day with this share of them is complete.
WHOLE_SHARE: Final = 0.8


class Day(NamedTuple):
    """A day's bars; in a hole, those of the vendor are missing."""

    date: datetime.date
    bars: DayBars
    is_hole: bool


class DaySource(Protocol):
    """`await read(date)`, after `look_up()`. Prices and volumes are in the shares of the load's day."""

    async def look_up(self) -> None:
        """Reads what all days need."""

    async def read(self, date: datetime.date) -> Day:
        """The day's bars; a source that gives none makes a hole, not an exception."""
        ...


class WholeDays:
    """Days of all symbols: the vendor's grouped bars."""

    def __init__(self, load: Load) -> None:
        self._load = load
        # So many symbols make a day complete; 0: not known before the vendor has sent a day.
        self._expected = len(load.symbols or ())
        self._stored: Mapping[datetime.date, int] = {}

    async def look_up(self) -> None:
        """See DaySource."""
        load = self._load
        if load.pool is not None:
            self._stored = await load.read("postgres", stored_days(load.pool, load.days.before), {})

    async def read(self, date: datetime.date) -> Day:
        """See DaySource."""
        load, stored = self._load, None
        if load.pool is not None and date in self._stored:
            query = stored_bars(load.pool, date, load.splits.factors(date), load.set_aside)
            stored = await load.read("postgres", query, no_bars())
            if self._expected and len(stored.symbols) >= WHOLE_SHARE * self._expected:
                return Day(date, self._only_wanted(stored), False)
        try:
            fetched = await load.vendor.grouped_daily(date)
        except VendorError as error:
            log.warning("daily bars not fetched", date=str(date), error=reason_of(error))
            return Day(date, self._only_wanted(stored or no_bars()), True)
        vendors = _from_vendor(fetched, load.set_aside)
        # Others may have a turn after so many rows.
        await asyncio.sleep(0)
        if not self._expected:
            self._expected = len(vendors.symbols)
        return Day(date, self._only_wanted(vendors if stored is None else stored.with_others(vendors)), False)

    def _only_wanted(self, bars: DayBars) -> DayBars:
        if self._load.symbols is None:
            return bars
        return bars.select([row for row, symbol in enumerate(bars.symbols) if symbol in self._load.symbols])


class FewSymbols:
    """Days of some symbols: all bars of one after the other. One that cannot be fetched has none, which is counted."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._days: dict[datetime.date, DayBars] = {}

    async def look_up(self) -> None:
        """See DaySource."""
        load = self._load
        before, symbols = load.days.before, sorted(load.symbols or ())
        if not before or not symbols:
            return
        rows: dict[datetime.date, dict[str, Bar]] = {}
        failed = await self._ask(symbols, rows)
        if failed:
            await asyncio.sleep(load.retry_pause_s)
            failed = await self._ask(failed, rows)
        if failed:
            load.failed["days"] += len(failed)
            log.error("daily bars not fetched", symbols=len(failed), first=failed[:5])
        fetched = {date: _columns(each, load.set_aside) for date, each in rows.items()}
        stored: dict[datetime.date, DayBars] = {}
        if load.pool is not None:
            # What the stores have of a symbol without its newest days would be taken for the newest.
            query = stored_history(
                load.pool, sorted({*symbols}.difference(failed)), before, load.splits, load.set_aside
            )
            stored = await load.read("postgres", query, {})
        for date in before:
            self._days[date] = stored.get(date, no_bars()).with_others(fetched.get(date, no_bars()))

    async def read(self, date: datetime.date) -> Day:
        """See DaySource."""
        return Day(date, self._days.get(date, no_bars()), False)

    async def _ask(self, symbols: Sequence[str], rows: dict[datetime.date, dict[str, Bar]]) -> list[str]:
        """Adds to `rows`; returns the symbols whose request failed."""
        before, failed = self._load.days.before, []
        for symbol in symbols:
            try:
                bars = await self._load.vendor.aggs(symbol, 1, "day", before[0], before[-1])
            except VendorError as error:
                log.warning("daily bars not fetched", symbol=symbol, error=reason_of(error))
                failed.append(symbol)
                continue
            for bar in bars:
                try:
                    # A bar starts at midnight, or where its trading does.
                    date = datetime.datetime.fromtimestamp(bar.t / 1000, NEW_YORK).date()
                except (ValueError, OverflowError, OSError):
                    self._load.set_aside["daily_bar"] += 1
                    continue
                rows.setdefault(date, {})[symbol] = (bar.o, bar.h, bar.l, bar.c, bar.v)
        return failed


def day_source(load: Load) -> DaySource:
    """The one that costs the vendor less."""
    return FewSymbols(load) if load.is_small else WholeDays(load)


def _columns(rows: Mapping[str, Bar], set_aside: Counter[str]) -> DayBars:
    return day_bars(list(rows), list(zip(*rows.values(), strict=True)), set_aside)


def _from_vendor(fetched: Sequence[GroupedBar], set_aside: Counter[str]) -> DayBars:
    rows = [bar for bar in fetched if SYMBOL.fullmatch(bar.symbol)]
    set_aside["symbol"] += len(fetched) - len(rows)
    # The same symbol twice would be two rows of one symbol.
    rows = list({bar.symbol: bar for bar in rows if not bar.otc}.values())
    columns = [[getattr(bar, name) for bar in rows] for name in ("o", "h", "l", "c", "v")]
    return day_bars([bar.symbol for bar in rows], columns, set_aside)
