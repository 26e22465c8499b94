"""The stored minute bars of a day, as a flat file."""

import asyncio
import datetime
from pathlib import Path
from typing import Final

import psycopg

from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.errors import StartError
from services.kit.runtime.redaction import reason_of

# As the vendor's minute_aggs_v1, and the bars' own average prices.
QUERY: Final = """
    COPY (
        SELECT symbol AS ticker, volume, open, close, high, low,
            (extract(epoch FROM time) * 1000000000)::bigint AS window_start, trades AS transactions, vwap
        FROM aggregates_1min WHERE time >= {} AND time < {} ORDER BY symbol, time
    ) TO STDOUT WITH (FORMAT csv, HEADER)
"""


async def dump(url: str, date: datetime.date, to: Path) -> int:
    """Writes the day's bars; returns how many there are. Raises StartError when they cannot be read."""
    return await asyncio.to_thread(_dump, url, date, to)


def _dump(url: str, date: datetime.date, to: Path) -> int:
    start = datetime.datetime.combine(date, datetime.time(), NEW_YORK)
    end = datetime.datetime.combine(date + datetime.timedelta(days=1), datetime.time(), NEW_YORK)
    query = psycopg.sql.SQL(QUERY).format(psycopg.sql.Literal(start), psycopg.sql.Literal(end))
    try:
        with psycopg.connect(url) as connection, connection.cursor() as cursor, to.open("wb") as file:
            with cursor.copy(query) as copy:
                for chunk in copy:
                    file.write(chunk)
            return max(0, cursor.rowcount)
    except psycopg.Error as error:
        raise StartError(f"the stored minute bars of {date} cannot be read: {reason_of(error)}") from error
