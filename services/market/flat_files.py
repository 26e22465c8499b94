"""The vendor's flat files: a day of trades or bars as CSV in gzip, by kind and date; names, columns, rows' form."""

import datetime
import re
from pathlib import Path
from typing import Final

from services.market.dates import iso_date

# Where recordings are, in a market's directory.
RECORDINGS: Final = "flat"
ROOT: Final = "us_stocks_sip"
TRADES_KIND: Final = "trades_v1"
MINUTE_BARS_KIND: Final = "minute_aggs_v1"
DAILY_BARS_KIND: Final = "day_aggs_v1"
# Not the vendor's: the market that a recording began with, see services/market/recorded_market.py.
MARKET_SUFFIX: Final = ".market.gz"
# Columns in the order of the header, and their SQL types. Timestamps are ns since 1970 UTC.
TRADE_COLUMNS: Final = {
    "ticker": "VARCHAR",
    "conditions": "VARCHAR",
    "correction": "INTEGER",
    "exchange": "VARCHAR",
    "id": "VARCHAR",
    "participant_timestamp": "BIGINT",
    "price": "DOUBLE",
    "sequence_number": "BIGINT",
    "sip_timestamp": "BIGINT",
    "size": "DOUBLE",
    "tape": "VARCHAR",
    "trf_id": "VARCHAR",
    "trf_timestamp": "BIGINT",
}
BAR_COLUMNS: Final = {
    "ticker": "VARCHAR",
    "volume": "DOUBLE",
    "open": "DOUBLE",
    "close": "DOUBLE",
    "high": "DOUBLE",
    "low": "DOUBLE",
    "window_start": "BIGINT",
    "transactions": "BIGINT",
}
# Nor is this: the stream itself, see services/market/recorded_stream.py.
STREAM_SUFFIX: Final = ".stream.gz"
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")


def file_name(kind: str, date: datetime.date) -> str:
    """A day's file below the bucket or folder."""
    return f"{ROOT}/{kind}/{date:%Y/%m}/{date}.csv.gz"


def date_of_file(name: str) -> datetime.date | None:
    """The date of a file of that name; None unless it is YYYY-MM-DD.csv or YYYY-MM-DD.csv.gz."""
    return iso_date(name.removesuffix(".gz").removesuffix(".csv"))


def date_in_name(name: str) -> datetime.date | None:
    """The first date that a file's name contains; None without one."""
    return iso_date(found[0]) if (found := _DATE.search(name)) else None


def market_file_beside(trades: Path) -> Path:
    """The file with the market that a recorded file of trades began with."""
    return trades.with_name(trades.name.split(".")[0] + MARKET_SUFFIX)


def stream_file_beside(trades: Path) -> Path:
    """The file with the stream of which a recorded file of trades has the trades."""
    return trades.with_name(trades.name.split(".")[0] + STREAM_SUFFIX)
