"""The universe: the symbols there are, since when, and why one is gone; and announced holidays."""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import asyncpg

from fastcore.feed_elements import SYMBOL
from services.historical.context import LoadContext, LoadError
from services.historical.core import Problem
from services.historical.flat_bars import BrokenFile, read_days
from services.historical.flat_files import FlatFileError, FlatFiles
from services.historical.history_store import KEEP_HISTORY, WAIT_SECONDS, Patient, patiently
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorError
from services.kit.vendor.models import TickerSummary
from services.market.closures import Change, read_holidays
from services.market.flat_files import DAILY_BARS_KIND

_LISTED = """
    INSERT INTO ticker_universe AS known (symbol, is_active, first_seen, last_seen)
    SELECT symbol, TRUE, $2, $2 FROM unnest($1::text[]) AS symbol
    ON CONFLICT (symbol) DO UPDATE SET is_active = TRUE, reason_removed = NULL, updated_at = now(),
        first_seen = least(known.first_seen, excluded.first_seen),
        last_seen = greatest(known.last_seen, excluded.last_seen)
    WHERE known.last_seen <= excluded.last_seen
"""
# A list of an earlier day does not show which symbols there are now.
_GONE = """
    SELECT symbol FROM ticker_universe
    WHERE is_active AND last_seen < $2 AND symbol <> ALL ($1::text[]) FOR UPDATE
"""
_REMOVE = "UPDATE ticker_universe SET is_active = FALSE, reason_removed = $2, updated_at = now() WHERE symbol = $1"
_INACTIVE = "UPDATE ticker_metadata SET is_actively_trading = FALSE, updated_at = now() WHERE symbol = ANY($1::text[])"
_ACTIVE = """
    UPDATE ticker_metadata SET is_actively_trading = TRUE, updated_at = now()
    WHERE symbol = ANY($1::text[]) AND is_actively_trading IS FALSE RETURNING symbol
"""
# A symbol with a bar on the newest day is listed; files say nothing about the others.
_SEEN = """
    INSERT INTO ticker_universe AS known (symbol, is_active, first_seen, last_seen)
    SELECT symbol, TRUE, first_seen, last_seen
    FROM unnest($1::text[], $2::date[], $3::date[]) AS seen (symbol, first_seen, last_seen)
    ON CONFLICT (symbol) DO UPDATE SET updated_at = now(),
        is_active = known.is_active OR excluded.last_seen > known.last_seen,
        reason_removed = CASE WHEN excluded.last_seen > known.last_seen THEN NULL ELSE known.reason_removed END,
        first_seen = least(known.first_seen, excluded.first_seen),
        last_seen = greatest(known.last_seen, excluded.last_seen)
"""
_HOLIDAY = """
    INSERT INTO market_holidays (date, close) VALUES ($1, $2)
    ON CONFLICT (date) DO UPDATE SET close = excluded.close, updated_at = now()
"""


class UniverseStore(Patient):
    """Each method is one transaction, and waits for a database that is away.

    Raises DatabaseAwayError, asyncpg's errors.
    """

    def __init__(self, pool: asyncpg.Pool, wait_seconds: float = WAIT_SECONDS) -> None:
        super().__init__(wait_seconds)
        self._pool = pool

    @patiently
    async def active_count(self) -> int:
        count: int = await self._pool.fetchval("SELECT count(*) FROM ticker_universe WHERE is_active")
        return count

    @patiently
    async def take_list(
        self, day: datetime.date, symbols: Sequence[str], why: Callable[[str], str], known_from: datetime.date
    ) -> int:
        """Takes all symbols listed on `day`; others are removed. Returns the number of listed ones.

        `known_from`: the date from which on that is known.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_LISTED, symbols, day)
            gone = [row["symbol"] for row in await connection.fetch(_GONE, symbols, day)]
            await connection.executemany(_REMOVE, [(symbol, why(symbol)) for symbol in gone])
            await connection.execute(_INACTIVE, gone)
            back = [row["symbol"] for row in await connection.fetch(_ACTIVE, symbols)]
            await connection.execute(KEEP_HISTORY, known_from, [*gone, *back])
        return len(symbols)

    @patiently
    async def take_seen(self, seen: Mapping[str, tuple[datetime.date, datetime.date]]) -> None:
        """Symbols with the first and last day on which they had a bar."""
        firsts, lasts = [span[0] for span in seen.values()], [span[1] for span in seen.values()]
        await self._pool.execute(_SEEN, list(seen), firsts, lasts)

    @patiently
    async def take_holidays(self, changes: Iterable[Change]) -> None:
        """The days that the vendor announces as closed, or closing early."""
        await self._pool.executemany(_HOLIDAY, [(change.date, change.close) for change in changes])

    async def holidays(self) -> dict[datetime.date, datetime.time | None]:
        """All that are stored: the closing time, None for closed all day."""
        return {row["date"]: row["close"] for row in await self._pool.fetch("SELECT date, close FROM market_holidays")}


# A list shorter than this share of the one before is the vendor's error, not the end of the market.
LEAST_SHARE: Final = 0.5
GONE: Final = "no longer listed"


async def load_universe(context: LoadContext, files: FlatFiles | None) -> None:
    """From the vendor's list of today; from files, of their days: who has a bar is listed."""
    store = UniverseStore(context.store.pool, context.store.wait_seconds)
    store.when_back = context.store.when_back
    if files is None:
        await _from_vendor(context, store)
    else:
        await _from_files(context, store, files)


async def _from_vendor(context: LoadContext, store: UniverseStore) -> None:
    today = context.days[-1].date
    context.begin("symbols", 1)
    try:
        listed = await context.vendor.tickers()
        context.step("delisted symbols")
        delisted = await context.vendor.tickers(active=False)
        holidays = [
            change for change in read_holidays(await context.vendor.market_holidays()) if isinstance(change, Change)
        ]
    except VendorError as error:
        raise LoadError(f"the vendor's symbols could not be fetched: {reason_of(error)}") from error
    symbols, problems = _known_form(listed)
    before = await store.active_count()
    if len(symbols) < LEAST_SHARE * before:
        raise LoadError(f"expected about {before} symbols, the vendor lists {len(symbols)}: nothing is changed")
    reasons = {row.ticker: _reason(row) for row in delisted}
    count = await store.take_list(today, symbols, lambda symbol: reasons.get(symbol, GONE), context.known_from)
    await store.take_holidays(holidays)
    context.done(count, len(problems), problems)


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


async def _from_files(context: LoadContext, store: UniverseStore, files: FlatFiles) -> None:
    context.begin("symbols of daily bars", len(context.days))
    seen: dict[str, tuple[datetime.date, datetime.date]] = {}
    for day in context.days:
        try:
            async with files.open(DAILY_BARS_KIND, day.date) as file:
                if file is None:
                    context.fail(Problem(f"{DAILY_BARS_KIND} of {day.date}", 0, "no such file"))
                    continue
                bars, result = read_days(file.path, file.place, day.date)
        except BrokenFile as error:
            context.fail(Problem(f"{DAILY_BARS_KIND} of {day.date}", error.line, reason_of(error)))
            continue
        except (FlatFileError, OSError) as error:
            context.fail(Problem(f"{DAILY_BARS_KIND} of {day.date}", 0, reason_of(error)))
            continue
        for bar in bars:
            seen[bar.symbol] = (seen.get(bar.symbol, (day.date, day.date))[0], day.date)
        context.done(len(bars), result.set_aside, result.problems)
    await store.take_seen(seen)
