"""Loads metadata: the stores' first, the vendor's pages of symbols, and in the background the details of each."""

import asyncio
from collections.abc import Mapping, Set
from typing import Final

import numpy as np

from fastcore.feed_elements import SYMBOL
from services.data_ingest.reference import metadata
from services.data_ingest.reference.batch import ReferenceBatch
from services.data_ingest.reference.load import REFUSED, Load
from services.data_ingest.reference.metadata import AVERAGES, Values
from services.data_ingest.reference.stores import redis_metadata, stored_metadata
from services.kit.clock import monotonic
from services.kit.company import free_floats
from services.kit.logging import get_logger
from services.kit.redaction import reason_of
from services.kit.vendor import VendorError

log = get_logger(__name__)

# What the background asks of the vendor, who is also asked for baselines.
DETAILS_PER_SECOND: Final = 40.0
DETAILS_AT_ONCE: Final = 2
EMIT_SYMBOLS: Final = 200
EMIT_SECONDS: Final = 2.0


class MetadataLoad:
    """`told()`, `summaries()`, and then `details()`."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._values: dict[str, Values] = {}

    async def summaries(self, told: Mapping[str, Values], with_bars: Set[str]) -> None:
        """Sends the columns of all symbols and sets the load's universe.

        `told` is what the vendor's pages say; `with_bars` are those that the daily
        bars know, whose averages come from there.
        """
        load = self._load
        stored: dict[str, Values] = {}
        wanted = None if load.symbols is None else sorted(load.symbols)
        if load.pool is not None:
            stored = await load.held("postgres", stored_metadata(load.pool, wanted, load.set_aside), {})
        load.universe = load.symbols if load.symbols is not None else frozenset({*with_bars, *stored, *told})
        symbols = load.by_activity(load.universe)
        kept: dict[str, Values] = {}
        if load.redis is not None:
            kept = await load.held("redis", redis_metadata(load.redis, symbols, load.set_aside), {})
        for symbol in symbols:
            # The later ones win.
            self._values[symbol] = {**told.get(symbol, {}), **stored.get(symbol, {}), **kept.get(symbol, {})}
        await load.emit(metadata.batch(symbols, self._values))
        await self._emit_averages([symbol for symbol in symbols if symbol not in with_bars])

    async def refresh(self) -> None:
        """What PostgreSQL has now. A field that it does not have stays as it was: the vendor may have told it."""
        load = self._load
        if load.pool is None:
            return
        wanted = None if load.symbols is None else sorted(load.symbols)
        stored = await load.held("postgres", stored_metadata(load.pool, wanted, load.set_aside), {})
        by_fields: dict[tuple[str, ...], list[str]] = {}
        for symbol, values in stored.items():
            by_fields.setdefault(tuple(sorted(values)), []).append(symbol)
        for fields, symbols in by_fields.items():
            await load.emit(metadata.batch(symbols, stored, fields))

    async def details(self) -> None:
        """Fills in what only the vendor's details have, a bounded number of symbols a second."""
        missing = [
            symbol
            for symbol in self._load.by_activity(self._load.universe)
            if metadata.needs_details(self._values.get(symbol, {}))
        ]
        failed = await self._all_details(missing)
        if failed:
            await asyncio.sleep(self._load.retry_pause_s)
            failed = await self._all_details(failed)
        if failed:
            self._load.failed["details"] += len(failed)
            log.error("details not had", symbols=len(failed), first=failed[:5])

    async def told(self) -> dict[str, Values]:
        """What the vendor's pages say of each symbol; nothing when they can't be had, which is told and counted."""
        load = self._load
        told: dict[str, Values] = {}
        # The details of each say the same.
        if not load.is_small:
            try:
                rows = await load.vendor.tickers()
            except VendorError as error:
                load.failed["tickers"] += 1
                log.error("list of symbols not had", error=reason_of(error))
                rows = []
            usable = [row for row in rows if SYMBOL.fullmatch(row.ticker)]
            load.set_aside["symbol"] += len(rows) - len(usable)
            told = {row.ticker: metadata.from_summary(row, load.set_aside) for row in usable}
        for symbol, shares in (await self._floats()).items():
            if load.is_small or symbol in told:
                told.setdefault(symbol, {})["float_shares"] = shares
        return told

    async def _floats(self) -> dict[str, float]:
        load = self._load
        try:
            return await free_floats(load.vendor, sorted(load.symbols or ()) if load.is_small else ())
        except VendorError as error:
            load.failed["floats"] += 1
            log.error("float list not had", error=reason_of(error))
            return {}

    async def _emit_averages(self, symbols: list[str]) -> None:
        """What the stores keep, for symbols of which no daily bar is known."""
        symbols = [symbol for symbol in symbols if any(name in self._values[symbol] for name in AVERAGES)]
        numbers = {
            name: np.array([self._values[symbol].get(name, np.nan) for symbol in symbols], dtype=np.float64)
            for name in AVERAGES
        }
        await self._load.emit(ReferenceBatch(symbols, numbers))

    async def _all_details(self, symbols: list[str]) -> list[str]:
        """Returns the symbols whose request failed."""
        queue = iter(symbols)
        failed: list[str] = []
        filled: list[str] = []
        state = {"refused": False, "next": monotonic(), "emitted": monotonic()}

        async def work() -> None:
            for symbol in queue:
                if state["refused"]:
                    return
                state["next"] = max(state["next"], monotonic()) + 1 / DETAILS_PER_SECOND
                await asyncio.sleep(state["next"] - monotonic())
                try:
                    row = await self._load.vendor.ticker_details(symbol)
                except VendorError as error:
                    failed.append(symbol)
                    if error.status in REFUSED:
                        state["refused"] = True
                        log.error("details refused", error=reason_of(error))
                    continue
                if row is not None:
                    known = self._values.get(symbol, {})
                    self._values[symbol] = {**metadata.from_details(row, self._load.set_aside), **known}
                    filled.append(symbol)
                if len(filled) >= EMIT_SYMBOLS or monotonic() - state["emitted"] > EMIT_SECONDS:
                    state["emitted"] = monotonic()
                    ready, filled[:] = filled[:], []
                    await self._load.emit(metadata.batch(ready, self._values))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(DETAILS_AT_ONCE):
                tasks.create_task(work())
        await self._load.emit(metadata.batch(filled, self._values))
        return failed
