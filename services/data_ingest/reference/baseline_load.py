"""Loads volume-slot baselines: those the stores hold, the others from the vendor's 5-minute bars."""

import asyncio
import datetime
from collections.abc import AsyncIterator, Sequence
from typing import Final

from services.data_ingest.reference.batch import BASELINE_SYMBOLS, ReferenceBatch, stack
from services.data_ingest.reference.load import STORE_ERRORS, Load
from services.data_ingest.reference.stores import (
    redis_baselines,
    slot_day_baselines,
    stored_baseline_symbols,
    stored_baselines,
)
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.slot_days import days_with_slots
from services.kit.vendor.client import VendorError
from services.market.volume_slots import (
    BASELINE_DAYS,
    LEAST_DAYS,
    SlotGrid,
    SymbolBaseline,
    bar_columns,
)

log = get_logger(__name__)

SYMBOLS_AT_ONCE: Final = 8
# Wait no longer for company, when the vendor is slow.
EMIT_SECONDS: Final = 1.0
# So many in a row: the vendor is down, not the symbol wrong.
FAILURES_IN_A_ROW: Final = 25
ATTEMPTS: Final = 3


class BaselineLoad:
    """`load_stored()` first; it returns the symbols that remain for `load_from_vendor()`."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._span = load.days.before[-BASELINE_DAYS:]
        # Early closes are left out and not replaced.
        self._grid = SlotGrid([day for day in self._span if day not in load.days.early_closes])
        self._ready: list[tuple[str, SymbolBaseline]] = []
        # Symbols with means of Redis's.
        self._copied: set[str] = set()
        self._emitted = monotonic()
        self._refused = False
        self._in_a_row = 0
        # Of a past day: those of its days of which no volume by time of day is stored.
        self.missing_days: set[datetime.date] = set()

    @property
    def day_count(self) -> int:
        """How many days make a baseline."""
        return len(self._grid.days)

    async def load_stored(self, symbols: Sequence[str]) -> list[str]:
        """Sends what the stores hold; returns those that PostgreSQL has no baseline of this day for.

        Redis has neither days nor trades: its means serve until the vendor's bars are here.
        """
        load = self._load
        held: set[str] = set()
        if load.pool is not None and self._span:
            previous = self._span[-1]
            rows = stored_baselines(load.pool, symbols, previous, load.day, load.splits, load.set_aside)
            held = await self._pass_on("postgres", rows)
        if load.pool is not None and load.is_replay and len(held) < len(symbols):
            held |= await self._load_from_slots([symbol for symbol in symbols if symbol not in held])
        rest = [symbol for symbol in symbols if symbol not in held]
        if load.redis is not None and rest:
            self._copied = await self._pass_on("redis", redis_baselines(load.redis, rest, load.set_aside))
        await self._flush()
        return rest

    async def _load_from_slots(self, symbols: Sequence[str]) -> set[str]:
        """Sends the baselines that the stored days before a past day make: volume_slots has those of the newest day.

        Where all days are stored, that is everybody's: symbols with too few days have none.
        """
        load, days = self._load, sorted(self._grid.days)
        assert load.pool is not None, "there are stored days"
        stored = await load.read("postgres", days_with_slots(load.pool, days), set())
        self.missing_days = {day for day in days if day not in stored}
        if len(stored) < LEAST_DAYS:
            return set()
        rows = slot_day_baselines(load.pool, symbols, sorted(stored), load.splits)
        held = await self._pass_on("postgres", rows)
        return held if self.missing_days else set(symbols)

    async def refresh(self) -> None:
        """Sends what PostgreSQL holds of this day now."""
        load = self._load
        if load.pool is None or not self._span:
            return
        previous = self._span[-1]
        symbols = await load.read("postgres", stored_baseline_symbols(load.pool, previous, load.day), [])
        rows = stored_baselines(load.pool, symbols, previous, load.day, load.splits, load.set_aside)
        await self._pass_on("postgres", rows)
        await self._flush()

    async def load_from_vendor(self, symbols: Sequence[str]) -> None:
        """Requests each symbol's bars from the vendor; tries again later what failed."""
        rest = list(symbols)
        for attempt in range(ATTEMPTS):
            if attempt and rest:
                await asyncio.sleep(self._load.retry_pause_s)
            if not rest or not self._grid.days or self._refused:
                break
            rest = await self._all(rest)
        await self._flush()
        if rest and self._grid.days:
            self._load.failed["baselines"] += len(rest)
            log.error("5-minute bars not fetched", symbols=len(rest), first=rest[:5])

    async def _all(self, symbols: list[str]) -> list[str]:
        """Returns those that failed or that it did not come to."""
        queue = iter(symbols)
        failed: list[str] = []
        self._in_a_row = 0

        async def work() -> None:
            while not self._refused and self._in_a_row < FAILURES_IN_A_ROW:
                if (symbol := next(queue, None)) is None:
                    return
                try:
                    await self._one(symbol)
                except VendorError as error:
                    failed.append(symbol)
                    self._in_a_row += 1
                    if error.is_refusal:
                        self._refused = True
                        log.error("5-minute bars refused", error=reason_of(error))

        async with asyncio.TaskGroup() as tasks:
            for _ in range(SYMBOLS_AT_ONCE):
                tasks.create_task(work())
        return [*failed, *queue]

    async def _one(self, symbol: str) -> None:
        bars = await self._load.vendor.volume_bars(symbol, 5, "minute", self._span[0], self._span[-1])
        self._in_a_row = 0
        start, volume, trades, oversize = bar_columns(bars)
        baseline, wrong = self._grid.baseline(start, volume, trades)
        wrong += oversize
        if wrong:
            self._load.set_aside["slot_bar"] += wrong
        # Also one of too few days, so that their number is known; but no mean is given up for it.
        if baseline.days >= LEAST_DAYS or symbol not in self._copied:
            await self._add(symbol, baseline)

    async def _pass_on(self, store: str, rows: AsyncIterator[tuple[str, SymbolBaseline]]) -> set[str]:
        passed: set[str] = set()
        try:
            async for symbol, baseline in rows:
                passed.add(symbol)
                await self._add(symbol, baseline)
        except STORE_ERRORS as error:
            self._load.failed[store] += 1
            log.error("baselines not read", store=store, error=reason_of(error))
        return passed

    async def _add(self, symbol: str, baseline: SymbolBaseline) -> None:
        self._ready.append((symbol, baseline))
        if len(self._ready) >= BASELINE_SYMBOLS or monotonic() - self._emitted > EMIT_SECONDS:
            await self._flush()

    async def _flush(self) -> None:
        self._emitted = monotonic()
        ready, self._ready = self._ready, []
        if ready:
            symbols, baselines = zip(*ready, strict=True)
            await self._load.emit(ReferenceBatch(list(symbols), baselines=stack(baselines)))
