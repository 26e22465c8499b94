"""The universe: which symbols there are, since when, why one is gone; and announced holidays."""

import datetime
from typing import Final

from fastcore.feed_elements import SYMBOL
from services.historical.core import Problem
from services.historical.flat_bars import BrokenFile, read_days
from services.historical.flat_files import FlatFileError, FlatFiles
from services.historical.universe_store import UniverseStore
from services.historical.work import LoadError, Work
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorError
from services.kit.vendor.models import TickerSummary
from services.market.closures import Change, read_holidays
from services.market.flat_files import DAILY_BARS_KIND

# A list that is so much shorter than before is the vendor's error, not the end of the market.
LEAST_SHARE: Final = 0.5
GONE: Final = "no longer listed"


async def load_universe(work: Work, files: FlatFiles | None) -> None:
    """From the vendor's list of today; from files, of their days: who has a bar is listed."""
    store = UniverseStore(work.store.pool, work.store.wait_seconds)
    store.when_back = work.store.when_back
    if files is None:
        await _from_vendor(work, store)
    else:
        await _from_files(work, store, files)


async def _from_vendor(work: Work, store: UniverseStore) -> None:
    today = work.days[-1].date
    work.begin("symbols", 1)
    try:
        listed = await work.vendor.tickers()
        work.step("delisted symbols")
        delisted = await work.vendor.tickers(active=False)
        holidays = [
            change for change in read_holidays(await work.vendor.market_holidays()) if isinstance(change, Change)
        ]
    except VendorError as error:
        raise LoadError(f"the vendor did not tell its symbols: {reason_of(error)}") from error
    symbols, problems = _known_form(listed)
    before = await store.active_count()
    if len(symbols) < LEAST_SHARE * before:
        raise LoadError(f"expected about {before} symbols, the vendor lists {len(symbols)}: nothing is changed")
    reasons = {row.ticker: _reason(row) for row in delisted}
    count = await store.take_list(today, symbols, lambda symbol: reasons.get(symbol, GONE), work.known_from)
    await store.take_holidays(holidays)
    work.done(count, len(problems), problems)


def _known_form(rows: list[TickerSummary]) -> tuple[list[str], list[Problem]]:
    symbols, problems = [], []
    for number, row in enumerate(rows, 1):
        if SYMBOL.fullmatch(row.ticker):
            symbols.append(row.ticker)
        else:
            problems.append(Problem("/v3/reference/tickers", number, f"symbol: {row.ticker[:20]!r}"))
    return sorted(set(symbols)), problems


def _reason(row: TickerSummary) -> str:
    return f"delisted {row.delisted_utc[:10]}" if row.delisted_utc else "delisted"


async def _from_files(work: Work, store: UniverseStore, files: FlatFiles) -> None:
    work.begin("symbols of daily bars", len(work.days))
    seen: dict[str, tuple[datetime.date, datetime.date]] = {}
    for day in work.days:
        try:
            async with files.open(DAILY_BARS_KIND, day.date) as file:
                if file is None:
                    work.fail(Problem(f"{DAILY_BARS_KIND} of {day.date}", 0, "no such file"))
                    continue
                bars, result = read_days(file.path, file.place, day.date)
        except BrokenFile as error:
            work.fail(Problem(f"{DAILY_BARS_KIND} of {day.date}", error.line, reason_of(error)))
            continue
        except (FlatFileError, OSError) as error:
            work.fail(Problem(f"{DAILY_BARS_KIND} of {day.date}", 0, reason_of(error)))
            continue
        for bar in bars:
            seen[bar.symbol] = (seen.get(bar.symbol, (day.date, day.date))[0], day.date)
        work.done(len(bars), result.set_aside, result.problems)
    await store.take_seen(seen)
