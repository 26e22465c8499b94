"""Reference data in Redis and PostgreSQL, read in bulk."""

import datetime
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

import asyncpg
import msgspec
import numpy as np
from numpy.typing import NDArray
from redis.asyncio import Redis

from services.kit.stores.slot_days import slot_rows
from services.market.companies import NUMBERS, TEXTS, Values, metadata_key, usable_values
from services.market.daily_bars import ATR_DAYS, PRICE_LIMIT, VOLUME_LIMIT
from services.market.slot_days import baselines_of
from services.market.splits import SplitTable
from services.market.volume_slots import LEAST_DAYS, SLOTS, SymbolBaseline

METADATA_KEYS: Final = 500
# A symbol has 192 keys.
SLOT_SYMBOLS: Final = 25
SLOT_ROWS_SYMBOLS: Final = 200
SLOT_DAY_SYMBOLS: Final = 500
# What a writer's rounding may take from a sum that else only grows.
ROUNDING: Final = 1e-6


class StoredATR(NamedTuple):
    """The ATR up to and with `date`, in USD of that day."""

    date: datetime.date
    atr: float


# --- Redis ---------------------------------------------------------------------------


async def redis_metadata(redis: Redis, symbols: Sequence[str], set_aside: Counter[str]) -> dict[str, Values]:
    """The values of ticker:metadata:{symbol}, of those symbols that have one."""
    found: dict[str, Values] = {}
    for start in range(0, len(symbols), METADATA_KEYS):
        chunk = symbols[start : start + METADATA_KEYS]
        for symbol, text in zip(chunk, await redis.mget([metadata_key(each) for each in chunk]), strict=True):
            if text is None:
                continue
            try:
                found[symbol] = usable_values(msgspec.json.decode(text, type=dict[str, Any]), set_aside)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                set_aside["redis_metadata"] += 1
    return found


async def redis_baselines(
    redis: Redis, symbols: Sequence[str], set_aside: Counter[str]
) -> AsyncIterator[tuple[str, SymbolBaseline]]:
    """The means of volume_slot:{symbol}:{slot}; trades are not known there.

    Nor is the number of days: whoever wrote a mean had at least the least number
    that makes one, so that is what it counts as.
    """
    held: list[str] = []
    for start in range(0, len(symbols), METADATA_KEYS):
        chunk = symbols[start : start + METADATA_KEYS]
        last = await redis.mget([f"volume_slot:{symbol}:{SLOTS - 1}" for symbol in chunk])
        held += [symbol for symbol, value in zip(chunk, last, strict=True) if value is not None]
    unknown = np.full(SLOTS, np.nan)
    for start in range(0, len(held), SLOT_SYMBOLS):
        chunk = held[start : start + SLOT_SYMBOLS]
        texts = await redis.mget([f"volume_slot:{symbol}:{slot}" for symbol in chunk for slot in range(SLOTS)])
        for row, symbol in enumerate(chunk):
            volume = _slot_values(texts[row * SLOTS : (row + 1) * SLOTS])
            if volume is None:
                set_aside["redis_slots"] += 1
            else:
                yield symbol, SymbolBaseline(LEAST_DAYS, volume, unknown, unknown)


def _slot_values(texts: Sequence[str | bytes | None]) -> NDArray[np.float64] | None:
    try:
        values = np.array([float(text) for text in texts if text is not None])
    except ValueError:
        return None
    return values if len(values) == SLOTS and _is_cumulative(values) else None


def _is_cumulative(values: NDArray[np.float64]) -> bool:
    with np.errstate(invalid="ignore"):
        return bool(_is_size(values).all() and (np.diff(values) >= -ROUNDING * values[1:]).all())


