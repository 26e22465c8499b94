"""ticker_universe and market_holidays in PostgreSQL."""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence

import asyncpg

from services.historical.patience import WAIT_SECONDS, Patient, patiently
from services.historical.store import KEEP_HISTORY
from services.market.closures import Change

_LISTED = """
    INSERT INTO ticker_universe AS known (symbol, is_active, first_seen, last_seen)
    SELECT symbol, TRUE, $2, $2 FROM unnest($1::text[]) AS symbol
    ON CONFLICT (symbol) DO UPDATE SET is_active = TRUE, reason_removed = NULL, updated_at = now(),
        first_seen = least(known.first_seen, excluded.first_seen),
        last_seen = greatest(known.last_seen, excluded.last_seen)
    WHERE known.last_seen <= excluded.last_seen
"""
# A list of an earlier day says nothing of who is there now.
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
# Who has a bar on the newest day is listed; of the others files do not tell.
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
        """All symbols listed on `day`; those that were and are no more are removed. Returns how many are listed.

        `known_from`: from which day on that is known.
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
