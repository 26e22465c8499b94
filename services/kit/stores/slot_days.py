"""slot_days: stored volume by time of day, raw, in the shares of its day."""

import datetime
from collections.abc import Sequence
from typing import Any

import asyncpg

from services.market.slot_days import SlotRow


async def slot_rows(pool: asyncpg.Pool, days: Sequence[datetime.date], symbols: Sequence[str]) -> Sequence[SlotRow]:
    """The rows of some symbols on these days."""
    query = (
        "SELECT symbol, date, slots, volume, trades FROM slot_days"
        " WHERE date = ANY($1::date[]) AND symbol = ANY($2::text[])"
    )
    rows: Sequence[Any] = await pool.fetch(query, list(days), list(symbols))
    return rows


async def days_with_slots(pool: asyncpg.Pool, days: Sequence[datetime.date]) -> set[datetime.date]:
    """Those of `days` that have any."""
    query = "SELECT day FROM unnest($1::date[]) AS day WHERE EXISTS (SELECT FROM slot_days WHERE date = day)"
    return {row["day"] for row in await pool.fetch(query, list(days))}
