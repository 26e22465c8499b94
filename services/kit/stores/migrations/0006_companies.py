"""Companies: what kind of security and since when, and one of the eleven sectors in place of a SIC division.

The vendor's own fields are in `details`: types, listing dates and sectors follow from there. A stored sector that is
none of the eleven, and for which no SIC code is known, is taken out.
"""

import asyncpg

from services.market.companies import plain_text
from services.market.sectors import known_sector, sic_division, sic_sector


async def apply(connection: asyncpg.Connection) -> None:
    await connection.execute("ALTER TABLE ticker_metadata ADD COLUMN security_type TEXT, ADD COLUMN list_date TEXT")
    await connection.execute(
        """
        UPDATE ticker_metadata SET security_type = details->>'type',
            list_date = substring(details->>'list_date' FROM '^[0-9]{4}-[0-9]{2}-[0-9]{2}$'),
            details = details - 'list_date'
        """
    )
    rows = await connection.fetch("SELECT symbol, sector, details->>'sic_code' FROM ticker_metadata")
    # Every change is seen by whoever compares a row's xmin.
    await connection.executemany(
        "UPDATE ticker_metadata SET sector = $1,"
        " details = details || jsonb_strip_nulls(jsonb_build_object('sic_division', $2::text)) WHERE symbol = $3",
        [
            (known_sector(plain_text(sector)) or sic_sector(code), sic_division(code), symbol)
            for symbol, sector, code in rows
        ],
    )
