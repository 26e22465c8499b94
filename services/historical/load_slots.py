"""Volume by time of day: days' slots from files or the vendor, then the baselines of the next trading day."""

import asyncio
import datetime
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final

import numpy as np

from services.historical.core import REST, Kind, Problem, baseline_days
from services.historical.flat_bars import BrokenFile, read_minutes
from services.historical.flat_files import FlatFileError, FlatFiles
from services.historical.slots import NOT_TOLD, SymbolSlots, baselines, pack
from services.historical.store import Unit, baseline_records
from services.historical.work import LoadError, Work, for_each
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorError
from services.market.calendar import TradingDay
from services.market.flat_files import MINUTE_BARS_KIND
from services.market.splits import SplitTable
from services.market.volume_slots import SlotGrid, bar_columns

SYMBOLS_AT_ONCE: Final = 8
# Rows of slot_days that are averaged at once: symbols of 30 days.
CHUNK_SYMBOLS: Final = 500
# So many in a row: the vendor is down, not the symbol wrong.
FAILURES_IN_A_ROW: Final = 25
REFUSED: Final = frozenset({401, 403})


async def load_slots(work: Work, files: FlatFiles | None) -> None:
    """Stores the days that are not stored, then makes volume_slots anew from the 30 days up to the last one."""
    await load_days(work, files)
    await _make_baselines(work)


async def load_days(work: Work, files: FlatFiles | None) -> None:
    """Only the days."""
    if files is None:
        await _Answers(work).load()
    else:
        await _load_files(work, files)


# --- flat files: a day is a unit -----------------------------------------------------


async def _load_files(work: Work, files: FlatFiles) -> None:
    stored = await work.store.fingerprints(Kind.SLOTS)
    work.begin("minute bars", len(work.days))
    for day in reversed(work.days):
        # One at a time: reading one keeps two processors busy.
        await _one_file(work, files, day, stored.get(str(day.date)))


async def _one_file(work: Work, files: FlatFiles, day: TradingDay, stored: str | None) -> None:
    try:
        if (
            stored is not None
            and not work.request.again
            and stored == await files.fingerprint(MINUTE_BARS_KIND, day.date)
        ):
            work.skip()
            return
        async with files.open(MINUTE_BARS_KIND, day.date) as file:
            if file is None:
                work.fail(Problem(f"{MINUTE_BARS_KIND} of {day.date}", 0, "no such file"))
                return
            try:
                slots, result = await asyncio.to_thread(read_minutes, file.path, file.place, day)
            except BrokenFile as error:
                work.fail(Problem(file.place, error.line, reason_of(error)))
                return
            unit = Unit(Kind.SLOTS, str(day.date), file.place, file.fingerprint, result.rows, result.set_aside)
            await work.store.write_slots([(day.date, row) for row in slots], [unit])
            work.done(result.rows, result.set_aside, result.problems)
    except (FlatFileError, OSError) as error:
        work.fail(Problem(f"{MINUTE_BARS_KIND} of {day.date}", 0, reason_of(error)))


# --- the vendor: a symbol is a unit --------------------------------------------------


