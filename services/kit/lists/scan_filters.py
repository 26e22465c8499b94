"""The rows of scanner_filters: their parameters (JSON) as text of the filter language.

    {"min_price": 1, "sectors": ["Technology"], "apply_to_sessions": ["MARKET_OPEN"]}

becomes `price >= 1 AND sector IN ("Technology")`, applied while the market is open.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fastcore.filter_ast import FilterError
from fastcore.filter_types import check_filter
from services.kit.runtime.nearest import nearest_hint, nearest_name

# A type checker has to see the names: a test compares them with fastcore.fields.SECTORS.
Sector = Literal[
    "Basic Materials", "Communication Services", "Consumer Cyclical", "Consumer Defensive", "Energy",
    "Financial Services", "Healthcare", "Industrials", "Real Estate", "Technology", "Utilities",
]  # fmt: skip
SessionName = Literal["PRE_MARKET", "MARKET_OPEN", "POST_MARKET", "CLOSED"]
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Amount = Annotated[float, Field(allow_inf_nan=False, ge=0)]
# JSON may hold NUL, PostgreSQL's jsonb may not.
_NO_NUL: Final = r"^[^\x00]*$"
_Texts = list[Annotated[str, Field(min_length=1, max_length=200, pattern=_NO_NUL)]]

# Parameters `min_x` and `max_x`, and the field they bound.
_RANGES: Final = {
    "price": "price",
    "volume": "volume_today",
    "change_percent": "change_percent",
    "market_cap": "market_cap",
    "float": "float_shares",
    "rvol": "rvol",
}
_CHOICES: Final = {
    "sectors": "sector",
    "industries": "industry",
    "exchanges": "exchange",
    "security_types": "security_type",
}


class ScanFilterError(ValueError):
    """Parameters that cannot be used; the message names them, with the reason."""


class ScanFilterParameters(BaseModel):
    """The parameters of a row of scanner_filters; all those given must hold.

    A symbol without rvol passes min_rvol and max_rvol; any other bound refuses a symbol
    without the field. An empty list stands for any value. Prices in USD, volume and
    float in shares, market_cap in USD, changes in percent.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    min_rvol: _Amount | None = None
    max_rvol: _Amount | None = None
    min_price: _Amount | None = None
    max_price: _Amount | None = None
    min_volume: _Amount | None = None
    min_change_percent: _Number | None = None
    max_change_percent: _Number | None = None
    min_market_cap: _Amount | None = None
    max_market_cap: _Amount | None = None
    min_float: _Amount | None = None
    max_float: _Amount | None = None
    sectors: list[Sector] = []
    industries: _Texts = []
    exchanges: _Texts = []
    # The vendor's types: CS, ADRC, PFD, WARRANT, UNIT, RIGHT, ETF, ETN, FUND, SP, OS ...
    security_types: _Texts = []
    # A filter as in docs/filters.md, for what the parameters above cannot say.
    expression: Annotated[str, Field(pattern=_NO_NUL, json_schema_extra={"format": "filter"})] | None = None
    # The sessions of now in which the row applies; none means all.
    apply_to_sessions: list[SessionName] = []


class ScanFilter(NamedTuple):
    """A row of scanner_filters, ready for the lists: rows pass for which `expression` holds; all do when it is ""."""

    name: str
    expression: str
    sessions: tuple[SessionName, ...]


class DefaultRow(NamedTuple):
    """A row that a new database begins with."""

    name: str
    enabled: bool
    priority: int
    parameters: Mapping[str, Any]


# What the first migration inserts, and what applies where there is no database.
DEFAULT_ROWS: Final = (
    DefaultRow("price_range", True, 10, {"min_price": 1}),
    DefaultRow("volume_min", True, 20, {"min_volume": 100000, "apply_to_sessions": ["MARKET_OPEN", "POST_MARKET"]}),
    DefaultRow("volume_min_premarket", True, 30, {"min_volume": 5000, "apply_to_sessions": ["PRE_MARKET"]}),
    DefaultRow("rvol_high", False, 40, {"min_rvol": 2}),
)


def scan_filter(name: str, parameters: str | bytes | Mapping[str, Any]) -> ScanFilter:
    """A row as the lists use it; `parameters` is JSON text or what it says. Raises ScanFilterError."""
    try:
        checked = parse_parameters(parameters)
        return ScanFilter(name, expression_of(checked), tuple(dict.fromkeys(checked.apply_to_sessions)))
    except ScanFilterError as error:
        raise ScanFilterError(f"scanner filter {name!r}: {error}") from error


def default_filters() -> list[ScanFilter]:
    """The enabled default rows, the first to be applied first."""
    return [scan_filter(row.name, row.parameters) for row in DEFAULT_ROWS if row.enabled]


def parse_parameters(parameters: str | bytes | Mapping[str, Any]) -> ScanFilterParameters:
    """The parameters, checked; raises ScanFilterError that names every one that is wrong."""
    try:
        if isinstance(parameters, str | bytes):
            checked = ScanFilterParameters.model_validate_json(parameters)
        else:
            checked = ScanFilterParameters.model_validate(dict(parameters))
    except ValidationError as error:
        raise ScanFilterError("; ".join(_problem(detail) for detail in error.errors())) from error
    for key in _RANGES:
        low, high = getattr(checked, f"min_{key}"), getattr(checked, f"max_{key}", None)
        if low is not None and high is not None and low > high:
            raise ScanFilterError(f"expected min_{key} to be at most max_{key} ({_number(high)}), was {_number(low)}")
    return checked


def expression_of(parameters: ScanFilterParameters) -> str:
    """The parameters as a filter's text, "" when none is given; raises ScanFilterError."""
    terms: list[str] = []
    for key, field in _RANGES.items():
        for side, sign in (("min", ">="), ("max", "<=")):
            value = getattr(parameters, f"{side}_{key}", None)
            if value is not None:
                term = f"{field} {sign} {_number(value)}"
                terms.append(f"(NOT has(rvol) OR {term})" if field == "rvol" else term)
    for key, field in _CHOICES.items():
        texts: Sequence[str] = getattr(parameters, key)
        if texts:
            terms.append(f"{field} IN ({', '.join(map(_quoted, dict.fromkeys(texts)))})")
    expression = (parameters.expression or "").strip()
    if expression:
        # Alone first: an unmatched parenthesis must not close ours, and positions are the writer's.
        _check("expression: ", expression)
        terms.append(f"({expression})" if terms else expression)
    text = " AND ".join(terms)
    _check("all parameters as one filter: ", text)
    return text


def _check(what: str, text: str) -> None:
    try:
        check_filter(text)
    except FilterError as error:
        raise ScanFilterError(f"{what}{error}") from error


def _problem(detail: Any) -> str:
    name = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        names = ScanFilterParameters.model_fields
        return f"expected one of {', '.join(names)}, was {name[:80]!r}{nearest_hint(nearest_name(name[:80], names))}"
    message = detail["msg"][:1].lower() + detail["msg"][1:]
    shown = repr(detail["input"])
    return f"{name or 'parameters'}: {message}, was {shown if len(shown) <= 80 else shown[:80] + '...'}"


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
