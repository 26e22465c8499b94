"""Volume by time of day: days' slots from files or the vendor, then the baselines of the next trading day."""

import asyncio
import datetime
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Final

import numpy as np

from services.historical.context import LoadContext, LoadError
from services.historical.core import REST, Kind, Problem, baseline_days
from services.historical.flat_bars import BrokenFile, read_minutes
from services.historical.flat_files import FlatFileError, FlatFiles
from services.historical.history_store import Unit, baseline_records
from services.historical.slots import SymbolSlots, pack
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorError
from services.market.calendar import TradingDay
from services.market.flat_files import MINUTE_BARS_KIND
from services.market.slot_days import UNKNOWN_TRADES, SlotRow, baselines_of
from services.market.splits import SplitTable
from services.market.volume_slots import SlotGrid, bar_columns

SYMBOLS_AT_ONCE: Final = 8
# Rows of slot_days that are averaged at once: symbols of 30 days.
CHUNK_SYMBOLS: Final = 500


async def load_slots(context: LoadContext, files: FlatFiles | None) -> None:
    """Stores the days that are not stored, then recomputes volume_slots from the 30 days up to the last one."""
    await load_days(context, files)
    await _make_baselines(context)


async def load_days(context: LoadContext, files: FlatFiles | None) -> None:
    """Stores the days that are not stored."""
    if files is None:
        await _load_answers(context)
    else:
        await _load_files(context, files)


# --- flat files: a day is a unit -----------------------------------------------------


async def _load_files(context: LoadContext, files: FlatFiles) -> None:
    stored = await context.store.fingerprints(Kind.SLOTS)
    context.begin("minute bars", len(context.days))
    for day in reversed(context.days):
        # One at a time: reading one keeps two processors busy.
        await _one_file(context, files, day, stored.get(str(day.date)))


async def _one_file(context: LoadContext, files: FlatFiles, day: TradingDay, stored: str | None) -> None:
    try:
        if (
            stored is not None
            and not context.request.again
            and stored == await files.fingerprint(MINUTE_BARS_KIND, day.date)
        ):
            context.skip()
            return
        async with files.open(MINUTE_BARS_KIND, day.date) as file:
            if file is None:
                context.fail(Problem(f"{MINUTE_BARS_KIND} of {day.date}", 0, "no such file"))
                return
            try:
                slots, result = await asyncio.to_thread(read_minutes, file.path, file.place, day)
            except BrokenFile as error:
                context.fail(Problem(file.place, error.line, reason_of(error)))
                return
            unit = Unit(Kind.SLOTS, str(day.date), file.place, file.fingerprint, result.rows, result.set_aside)
            await context.store.write_slots([(day.date, row) for row in slots], [unit])
            context.done(result.rows, result.set_aside, result.problems)
    except (FlatFileError, OSError) as error:
        context.fail(Problem(f"{MINUTE_BARS_KIND} of {day.date}", 0, reason_of(error)))


# --- the vendor: a symbol is a unit --------------------------------------------------


async def _load_answers(context: LoadContext) -> None:
    """5-minute bars, unadjusted, of each symbol; its fingerprint is the span of days that are stored of it."""
    stored = await context.store.fingerprints(Kind.SLOTS)
    symbols = await context.store.active_symbols()
    if not symbols:
        try:
            symbols = sorted(row.ticker for row in await context.vendor.tickers())
        except VendorError as error:
            raise LoadError(f"the vendor's symbols could not be fetched: {reason_of(error)}") from error
    context.begin("5-minute bars", len(symbols))

    async def one(symbol: str) -> None:
        await _one_symbol(context, symbol, None if context.request.again else stored.get(f"{symbol} rest"))

    await context.for_each(symbols, SYMBOLS_AT_ONCE, one)


async def _one_symbol(context: LoadContext, symbol: str, stored: str | None) -> None:
    first, last = context.days[0].date, context.days[-1].date
    start, span = _missing(stored, first, last)
    days = [day for day in context.days if day.date >= start]
    if not days:
        context.skip()
        return
    try:
        bars = await context.vendor.volume_bars(symbol, 5, "minute", days[0].date, last, adjusted=False)
    except VendorError as error:
        context.vendor_failed(symbol, error, "5-minute bars")
        return
    context.vendor_answered()
    grid = SlotGrid([day.date for day in days])
    begins, volume, trades, oversize = bar_columns(bars)
    has_bar, grids, wrong = grid.fill(begins, volume, trades)
    counts = np.where(np.isnan(grids[1]), UNKNOWN_TRADES, grids[1]).astype(np.uint32)
    rows: list[tuple[datetime.date, SymbolSlots]] = []
    for number, day in enumerate(days):
        one = slice(number, number + 1)
        rows += [(day.date, row) for row in pack([symbol], has_bar[one], grids[0][one], counts[one])]
    wrong += oversize
    problems = [Problem(f"{symbol} bars", 0, f"{wrong} set aside")] if wrong else []
    unit = Unit(Kind.SLOTS, f"{symbol} rest", REST, span, len(bars) - wrong, wrong)
    await context.store.write_slots(rows, [unit])
    context.done(len(bars) - wrong, wrong, problems)


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


async def _make_baselines(context: LoadContext) -> None:
    day, wanted = baseline_days(context.calendar, context.days[-1].date)
    held = sorted(await context.store.slot_days(wanted))
    if not held:
        raise LoadError(f"no slots of any of the {len(wanted)} days before {day} are stored")
    if missing := [each for each in wanted if each not in held]:
        context.problems.append(
            Problem("volume_slots", 0, f"{len(missing)} of {len(wanted)} days are missing, the last is {missing[-1]}")
        )
    splits = await _splits(context, held[0], day)
    symbols = await context.store.slot_symbols(held)
    chunks = [symbols[start : start + CHUNK_SYMBOLS] for start in range(0, len(symbols), CHUNK_SYMBOLS)]
    context.step(f"baselines of {day}")
    await context.store.replace_baselines(lambda: _records(context, chunks, held, splits, day))


async def _splits(context: LoadContext, first: datetime.date, day: datetime.date) -> SplitTable:
    set_aside: Counter[str] = Counter()
    if context.request.is_raw:
        return SplitTable((), day, set_aside)
    try:
        splits = await context.vendor.splits(first, day)
    except VendorError as error:
        raise LoadError(
            f"the days are stored, but no baselines without the vendor's splits: {reason_of(error)}"
        ) from error
    table = SplitTable(splits, day, set_aside)
    if set_aside:
        context.problems.append(Problem("/v3/reference/splits", 0, f"{set_aside.total()} splits set aside"))
    return table


async def _records(
    context: LoadContext,
    chunks: Sequence[Sequence[str]],
    days: Sequence[datetime.date],
    splits: SplitTable,
    day: datetime.date,
) -> AsyncIterator[bytes]:
    for chunk in chunks:
        rows = await context.store.slot_rows(days, chunk)
        yield await asyncio.to_thread(_chunk_records, rows, chunk, days, splits, day)


def _chunk_records(
    rows: Sequence[SlotRow],
    chunk: Sequence[str],
    days: Sequence[datetime.date],
    splits: SplitTable,
    day: datetime.date,
) -> bytes:
    found = baselines_of(rows, chunk, days, splits)
    return b"".join(baseline_records(symbol, baseline, day) for symbol, baseline in found)
