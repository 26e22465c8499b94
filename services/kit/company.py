"""From the vendor's description of a company to the columns of ticker_metadata."""

from typing import Any, Final

import msgspec

from services.kit.vendor_models import TickerDetails

# https://www.osha.gov/data/sic-manual: the divisions by the first two digits of a code.
_DIVISIONS: Final = (
    (1, 9, "Agriculture, Forestry, and Fishing"),
    (10, 14, "Mining"),
    (15, 17, "Construction"),
    (20, 39, "Manufacturing"),
    (40, 49, "Transportation, Communications, Electric, Gas, and Sanitary Services"),
    (50, 51, "Wholesale Trade"),
    (52, 59, "Retail Trade"),
    (60, 67, "Finance, Insurance, and Real Estate"),
    (70, 89, "Services"),
    (91, 97, "Public Administration"),
)
# The vendor's types of exchange-traded funds: fund, single-security fund, vehicle.
FUND_TYPES: Final = frozenset({"ETF", "ETS", "ETV"})
# What becomes a column of its own; the rest goes into `details` as it came.
_OWN_COLUMNS: Final = frozenset({"ticker", "name", "primary_exchange", "active", "market_cap"})


def sic_division(code: str | None) -> str | None:
    """The division of a four-digit SIC code; None when it has none."""
    if code is None or len(code) not in (3, 4) or not code.isascii() or not code.isdecimal():
        return None
    # Codes of agriculture lose their leading zero here and there.
    group = int(code) // 100
    return next((name for first, last, name in _DIVISIONS if first <= group <= last), None)


def metadata_columns(details: TickerDetails) -> dict[str, Any]:
    """Columns of ticker_metadata, absent ones None; `details` holds the vendor's further fields."""
    further = {
        name: value
        for name, value in msgspec.to_builtins(details).items()
        if name not in _OWN_COLUMNS and value is not None
    }
    shares = details.share_class_shares_outstanding
    return {
        "symbol": details.ticker,
        "company_name": details.name,
        "exchange": details.primary_exchange,
        "sector": sic_division(details.sic_code),
        "industry": details.sic_description,
        "market_cap": details.market_cap,
        "shares_outstanding": shares if shares is not None else details.weighted_shares_outstanding,
        "is_etf": None if details.type is None else details.type in FUND_TYPES,
        "is_actively_trading": details.active,
        "details": further,
    }
