"""Loads the values of daily bars: the newest day at once, then the averages, then ATR and levels over the year."""

import asyncio
import datetime
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence, Set
from contextlib import aclosing
from typing import Final

import numpy as np

from services.data_ingest.reference.batch import ReferenceBatch
from services.data_ingest.reference.day_source import Day, DaySource
from services.data_ingest.reference.load import Load
from services.data_ingest.reference.stores import stored_atr
from services.kit.runtime.logging import get_logger
from services.market.companies import AVERAGES
from services.market.daily_bars import (
    ATR_HISTORY_DAYS,
    AVERAGE_DAYS,
    SHORT_AVERAGE_DAYS,
    DayTable,
    Floats,
    WilderATR,
    dense,
    latest,
    mean_of_last,
)
from services.market.levels import Levels

log = get_logger(__name__)

DAYS_AT_ONCE: Final = 4
ATTEMPTS: Final = 2


class _History:
    """Values that are computed day by day, from the oldest day on."""

    def __init__(self, load: Load, symbols: Sequence[str]) -> None:
        days = load.days.before
        self._index = {symbol: i for i, symbol in enumerate(symbols)}
        self._first_of_atr = days[-ATR_HISTORY_DAYS:][0]
        self.wilder = WilderATR(len(symbols))
        self.levels = Levels(len(symbols), load.day, days[0])
        self.prev_close, self.prev_volume = np.full(len(symbols), np.nan), np.full(len(symbols), np.nan)
        self.has_holes = False

    def add(self, day: Day) -> None:
        open_, high, low, close, volume = dense(day.bars, self._index)
        if day.date >= self._first_of_atr:
            self.wilder.add(high, low, close, day.is_hole)
        self.levels.add(day.date, open_, high, low, close, day.is_hole)
        changed = np.full(len(close), True) if day.is_hole else ~np.isnan(close)
        self.prev_close[changed], self.prev_volume[changed] = close[changed], volume[changed]
        self.has_holes |= day.is_hole


