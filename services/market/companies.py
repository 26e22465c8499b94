"""Company metadata: which source's value counts, and what a value may be (docs/semantics.md). Pure."""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import numpy as np

from services.data_ingest.reference.batch import ReferenceBatch
from services.kit.vendor.companies import FUND_TYPES, a_date
from services.kit.vendor.models import TickerDetails, TickerSummary
from services.market.sectors import known_sector, sic_sector
from services.market.texts import plain_text

TEXTS: Final = ("company_name", "exchange", "sector", "industry", "security_type", "list_date")
# The greatest value each may have; none may be negative but beta.
NUMBERS: Final[Mapping[str, float]] = {
    "is_etf": 1.0,
    "float_shares": 1e13,
    "shares_outstanding": 1e13,
    "market_cap": 1e15,
    "beta": 1e4,
}
# Kept by the stores with the metadata; they count where there are no daily bars.
AVERAGES: Final[Mapping[str, float]] = {"avg_volume_10d": 1e12, "avg_volume_30d": 1e12, "avg_price_30d": 1e7}

Values = dict[str, float | str]


def from_store(fields: Mapping[str, object], set_aside: Counter[str]) -> Values:
    """The values of a row of ticker_metadata, or of a ticker:metadata key's JSON.

    What is not usable is counted in `set_aside` as "metadata" and left out.
    """
    values: Values = {}
    for name in (*TEXTS, *NUMBERS, *AVERAGES):
        _take(values, name, fields.get(name), set_aside)
    return values


def from_summary(row: TickerSummary, set_aside: Counter[str]) -> Values:
    """What /v3/reference/tickers says of a symbol."""
    values: Values = {}
    _take(values, "company_name", row.name, set_aside)
    _take(values, "exchange", row.primary_exchange, set_aside)
    _take_type(values, row.type, set_aside)
    return values


def from_details(row: TickerDetails, set_aside: Counter[str]) -> Values:
    """What /v3/reference/tickers/{ticker} says of a symbol."""
    values: Values = {}
    _take(values, "company_name", row.name, set_aside)
    _take(values, "exchange", row.primary_exchange, set_aside)
    _take(values, "sector", sic_sector(row.sic_code), set_aside)
    _take(values, "industry", row.sic_description, set_aside)
    _take(values, "market_cap", row.market_cap, set_aside)
    shares = row.share_class_shares_outstanding
    _take(values, "shares_outstanding", row.weighted_shares_outstanding if shares is None else shares, set_aside)
    _take(values, "list_date", row.list_date, set_aside)
    _take_type(values, row.type, set_aside)
    return values


def needs_details(values: Values) -> bool:
    """Whether only the vendor's details can fill in what is missing."""
    return any(name not in values for name in (*TEXTS, "is_etf", "market_cap", "shares_outstanding"))


def batch(
    symbols: Sequence[str], values: Mapping[str, Values], fields: Collection[str] = (*TEXTS, *NUMBERS)
) -> ReferenceBatch:
    """The metadata columns `fields` of `symbols`, absent where nothing is known."""
    rows = [values.get(symbol, {}) for symbol in symbols]
    numbers = {
        name: np.array([row.get(name, math.nan) for row in rows], dtype=np.float64)
        for name in NUMBERS
        if name in fields
    }
    texts = {name: [str(row.get(name, "")) for row in rows] for name in TEXTS if name in fields}
    return ReferenceBatch(list(symbols), numbers, texts)


def _take_type(values: Values, security_type: str | None, set_aside: Counter[str]) -> None:
    _take(values, "security_type", security_type, set_aside)
    if security_type is not None:
        values["is_etf"] = float(security_type in FUND_TYPES)


def _take(values: Values, name: str, value: object, set_aside: Counter[str]) -> None:
    if value is None or value == "":
        return
    usable = _text(name, value) if name in TEXTS else _number(name, value)
    if usable is None:
        set_aside["metadata"] += 1
    else:
        values[name] = usable


def _text(name: str, value: object) -> str | None:
    text = plain_text(value)
    if name == "sector":
        # Older writers kept the division of the SIC code there.
        return known_sector(text)
    return a_date(text) if name == "list_date" else text


def _number(name: str, value: object) -> float | None:
    """Older writers of the keys made texts of numbers."""
    if not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and name == "is_etf":
        value = {"true": "1", "false": "0"}.get(value.lower(), value)
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number) or (number < 0 and name != "beta"):
        return None
    return number if abs(number) <= {**NUMBERS, **AVERAGES}[name] else None