def _is_size(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        return (values >= 0) & (values < VOLUME_LIMIT)


# --- PostgreSQL ----------------------------------------------------------------------


async def holds_raw(pool: asyncpg.Pool) -> bool:
    """True if there is anything that splits since must adjust."""
    tables = ("daily_ohlc", "ticker_atr", "volume_slots")
    held: bool = await pool.fetchval("SELECT " + " OR ".join(f"EXISTS (SELECT FROM {table})" for table in tables))
    return held


async def stored_metadata(
    pool: asyncpg.Pool, symbols: Sequence[str] | None, set_aside: Counter[str]
) -> dict[str, Values]:
    """The rows of ticker_metadata, all of them without `symbols`; not of those that trade no more."""
    columns = (
        "symbol, company_name, exchange, sector, industry, market_cap, float_shares, shares_outstanding,"
        " avg_volume_30d, avg_volume_10d, avg_price_30d, beta, is_etf, security_type, list_date"
    )
    query = f"SELECT {columns} FROM ticker_metadata WHERE is_actively_trading IS NOT FALSE"
    rows = await (
        pool.fetch(query) if symbols is None else pool.fetch(f"{query} AND symbol = ANY($1::text[])", list(symbols))
    )
    return {row["symbol"]: usable_values(row, set_aside) for row in rows}


class MetadataOfDay(NamedTuple):
    """Companies as they were known on a day. Of `known_later` nothing was then: it is the earliest that there is."""

    values: dict[str, Values]
    known_later: int


async def metadata_of_day(
    pool: asyncpg.Pool, day: datetime.date, symbols: Sequence[str] | None, set_aside: Counter[str]
) -> MetadataOfDay:
    """The newest rows of ticker_metadata_history that were valid on `day`; not of those that traded no more."""
    query = (
        f"SELECT DISTINCT ON (symbol) symbol, valid_from, is_actively_trading, {', '.join((*TEXTS, *NUMBERS))}"
        " FROM ticker_metadata_history WHERE $2::text[] IS NULL OR symbol = ANY($2::text[])"
        " ORDER BY symbol, valid_from <= $1 DESC, CASE WHEN valid_from <= $1 THEN $1 - valid_from END, valid_from"
    )
    rows = await pool.fetch(query, day, None if symbols is None else list(symbols))
    rows = [row for row in rows if row["is_actively_trading"] is not False]
    values = {row["symbol"]: usable_values(row, set_aside) for row in rows}
    return MetadataOfDay(values, sum(row["valid_from"] > day for row in rows))


async def stored_atr(pool: asyncpg.Pool, day: datetime.date, set_aside: Counter[str]) -> dict[str, StoredATR]:
    """The newest ATR of each symbol that ticker_atr holds from before `day`: one of the day itself has seen its bar."""
    query = (
        "SELECT DISTINCT ON (symbol) symbol, date, atr FROM ticker_atr"
        " WHERE period = $1 AND date < $2 ORDER BY symbol, date DESC"
    )
    found = {}
    for row in await pool.fetch(query, ATR_DAYS, day):
        if 0 <= row["atr"] < PRICE_LIMIT:
            found[row["symbol"]] = StoredATR(row["date"], row["atr"])
        else:
            set_aside["ticker_atr"] += 1
    return found


async def stored_baseline_symbols(pool: asyncpg.Pool, previous: datetime.date, day: datetime.date) -> list[str]:
    """The symbols with baselines of `day` in volume_slots."""
    query = "SELECT symbol FROM volume_slots WHERE slot_number = $1 AND data_date > $2 AND data_date <= $3 ORDER BY 1"
    return [row["symbol"] for row in await pool.fetch(query, SLOTS - 1, previous, day)]


async def stored_baselines(
    pool: asyncpg.Pool,
    symbols: Sequence[str],
    previous: datetime.date,
    day: datetime.date,
    splits: SplitTable,
    set_aside: Counter[str],
) -> AsyncIterator[tuple[str, SymbolBaseline]]:
    """The baselines of volume_slots that are of `day`: all trading days up to `previous` are in them.

    `previous` is the trading day before `day`. Shares are brought to today's.
    """
    query = (
        "SELECT symbol, array_agg(slot_number ORDER BY slot_number) AS slots,"
        " array_agg(avg_volume ORDER BY slot_number) AS volume, array_agg(avg_trades ORDER BY slot_number) AS trades,"
        " array_agg(sd_trades ORDER BY slot_number) AS sd, min(days) AS days, max(data_date) AS data_date"
        " FROM volume_slots WHERE symbol = ANY($1::text[]) AND data_date > $2 AND data_date <= $3 GROUP BY symbol"
    )
    for start in range(0, len(symbols), SLOT_ROWS_SYMBOLS):
        rows = await pool.fetch(query, symbols[start : start + SLOT_ROWS_SYMBOLS], previous, day)
        for row in rows:
            volume, trades, sd = (np.array(row[name], dtype=np.float64) for name in ("volume", "trades", "sd"))
            is_known = all((np.isnan(values) | _is_size(values)).all() for values in (trades, sd))
            if row["slots"] != list(range(SLOTS)) or row["days"] < 0 or not is_known or not _is_cumulative(volume):
                set_aside["volume_slots"] += 1
                continue
            factor = splits.factor(row["symbol"], row["data_date"])
            yield row["symbol"], SymbolBaseline(row["days"], volume * factor, trades, sd)


async def slot_day_baselines(
    pool: asyncpg.Pool, symbols: Sequence[str], days: Sequence[datetime.date], splits: SplitTable
) -> AsyncIterator[tuple[str, SymbolBaseline]]:
    """The baselines of slot_days' rows of `days`, as `tradeul load slots` stores those of the newest day."""
    unknown = np.full(SLOTS, np.nan)
    for start in range(0, len(symbols), SLOT_DAY_SYMBOLS):
        chunk = symbols[start : start + SLOT_DAY_SYMBOLS]
        for symbol, baseline in baselines_of(await slot_rows(pool, days, chunk), chunk, days, splits):
            # Trades are stored all or not at all.
            if np.isnan(baseline.avg_trades).any() or np.isnan(baseline.sd_trades).any():
                baseline = baseline._replace(avg_trades=unknown, sd_trades=unknown)
            yield symbol, baseline
