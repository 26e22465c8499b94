"""Companies: which texts and numbers are usable, and TickerMetadata messages of stored rows. Pure."""

import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import descriptor, json_format
from tradeul.v1 import ticker_pb2

from fastcore.fields import SUMS
from fastcore.measures import shown
from services.market.dates import iso_date
from services.market.sectors import known_sector

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

LONGEST_TEXT: Final = 200
# Controls, and all kinds of spaces and line ends: what separates words.
_BLANKS: Final = frozenset({"Cc", "Zs", "Zl", "Zp"})
# Marks of direction, soft hyphens, halves of surrogates, unassigned code points: invisible.
_INVISIBLE: Final = frozenset({"Cf", "Cs", "Co", "Cn"})
_PLAIN: Final = re.compile(r"[!-~]+(?: [!-~]+)*")

_FIELDS: Final = ticker_pb2.TickerMetadata.DESCRIPTOR.fields_by_name
_FIRST_FURTHER_FIELD: Final = 30
# Columns of ticker_metadata with the name of their field. The listing date was a further field first.
METADATA_COLUMNS: Final = (
    *(
        name
        for name, field in _FIELDS.items()
        if field.number < _FIRST_FURTHER_FIELD and name not in ("symbol", "updated_at")
    ),
    "list_date",
)
# Fields that the column `details` holds as JSON.
FURTHER_FIELDS: Final = frozenset(name for name, field in _FIELDS.items() if field.number >= _FIRST_FURTHER_FIELD) - {
    "list_date"
}
_TEXT_COLUMNS: Final = frozenset(
    name for name in METADATA_COLUMNS if _FIELDS[name].cpp_type == descriptor.FieldDescriptor.CPPTYPE_STRING
)

Values = dict[str, float | str]


def plain_text(value: object) -> str | None:
    """`value` in one spelling: NFC, single spaces between words, nothing invisible, 200 characters at most.

    None when nothing is left, or when it is no text. Every text of a company that is stored or shown
    passes through here, so that a filter finds what an answer shows.
    """
    if not isinstance(value, str):
        return None
    if _PLAIN.fullmatch(value) is None:
        kinds = ((each, unicodedata.category(each)) for each in value)
        visible = "".join(" " if kind in _BLANKS else each for each, kind in kinds if kind not in _INVISIBLE)
        value = unicodedata.normalize("NFC", " ".join(visible.split()))
    return value[:LONGEST_TEXT].strip() or None


def usable_values(fields: Mapping[str, object], set_aside: Counter[str]) -> Values:
    """The usable ones of a company's values, by the names of TEXTS, NUMBERS and AVERAGES.

    The others are left out and counted in `set_aside` as "metadata". Numbers may
    be texts, as older writers of ticker:metadata keys made them.
    """
    values: Values = {}
    for name in (*TEXTS, *NUMBERS, *AVERAGES):
        value = fields.get(name)
        if value is None or value == "":
            continue
        usable = _text(name, value) if name in TEXTS else _number(name, value)
        if usable is None:
            set_aside["metadata"] += 1
        else:
            values[name] = usable
    return values


def needs_details(values: Values) -> bool:
    """True if a value is missing that the vendor's details may have."""
    return any(name not in values for name in (*TEXTS, "is_etf", "market_cap", "shares_outstanding"))


def _text(name: str, value: object) -> str | None:
    text = plain_text(value)
    if name == "sector":
        # Older writers kept the division of the SIC code there.
        return known_sector(text)
    return text if name != "list_date" or iso_date(text) is not None else None


def _number(name: str, value: object) -> float | None:
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


def metadata_key(symbol: str) -> str:
    """The Redis key of a symbol's metadata: the JSON of its TickerMetadata."""
    return f"ticker:metadata:{symbol}"


def metadata_message(record: Mapping[str, Any]) -> tuple[ticker_pb2.TickerMetadata, list[str]]:
    """A row of ticker_metadata as a message, and the further fields that had to be left out."""
    message = ticker_pb2.TickerMetadata(symbol=record["symbol"])
    for name in METADATA_COLUMNS:
        # In one spelling, also when it is stored in another.
        value = plain_text(record[name]) if name in _TEXT_COLUMNS else record[name]
        if value is not None:
            setattr(message, name, shown(record[name]) if name in SUMS else value)
    if record["updated_at"] is not None:
        message.updated_at.FromDatetime(record["updated_at"])
    left_out = []
    for name, value in json.loads(record["details"]).items():
        if name not in FURTHER_FIELDS:
            continue
        try:
            json_format.ParseDict({name: value}, message)
        except json_format.ParseError:
            left_out.append(name)
    return message, left_out
