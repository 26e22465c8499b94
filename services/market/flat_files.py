"""Names of the vendor's flat files (SEMANTICS 11)."""

import datetime
from pathlib import Path
from typing import Final

ROOT: Final = "us_stocks_sip"
TRADES_KIND: Final = "trades_v1"
MINUTE_BARS_KIND: Final = "minute_aggs_v1"
# Not the vendor's: what a recording began with, see services/market/recorded_market.py.
MARKET_SUFFIX: Final = ".market.gz"
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


def market_file_beside(trades: Path) -> Path:
    """Where the market is that a recorded file of trades began with."""
    return trades.with_name(trades.name.split(".")[0] + MARKET_SUFFIX)
