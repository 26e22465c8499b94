"""The stored minute bars of a day, as a flat file."""

import datetime
from pathlib import Path
from typing import Final

import asyncpg

from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS

# As the vendor's minute_aggs_v1, and the bars' own average prices.
QUERY: Final = """
    SELECT symbol AS ticker, volume, open, close, high, low,
        (extract(epoch FROM time) * 1000000000)::bigint AS window_start, trades AS transactions, vwap
    FROM aggregates_1min WHERE time >= $1 AND time < $2 ORDER BY symbol, time
"""


async def dump(url: str, date: datetime.date, to: Path) -> int:
    """Writes the day's bars; returns how many there are. Raises StartError when they cannot be read."""
    start, end = (
        datetime.datetime.combine(day, datetime.time(), NEW_YORK) for day in (date, date + datetime.timedelta(days=1))
    )
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            status: str = await connection.copy_from_query(QUERY, start, end, output=to, format="csv", header=True)
        finally:
            await connection.close()
    except DATABASE_ERRORS as error:
        raise StartError(f"the stored minute bars of {date} cannot be read: {reason_of(error)}") from error
    return int(status.rpartition(" ")[2])
