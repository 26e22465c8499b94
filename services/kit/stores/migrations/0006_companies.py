"""Companies: what kind of security and since when, and one of the eleven sectors in place of a SIC division.

What the vendor told is in `details`: types, listing dates and sectors are worked out from there.
A stored sector that is none of the eleven, and for which no SIC code is known, is taken out.
"""

from typing import Any

from yoyo import step

from services.market.sectors import known_sector, sic_division, sic_sector
from services.market.texts import plain_text


def work_out_sectors(connection: Any) -> None:
    """Idempotent; every change is seen by whoever compares a row's xmin."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT symbol, sector, details->>'sic_code' FROM ticker_metadata")
        changes = []
        for symbol, sector, code in cursor.fetchall():
            fresh = known_sector(plain_text(sector)) or sic_sector(code)
            changes.append((fresh, sic_division(code), symbol))
        cursor.executemany(
            "UPDATE ticker_metadata SET sector = %s,"
            " details = details || jsonb_strip_nulls(jsonb_build_object('sic_division', %s::text)) WHERE symbol = %s",
            changes,
        )


steps = [
    step("ALTER TABLE ticker_metadata ADD COLUMN security_type TEXT, ADD COLUMN list_date TEXT"),
    step(
        """
        UPDATE ticker_metadata SET security_type = details->>'type',
            list_date = substring(details->>'list_date' FROM '^[0-9]{4}-[0-9]{2}-[0-9]{2}$'),
            details = details - 'list_date'
        """
    ),
    step(work_out_sectors),
]
