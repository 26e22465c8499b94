"""Companies as the vendor describes them: columns of ticker_metadata, values, free floats."""

import datetime
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorClient, VendorError
from services.kit.vendor.models import TickerDetails, TickerSummary
from services.market.companies import Values, plain_text, usable_values
from services.market.dates import iso_date
from services.market.sectors import sic_division, sic_sector

log = get_logger(__name__)

# From 20:00 to midnight.
_EVENING: Final = datetime.timedelta(hours=4)
# The vendor's types of exchange-traded funds: fund, single-security fund, vehicle.
FUND_TYPES: Final = frozenset({"ETF", "ETS", "ETV"})
# They have columns of their own; the rest goes into `details` as it came.
_OWN_COLUMNS: Final = frozenset({"ticker", "name", "primary_exchange", "active", "market_cap", "list_date"})
# The highest number of shares that is one.
MAX_SHARES: Final = 1e13
# The vendor's plan does not have an endpoint, or a vendor of its kind does not know it.
_NOT_IN_PLAN: Final = frozenset({401, 403, 404})


def metadata_columns(details: TickerDetails) -> dict[str, Any]:
    """Columns of ticker_metadata, absent ones None; `details` holds the vendor's further fields."""
    further = {
        name: value
        for name, value in msgspec.to_builtins(details).items()
        if name not in _OWN_COLUMNS and value is not None
    }
    if (division := sic_division(details.sic_code)) is not None:
        further["sic_division"] = division
    return {
        "symbol": details.ticker,
        "company_name": plain_text(details.name),
        "exchange": plain_text(details.primary_exchange),
        "sector": sic_sector(details.sic_code),
        "industry": plain_text(details.sic_description),
        "market_cap": details.market_cap,
        "shares_outstanding": _shares(details),
        "is_etf": _is_fund(details.type),
        "is_actively_trading": details.active,
        "security_type": plain_text(details.type),
        "list_date": details.list_date if iso_date(details.list_date) else None,
        "details": further,
    }


def summary_values(row: TickerSummary, set_aside: Counter[str]) -> Values:
    """A company's values in a row of /v3/reference/tickers; unusable ones are counted, see usable_values()."""
    fields = {
        "company_name": row.name,
        "exchange": row.primary_exchange,
        "security_type": row.type,
        "is_etf": _is_fund(row.type),
    }
    return usable_values(fields, set_aside)


def details_values(row: TickerDetails, set_aside: Counter[str]) -> Values:
    """A company's values in the answer of /v3/reference/tickers/{ticker}; unusable ones are counted."""
    fields = {
        "company_name": row.name,
        "exchange": row.primary_exchange,
        "sector": sic_sector(row.sic_code),
        "industry": row.sic_description,
        "market_cap": row.market_cap,
        "shares_outstanding": _shares(row),
        "list_date": row.list_date,
        "security_type": row.type,
        "is_etf": _is_fund(row.type),
    }
    return usable_values(fields, set_aside)


def _shares(details: TickerDetails) -> float | None:
    shares = details.share_class_shares_outstanding
    return details.weighted_shares_outstanding if shares is None else shares


def _is_fund(security_type: str | None) -> bool | None:
    return None if security_type is None else security_type in FUND_TYPES


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
    floats = {row.ticker: row.free_float or 0.0 for row in rows}
    return {ticker: shares for ticker, shares in floats.items() if 0 < shares < MAX_SHARES}


def known_from(now: datetime.datetime) -> datetime.date:
    """The date from which on the market knows what is learnt now; after 20:00 New York time the next date."""
    return (now.astimezone(NEW_YORK) + _EVENING).date()