class _Answers:
    """5-minute bars, unadjusted, of each symbol; its fingerprint says which days of it are stored."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._in_a_row = 0
        self._stopped = ""

    async def load(self) -> None:
        work = self._work
        stored = await work.store.fingerprints(Kind.SLOTS)
        symbols = await work.store.active_symbols()
        if not symbols:
            try:
                symbols = sorted(row.ticker for row in await work.vendor.tickers())
            except VendorError as error:
                raise LoadError(f"the vendor did not tell its symbols: {reason_of(error)}") from error
        work.begin("5-minute bars", len(symbols))

        async def one(symbol: str) -> None:
            await self._one(symbol, None if work.request.again else stored.get(f"{symbol} rest"))

        await for_each(symbols, SYMBOLS_AT_ONCE, one, lambda: bool(self._stopped))
        if self._stopped:
            raise LoadError(self._stopped)

    async def _one(self, symbol: str, stored: str | None) -> None:
        work = self._work
        first, last = work.days[0].date, work.days[-1].date
        start, span = _missing(stored, first, last)
        days = [day for day in work.days if day.date >= start]
        if not days:
            work.skip()
            return
        try:
            bars = await work.vendor.volume_bars(symbol, 5, "minute", days[0].date, last, adjusted=False)
        except VendorError as error:
            work.fail(Problem(symbol, 0, reason_of(error)))
            self._in_a_row += 1
            if error.status in REFUSED or self._in_a_row >= FAILURES_IN_A_ROW:
                self._stopped = f"the vendor gives no 5-minute bars: {reason_of(error)}"
            return
        self._in_a_row = 0
        grid = SlotGrid([day.date for day in days])
        begins, volume, trades, oversize = bar_columns(bars)
        has_bar, grids, wrong = grid.fill(begins, volume, trades)
        counts = np.where(np.isnan(grids[1]), NOT_TOLD, grids[1]).astype(np.uint32)
        rows: list[tuple[datetime.date, SymbolSlots]] = []
        for at, day in enumerate(days):
            one = slice(at, at + 1)
            rows += [(day.date, row) for row in pack([symbol], has_bar[one], grids[0][one], counts[one])]
        wrong += oversize
        problems = [Problem(f"{symbol} bars", 0, f"{wrong} set aside")] if wrong else []
        unit = Unit(Kind.SLOTS, f"{symbol} rest", REST, span, len(bars) - wrong, wrong)
        await work.store.write_slots(rows, [unit])
        work.done(len(bars) - wrong, wrong, problems)


def _missing(stored: str | None, first: datetime.date, last: datetime.date) -> tuple[datetime.date, str]:
    """From which day on a symbol's bars are to be read, and the span that is stored then.

    `stored` is the span so far, "first..last". Days before it are read again with all the others.
    """
    if stored is None:
        return first, f"{first}..{last}"
    from_text, _, to_text = stored.partition("..")
    begins, ends = datetime.date.fromisoformat(from_text), datetime.date.fromisoformat(to_text)
    if first < begins or first > ends + datetime.timedelta(days=4):
        return first, f"{first}..{last}"
    return ends + datetime.timedelta(days=1), f"{begins}..{max(ends, last)}"


# --- baselines -----------------------------------------------------------------------


async def _make_baselines(work: Work) -> None:
    day, wanted = baseline_days(work.calendar, work.days[-1].date)
    held = sorted(await work.store.slot_days(wanted))
    if not held:
        raise LoadError(f"no slots of any of the {len(wanted)} days before {day} are stored")
    if missing := [each for each in wanted if each not in held]:
        work.problems.append(
            Problem("volume_slots", 0, f"{len(missing)} of {len(wanted)} days are missing, the last is {missing[-1]}")
        )
    splits = await _splits(work, held[0], day)
    symbols = await work.store.slot_symbols(held)
    chunks = [symbols[start : start + CHUNK_SYMBOLS] for start in range(0, len(symbols), CHUNK_SYMBOLS)]
    work.step(f"baselines of {day}")
    await work.store.replace_baselines(lambda: _records(work, chunks, held, splits, day))


async def _splits(work: Work, first: datetime.date, day: datetime.date) -> SplitTable:
    set_aside: Counter[str] = Counter()
    if work.request.is_raw:
        return SplitTable((), day, set_aside)
    try:
        told = await work.vendor.splits(first, day)
    except VendorError as error:
        raise LoadError(
            f"the days are stored, but no baselines without the vendor's splits: {reason_of(error)}"
        ) from error
    table = SplitTable(told, day, set_aside)
    if set_aside:
        work.problems.append(Problem("/v3/reference/splits", 0, f"{set_aside.total()} splits set aside"))
    return table


async def _records(
    work: Work,
    chunks: Sequence[Sequence[str]],
    days: Sequence[datetime.date],
    splits: SplitTable,
    day: datetime.date,
) -> AsyncIterator[bytes]:
    numbers = {each: at for at, each in enumerate(days)}
    for chunk in chunks:
        index = {symbol: at for at, symbol in enumerate(chunk)}
        rows = await work.store.slot_rows(days, chunk)
        yield await asyncio.to_thread(_chunk_records, rows, index, numbers, splits, day)


def _chunk_records(
    rows: Sequence[tuple[str, datetime.date, bytes, bytes, bytes]],
    index: dict[str, int],
    numbers: dict[datetime.date, int],
    splits: SplitTable,
    day: datetime.date,
) -> bytes:
    if not rows:
        return b""
    names, dates, slots, volume, trades = zip(*rows, strict=True)
    places = np.array([index[name] * len(numbers) + numbers[date] for name, date in zip(names, dates, strict=True)])
    factors = np.array([splits.factor(name, date) for name, date in zip(names, dates, strict=True)])
    found = baselines(places, factors, slots, volume, trades, len(index), len(numbers))
    return b"".join(
        baseline_records(symbol, baseline, day)
        for symbol, baseline in zip(index, found, strict=True)
        if baseline is not None
    )
