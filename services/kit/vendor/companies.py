"""From the vendor's description of a company to the columns of ticker_metadata."""

import datetime
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorClient, VendorError
from services.kit.vendor.models import TickerDetails
from services.market.sectors import sic_division, sic_sector
from services.market.texts import plain_text

log = get_logger(__name__)

# From 20:00 to midnight.
_EVENING: Final = datetime.timedelta(hours=4)
# The vendor's types of exchange-traded funds: fund, single-security fund, vehicle.
FUND_TYPES: Final = frozenset({"ETF", "ETS", "ETV"})
# What becomes a column of its own; the rest goes into `details` as it came.
_OWN_COLUMNS: Final = frozenset({"ticker", "name", "primary_exchange", "active", "market_cap", "list_date"})


def metadata_columns(details: TickerDetails) -> dict[str, Any]:
    """Columns of ticker_metadata, absent ones None; `details` holds the vendor's further fields."""
    further = {
        name: value
        for name, value in msgspec.to_builtins(details).items()
        if name not in _OWN_COLUMNS and value is not None
    }
    if (division := sic_division(details.sic_code)) is not None:
        further["sic_division"] = division
    shares = details.share_class_shares_outstanding
    return {
        "symbol": details.ticker,
        "company_name": plain_text(details.name),
        "exchange": plain_text(details.primary_exchange),
        "sector": sic_sector(details.sic_code),
        "industry": plain_text(details.sic_description),
        "market_cap": details.market_cap,
        "shares_outstanding": shares if shares is not None else details.weighted_shares_outstanding,
        "is_etf": None if details.type is None else details.type in FUND_TYPES,
        "is_actively_trading": details.active,
        "security_type": plain_text(details.type),
        "list_date": a_date(details.list_date),
        "details": further,
    }


# The highest number of shares that is one.
MOST_SHARES: Final = 1e13
# The vendor's plan does not have an endpoint, or a vendor of its kind does not know it.
_NOT_IN_PLAN: Final = frozenset({401, 403, 404})


async def free_floats(vendor: VendorClient, tickers: Sequence[str] = ()) -> dict[str, float]:
    """Shares free to trade by symbol, of all or of `tickers`; none when the vendor's plan lacks them, which is logged.

    Raises VendorError when they cannot be had for another reason.
    """
    try:
        rows = await vendor.floats(tickers)
    except VendorError as error:
        if error.status not in _NOT_IN_PLAN:
            raise
        log.warning(
            "the vendor's plan has no float list: float_shares come from the second source", error=reason_of(error)
        )
        return {}
    told = {row.ticker: row.free_float or 0.0 for row in rows}
    return {ticker: shares for ticker, shares in told.items() if 0 < shares < MOST_SHARES}


def known_from(now: datetime.datetime) -> datetime.date:
    """The first day of the market that knows what is learnt now; after 20:00 New York time that is the next date."""
    return (now.astimezone(NEW_YORK) + _EVENING).date()


def a_date(text: object) -> str | None:
    """`text` when it is a date, YYYY-MM-DD; else None."""
    if not isinstance(text, str):
        return None
    try:
        # Python reads other forms of ISO 8601 as well.
        return text if datetime.date.fromisoformat(text).isoformat() == text else None
    except ValueError:
        return None
