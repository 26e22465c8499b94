"""Names of the vendor's flat files (SEMANTICS 11)."""

import datetime
from typing import Final

ROOT: Final = "us_stocks_sip"
TRADES_KIND: Final = "trades_v1"
MINUTE_BARS_KIND: Final = "minute_aggs_v1"
TRADE_COLUMNS: Final = (
    "ticker",
    "conditions",
    "correction",
    "exchange",
    "id",
    "participant_timestamp",
    "price",
    "sequence_number",
    "sip_timestamp",
    "size",
    "tape",
    "trf_id",
    "trf_timestamp",
)
MINUTE_BAR_COLUMNS: Final = ("ticker", "volume", "open", "close", "high", "low", "window_start", "transactions")


def file_name(kind: str, date: datetime.date) -> str:
    """A day's file below the bucket or folder."""
    return f"{ROOT}/{kind}/{date:%Y/%m}/{date}.csv.gz"