class DailyLoad:
    """`load_recent()`, then `load_history()`, then `retry_recent()`, then `clear_averages()`.

    What may still come is not sent as absent: what was known before holds until then.
    """

    def __init__(self, load: Load, source: DaySource) -> None:
        self._load = load
        self._source = source
        self._recent: list[Day] = []
        self._has_prev_close: set[str] = set()
        self._has_atr: set[str] = set()

    @property
    def symbols(self) -> set[str]:
        """All that have a bar among the newest days."""
        return {symbol for day in self._recent for symbol in day.bars.symbols}

    async def load_recent(self) -> None:
        """prev_close and prev_volume of all as soon as they can be known, averages, the ATR that the stores hold."""
        dates = self._load.days.before[-AVERAGE_DAYS:]
        if not dates:
            return
        newest = await self._source.read(dates[-1])
        bars = newest.bars
        self._load.add_activity(bars)
        order = np.argsort(-bars.volume, kind="stable").tolist()
        await self._emit_prev_close([bars.symbols[row] for row in order], bars.close[order], bars.volume[order])
        slots = asyncio.Semaphore(DAYS_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            reads = [tasks.create_task(self._read_in(slots, index)) for index in range(len(dates) - 2, -1, -1)]
        self._recent = [*(read.result() for read in reversed(reads)), newest]
        table, symbols = await self._emit_recent()
        await self._emit_stored_atr(table, symbols)

    async def load_history(self) -> None:
        """Levels of all; ATR of those whose stores do not hold it; prev_close of those without a bar for long."""
        symbols = self._load.by_activity(self._load.universe)
        if not symbols or not self._load.days.before:
            return
        await self._refill()
        history = _History(self._load, symbols)
        await self._read_history(history)
        close, volume = history.prev_close, history.prev_volume
        rows = [i for i, value in enumerate(close) if value > 0 and symbols[i] not in self._has_prev_close]
        await self._emit_prev_close([symbols[i] for i in rows], close[rows], volume[rows])
        await self._load.emit(ReferenceBatch(symbols, history.levels.values()))
        rows = [i for i, symbol in enumerate(symbols) if symbol not in self._has_atr]
        await self._load.emit(ReferenceBatch([symbols[i] for i in rows], {"atr": history.wilder.values()[rows]}))

    async def _read_history(self, history: "_History") -> None:
        async with aclosing(self._all_days()) as days:
            async for day in days:
                history.add(day)
                await asyncio.sleep(0)

    async def refresh(self) -> None:
        """prev_close, averages, stored ATR and levels once more; nothing of them when a day cannot be read."""
        dates = self._load.days.before[-AVERAGE_DAYS:]
        if not dates:
            return
        # The newest first: its symbols are as many as make a day complete.
        newest = await self._source.read(dates[-1])
        slots = asyncio.Semaphore(DAYS_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            reads = [tasks.create_task(self._read_in(slots, index)) for index in range(len(dates) - 1)]
        self._recent = [*(read.result() for read in reads), newest]
        if holes := [str(day.date) for day in self._recent if day.is_hole]:
            self._load.failed["days"] += len(holes)
            log.error("daily bars missing: what was loaded before stays", days=holes)
            return
        self._load.add_activity(newest.bars)
        await self._emit_stored_atr(*await self._emit_recent())
        symbols = self._load.by_activity(self.symbols)
        history = _History(self._load, symbols)
        await self._read_history(history)
        if not history.has_holes:
            await self._load.emit(ReferenceBatch(symbols, history.levels.values()))

    async def retry_recent(self) -> None:
        """Reads the recent days that failed once more, and logs what is missing in the end."""
        await self._refill()
        if holes := [str(day.date) for day in self._recent if day.is_hole]:
            self._load.failed["days"] += len(holes)
            log.error("daily bars missing: previous close, averages or ATR are absent or short", days=holes)
            await self._emit_recent(is_final=True)

    async def clear_averages(self, lack: Callable[[str, Set[str]], Set[str]]) -> None:
        """Averages of symbols without a bar for long are absent, where the stores have none (`lack`), either."""
        if any(day.is_hole for day in self._recent):
            return
        without = self._load.universe - self.symbols
        for name in AVERAGES:
            symbols = sorted(lack(name, without))
            await self._load.emit(ReferenceBatch(symbols, {name: np.full(len(symbols), np.nan)}))

    async def _read_in(self, slots: asyncio.Semaphore, index: int) -> Day:
        async with slots:
            return await self._source.read(self._load.days.before[-AVERAGE_DAYS:][index])

    async def _refill(self) -> None:
        holes = [index for index, day in enumerate(self._recent) if day.is_hole]
        if not holes:
            return
        await asyncio.sleep(self._load.retry_pause_s)
        for index in holes:
            self._recent[index] = await self._source.read(self._recent[index].date)
        if any(not self._recent[index].is_hole for index in holes):
            if not self._recent[-1].is_hole:
                self._load.add_activity(self._recent[-1].bars)
            self._has_prev_close.clear()
            await self._emit_recent()

    async def _emit_recent(self, is_final: bool = False) -> tuple[DayTable, list[str]]:
        symbols = self._load.by_activity(self.symbols)
        table = DayTable(symbols, [day.bars for day in self._recent], [day.is_hole for day in self._recent])
        prev_close, prev_volume = latest(table.close, table.volume, table.hole)
        rows = [i for i, value in enumerate(prev_close) if value > 0 and symbols[i] not in self._has_prev_close]
        await self._emit_prev_close([symbols[i] for i in rows], prev_close[rows], prev_volume[rows])
        averages = {
            "avg_volume_10d": mean_of_last(table.volume, table.hole, SHORT_AVERAGE_DAYS),
            "avg_volume_30d": mean_of_last(table.volume, table.hole, AVERAGE_DAYS),
            "avg_price_30d": mean_of_last(table.close, table.hole, AVERAGE_DAYS),
        }
        if is_final or not table.hole.any():
            await self._load.emit(ReferenceBatch(symbols, averages))
        else:
            for name, values in averages.items():
                await self._emit_column(symbols, name, values)
        return table, symbols

    async def _emit_stored_atr(self, table: DayTable, symbols: list[str]) -> None:
        load = self._load
        if load.pool is None:
            return
        stored = await load.read("postgres", stored_atr(load.pool, load.day, load.set_aside), {})
        values = np.full(len(symbols), np.nan)
        has_bar = ~np.isnan(table.close)
        for i, symbol in enumerate(symbols):
            if (atr := stored.get(symbol)) is None:
                continue
            newest = self._recent[int(np.flatnonzero(has_bar[:, i])[-1])].date
            # An ATR is of its day until the symbol's next bar.
            if atr.date >= newest and not table.hole.any():
                values[i] = atr.atr / load.splits.factor(symbol, atr.date)
        await self._emit_column(symbols, "atr", values)
        self._has_atr = {symbol for symbol, value in zip(symbols, values, strict=True) if value >= 0}

    async def _read_patiently(self, date: datetime.date) -> Day:
        for _ in range(ATTEMPTS - 1):
            if not (day := await self._source.read(date)).is_hole:
                return day
            await asyncio.sleep(self._load.retry_pause_s)
        day = await self._source.read(date)
        if day.is_hole:
            self._load.failed["days"] += 1
            log.error("daily bars missing: ATR begins after them", day=str(date))
        return day

    async def _all_days(self) -> AsyncGenerator[Day, None]:
        """The days from the oldest on, some of them being read ahead."""
        older = deque(self._load.days.before[:-AVERAGE_DAYS])
        ahead: deque[asyncio.Task[Day]] = deque()
        try:
            while older or ahead:
                while older and len(ahead) < DAYS_AT_ONCE:
                    ahead.append(asyncio.create_task(self._read_patiently(older.popleft())))
                yield await ahead.popleft()
        finally:
            for task in ahead:
                task.cancel()
            await asyncio.gather(*ahead, return_exceptions=True)
        for day in self._recent:
            yield day

    async def _emit_prev_close(self, symbols: Sequence[str], close: Floats, volume: Floats) -> None:
        self._has_prev_close.update(symbols)
        names = list(symbols)
        await self._load.emit(ReferenceBatch(names, {"prev_close": close, "prev_volume": volume}))

    async def _emit_column(self, symbols: Sequence[str], name: str, values: Floats) -> None:
        rows = np.flatnonzero(~np.isnan(values)).tolist()
        await self._load.emit(ReferenceBatch([symbols[i] for i in rows], {name: values[rows]}))
