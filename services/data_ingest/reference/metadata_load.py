"""Loads metadata: the stores' first, the vendor's pages of symbols, and in the background the details of each."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

import numpy as np

from fastcore.feed_elements import SYMBOL
from services.data_ingest.reference.batch import ReferenceBatch
from services.data_ingest.reference.load import Load
from services.data_ingest.reference.stores import MetadataOfDay, metadata_of_day, redis_metadata, stored_metadata
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorError
from services.kit.vendor.companies import details_values, free_floats, summary_values
from services.market.companies import AVERAGES, NUMBERS, TEXTS, Values, needs_details

log = get_logger(__name__)

# The vendor may take so long for the details of one symbol.
DETAILS_SECONDS: Final = 0.05
# So many requests for them are under way at once; those for baselines come beside them.
DETAILS_AT_ONCE: Final = range(2, 9)
EMIT_SYMBOLS: Final = 200
EMIT_SECONDS: Final = 2.0
FIELDS: Final = (*TEXTS, *NUMBERS)
FIELDS_SET: Final = frozenset(FIELDS)
# As they are counted in Load.failed. Details are distinguished by symbol.
SOURCES: Final = ("postgres", "redis", "tickers", "floats")


class MetadataLoad:
    """`fetch_summaries()`, `emit_summaries()`, and then `load_details()`.

    What is not known yet is not sent, so that what was known before holds until all sources have been
    read. Then what none of them has is sent as absent, unless one of them could not be read.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._values: dict[str, Values] = {}
        # Symbols of which a past day's values are known.
        self._of_day: set[str] = set()
        self._failed_before = Counter(load.failed)

    @property
    def has_all_sources(self) -> bool:
        """True if no source of metadata has failed so far."""
        return all(self._load.failed[source] == self._failed_before[source] for source in SOURCES)

    async def emit_summaries(self, summaries: Mapping[str, Values], with_bars: Set[str]) -> None:
        """Sends the columns of all symbols and sets the load's universe.

        `summaries` are the vendor's; `with_bars` are those that the daily
        bars know, whose averages come from there.
        """
        load = self._load
        stored = await self._stored()
        load.universe = load.symbols if load.symbols is not None else frozenset({*with_bars, *stored, *summaries})
        symbols = load.by_activity(load.universe)
        kept: dict[str, Values] = {}
        if load.redis is not None:
            kept = await load.read("redis", redis_metadata(load.redis, symbols, load.set_aside), {})
        for symbol in symbols:
            # The later ones win. Beside what was known on a past day the vendor's now does not count.
            first = {} if load.is_replay and symbol in stored else summaries.get(symbol, {})
            self._values[symbol] = {**first, **stored.get(symbol, {}), **kept.get(symbol, {})}
            if load.is_replay and symbol in stored:
                self._of_day.add(symbol)
        await self._emit_known(symbols)
        await self._emit_averages([symbol for symbol in symbols if symbol not in with_bars])

    async def _stored(self) -> dict[str, Values]:
        """The rows of PostgreSQL: the newest, or for a day that is played again those of that day."""
        load = self._load
        if load.pool is None:
            return {}
        wanted = None if load.symbols is None else sorted(load.symbols)
        if not load.is_replay:
            return await load.read("postgres", stored_metadata(load.pool, wanted, load.set_aside), {})
        query = metadata_of_day(load.pool, load.day, wanted, load.set_aside)
        found = await load.read("postgres", query, MetadataOfDay({}, 0))
        log.info(
            "companies as they were known then; of some the earliest known is later",
            day=str(load.day),
            symbols=len(found.values),
            known_later=found.known_later,
        )
        return found.values

    async def refresh(self) -> None:
        """Sends what PostgreSQL has now. A field that it lacks stays as it was: it may be the vendor's."""
        load = self._load
        if load.pool is None:
            return
        wanted = None if load.symbols is None else sorted(load.symbols)
        self._values = await load.read("postgres", stored_metadata(load.pool, wanted, load.set_aside), {})
        await self._emit_known(list(self._values))

    async def load_details(self) -> None:
        """Fills in what only the vendor's details have, a bounded number of symbols a second, large companies first."""
        missing = [
            symbol
            for symbol in self._load.by_dollars(self._load.universe)
            if symbol not in self._of_day and needs_details(self._values.get(symbol, {}))
        ]
        failed = await self._all_details(missing)
        if failed:
            await asyncio.sleep(self._load.retry_pause_s)
            failed = await self._all_details(failed)
        if failed:
            self._load.failed["details"] += len(failed)
            log.error("details not fetched", symbols=len(failed), first=failed[:5])
        if self.has_all_sources:
            await self._emit_absent(self._load.universe.difference(failed))

    async def fetch_summaries(self) -> dict[str, Values]:
        """Returns the vendor's summaries by symbol; none when they cannot be fetched, which is counted."""
        load = self._load
        summaries: dict[str, Values] = {}
        # The details of each have the same.
        if not load.is_small:
            try:
                rows = await load.vendor.tickers()
            except VendorError as error:
                load.failed["tickers"] += 1
                log.error("list of symbols not fetched", error=reason_of(error))
                rows = []
            usable = [row for row in rows if SYMBOL.fullmatch(row.ticker)]
            load.set_aside["symbol"] += len(rows) - len(usable)
            summaries = {row.ticker: summary_values(row, load.set_aside) for row in usable}
        for symbol, shares in (await self._floats()).items():
            if load.is_small or symbol in summaries:
                summaries.setdefault(symbol, {})["float_shares"] = shares
        return summaries

    async def _floats(self) -> dict[str, float]:
        load = self._load
        try:
            return await free_floats(load.vendor, sorted(load.symbols or ()) if load.is_small else ())
        except VendorError as error:
            load.failed["floats"] += 1
            log.error("float list not fetched", error=reason_of(error))
            return {}

    async def _emit_known(self, symbols: Sequence[str]) -> None:
        """The columns that are known of each; of who is known by name only, that there is somebody."""
        await self._emit_fields(symbols, lambda values: tuple(name for name in FIELDS if name in values))

    async def _emit_absent(self, symbols: Set[str]) -> None:
        """That the other columns have no value."""
        absent = [symbol for symbol in self._load.by_activity(symbols) if not FIELDS_SET <= self._values[symbol].keys()]
        await self._emit_fields(absent, lambda values: tuple(name for name in FIELDS if name not in values))

    async def _emit_fields(self, symbols: Sequence[str], fields_of: Callable[[Values], tuple[str, ...]]) -> None:
        by_fields: dict[tuple[str, ...], list[str]] = {}
        for symbol in symbols:
            by_fields.setdefault(fields_of(self._values[symbol]), []).append(symbol)
        for fields, each in by_fields.items():
            await self._load.emit(_batch(each, self._values, fields))

    async def _emit_averages(self, symbols: list[str]) -> None:
        """Sends the stores' averages, for symbols of which no daily bar is known."""
        for name in AVERAGES:
            known = [symbol for symbol in symbols if name in self._values[symbol]]
            values = np.array([self._values[symbol][name] for symbol in known], dtype=np.float64)
            await self._load.emit(ReferenceBatch(known, {name: values}))

    def lack(self, name: str, symbols: Set[str]) -> set[str]:
        """Those of `symbols` for which no store has that average."""
        return {symbol for symbol in symbols if name not in self._values.get(symbol, {})}

    async def _all_details(self, symbols: list[str]) -> list[str]:
        """Returns the symbols whose request failed."""
        queue = iter(symbols)
        date = self._load.day if self._load.is_replay else None
        failed: list[str] = []
        filled: list[str] = []
        state = {"refused": False, "next": monotonic(), "emitted": monotonic()}

        async def work() -> None:
            for symbol in queue:
                if state["refused"]:
                    return
                state["next"] = max(state["next"], monotonic()) + 1 / self._load.details_per_s
                await asyncio.sleep(state["next"] - monotonic())
                try:
                    row = await self._load.vendor.ticker_details(symbol, date)
                except VendorError as error:
                    failed.append(symbol)
                    if error.is_refusal:
                        state["refused"] = True
                        log.error("details refused", error=reason_of(error))
                    continue
                if row is not None:
                    known = self._values.get(symbol, {})
                    self._values[symbol] = {**details_values(row, self._load.set_aside), **known}
                    filled.append(symbol)
                if len(filled) >= EMIT_SYMBOLS or monotonic() - state["emitted"] > EMIT_SECONDS:
                    state["emitted"] = monotonic()
                    ready, filled[:] = filled[:], []
                    await self._emit_known(ready)

        wanted = round(self._load.details_per_s * DETAILS_SECONDS)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(min(max(wanted, DETAILS_AT_ONCE[0]), DETAILS_AT_ONCE[-1])):
                tasks.create_task(work())
        await self._emit_known(filled)
        # Those that were not requested any more are no better known.
        return [*failed, *queue]


def _batch(symbols: Sequence[str], values: Mapping[str, Values], fields: Sequence[str]) -> ReferenceBatch:
    """The metadata columns `fields` of `symbols`, absent where nothing is known."""
    rows = [values.get(symbol, {}) for symbol in symbols]
    numbers = {
        name: np.array([row.get(name, math.nan) for row in rows], dtype=np.float64)
        for name in NUMBERS
        if name in fields
    }
    texts = {name: [str(row.get(name, "")) for row in rows] for name in TEXTS if name in fields}
    return ReferenceBatch(list(symbols), numbers, texts)
