"""Daily bars: from the vendor's grouped answers, a day each, or from flat files."""

import asyncio
from typing import Any, Final

import numpy as np

from fastcore.feed_elements import SYMBOL
from services.historical.context import LoadContext
from services.historical.core import REST, Kind, Problem
from services.historical.flat_bars import NO_BARS, BrokenFile, read_days
from services.historical.flat_files import FlatFileError, FlatFiles
from services.historical.history_store import Unit
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorError
from services.kit.vendor.models import GroupedBar
from services.market.calendar import TradingDay
from services.market.daily_bars import usable
from services.market.flat_files import DAILY_BARS_KIND

DAYS_AT_ONCE: Final = 3
REST_FINGERPRINT: Final = "complete"


async def load_ohlc(context: LoadContext, files: FlatFiles | None) -> None:
    """A day is a unit. One that is stored is skipped, unless its file has changed or it is requested again."""
    stored = await context.store.fingerprints(Kind.OHLC)
    context.begin("daily bars", len(context.days))

    async def one(day: TradingDay) -> None:
        if files is None:
            await _from_rest(context, day, stored.get(str(day.date)))
        else:
            await _from_file(context, files, day, stored.get(str(day.date)))

    await context.for_each(reversed(context.days), DAYS_AT_ONCE, one)


async def _from_rest(context: LoadContext, day: TradingDay, stored: str | None) -> None:
    place = f"/v2/aggs/grouped/{day.date}"
    if stored is not None and not context.request.again:
        context.skip()
        return
    try:
        bars = await context.vendor.grouped_daily(day.date, adjusted=False)
    except VendorError as error:
        context.fail(Problem(place, 0, reason_of(error)))
        return
    if not bars:
        context.fail(Problem(place, 0, NO_BARS))
        return
    rows, problems = _rows(day, bars, place)
    if not rows:
        context.fail(Problem(place, 0, f"{NO_BARS} of {len(bars)}"))
        return
    unit = Unit(Kind.OHLC, str(day.date), REST, REST_FINGERPRINT, len(rows), len(problems))
    await context.store.write_ohlc(rows, unit)
    context.done(len(rows), len(problems), problems)


def _rows(day: TradingDay, bars: list[GroupedBar], place: str) -> tuple[list[tuple[Any, ...]], list[Problem]]:
    bars = [bar for bar in bars if not bar.otc]
    columns = [np.array([getattr(bar, name) for bar in bars], dtype=np.float64) for name in ("o", "h", "l", "c", "v")]
    rows: dict[str, tuple[Any, ...]] = {}
    problems = []
    for number, (bar, is_bar) in enumerate(zip(bars, usable(*columns).tolist(), strict=True), 1):
        if SYMBOL.fullmatch(bar.symbol) is None:
            problems.append(Problem(place, number, f"symbol: {bar.symbol[:20]!r}"))
        elif not is_bar:
            problems.append(
                Problem(place, number, f"{bar.symbol}: expected 0 < low <= open, close <= high, was no bar")
            )
        else:
            rows[bar.symbol] = (day.date, bar.symbol, bar.o, bar.h, bar.l, bar.c, bar.v, bar.vw, bar.n)
    return list(rows.values()), problems


async def _from_file(context: LoadContext, files: FlatFiles, day: TradingDay, stored: str | None) -> None:
    try:
        if (
            stored is not None
            and not context.request.again
            and stored == await files.fingerprint(DAILY_BARS_KIND, day.date)
        ):
            context.skip()
            return
        async with files.open(DAILY_BARS_KIND, day.date) as file:
            if file is None:
                context.fail(Problem(f"{DAILY_BARS_KIND} of {day.date}", 0, "no such file"))
                return
            try:
                bars, result = await asyncio.to_thread(read_days, file.path, file.place, day.date)
            except BrokenFile as error:
                context.fail(Problem(file.place, error.line, reason_of(error)))
                return
            rows = [(day.date, *bar[:6], None, bar.trades) for bar in bars]
            unit = Unit(Kind.OHLC, str(day.date), file.place, file.fingerprint, len(rows), result.set_aside)
            await context.store.write_ohlc(rows, unit)
            context.done(len(rows), result.set_aside, result.problems)
    except (FlatFileError, OSError) as error:
        context.fail(Problem(f"{DAILY_BARS_KIND} of {day.date}", 0, reason_of(error)))
