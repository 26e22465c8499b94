"""Market breadth from complete rows, one stock after the other."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastcore.breadth import Breadth
from fastcore.fields import SECTORS

STOCKS = ("CS", "ADRC")
# Percent of the day's high or low.
NEAR = 0.1


def breadth(rows: Iterable[Mapping[str, Any]]) -> list[Breadth]:
    """Returns the breadth of all stocks first, then of each sector, from rows by field name."""
    stocks = [
        row
        for row in rows
        if row.get("security_type", "CS") in STOCKS and "change" in row and row.get("volume_today", 0) > 0
    ]
    by_sector = [[row for row in stocks if row.get("sector") == sector] for sector in SECTORS]
    return [_breadth("", stocks)] + [_breadth(*each) for each in zip(SECTORS, by_sector, strict=True)]


def _breadth(sector: str, rows: list[Mapping[str, Any]]) -> Breadth:
    up = [row["volume_today"] for row in rows if row["change"] > 0]
    down = [row["volume_today"] for row in rows if row["change"] < 0]
    moved = [row for row in rows if "intraday_high" in row and row["intraday_high"] > row["intraday_low"]]
    return Breadth(
        sector,
        stocks=len(rows),
        advancers=len(up),
        decliners=len(down),
        unchanged=len(rows) - len(up) - len(down),
        new_highs=len([row for row in moved if row["price_from_intraday_high"] >= -NEAR]),
        new_lows=len([row for row in moved if row["price_from_intraday_low"] <= NEAR]),
        up_volume=round(sum(up), 6),
        down_volume=round(sum(down), 6),
        volume=round(sum(row["volume_today"] for row in rows), 6),
    )
