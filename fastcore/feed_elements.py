"""One element of the vendor's message, read with care and without haste.

The compiled decoder reads what is plain by itself and brings here whatever is
unusual in the least; this module alone says what is malformed, and why.
"""

import re
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from fastcore.columns import condition_mask
from fastcore.dedup import trade_key

NAN: Final = float("nan")
SYMBOL: Final = re.compile(r"[A-Za-z][A-Za-z0-9.\-/]{0,11}", re.ASCII)
DECIMAL: Final = re.compile(r"-?(\d+(\.\d*)?|\.\d+)", re.ASCII)
MAX_INT64: Final = 2**63 - 1
# Exchanges and facilities are small numbers; more is not what the field means.
MAX_VENUE: Final = 2**31 - 1

# A time's unit goes by its size: each unit covers 1973 to 2262.
UNITS: Final = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (MAX_INT64 + 1, 1))


class Row(NamedTuple):
    """An accepted event: `values` are what the kind's columns take after the symbol's id."""

    kind: str
    symbol: str
    values: tuple[Any, ...]


class Status(NamedTuple):
    """The vendor's status of the connection: "auth_success", "max_connections" ..."""

    status: str
    message: str


class Rejected(Exception):
    """The element is set aside; the argument is the reason it is counted under."""


def to_nanoseconds(value: int) -> int:
    """Nanoseconds since 1970 UTC of a time in s, ms, us or ns, distinguished by magnitude; Rejected("time")."""
    for bound, factor in UNITS:
        if 0 < value < bound:
            if value * factor > MAX_INT64:
                break
            return value * factor
    raise Rejected("time")


def read_element(raw: bytes) -> Row | Status:
    """Reads one element of the vendor's array, which must be whole JSON.

    Raises Rejected with wrong_type, unknown_event, missing_field, symbol, time or encoding.
    """
    try:
        element = msgspec.json.decode(raw)
    except UnicodeDecodeError:
        raise Rejected("encoding") from None
    except msgspec.DecodeError:
        # A number that no double holds.
        raise Rejected("wrong_type") from None
    if type(element) is not dict:
        raise Rejected("wrong_type")
    event = _typed(element, "ev", str)
    reader = READERS.get(event)
    if reader is None:
        raise Rejected("unknown_event")
    return reader(element)


def _typed(element: dict[str, Any], name: str, kind: type) -> Any:
    value = element.get(name)
    if value is None:
        raise Rejected("missing_field")
    if type(value) is not kind:
        raise Rejected("wrong_type")
    return value


def _symbol(element: dict[str, Any], name: str = "sym") -> str:
    symbol: str = _typed(element, name, str)
    if SYMBOL.fullmatch(symbol) is None:
        raise Rejected("symbol")
    return symbol


def _time(element: dict[str, Any], name: str) -> int:
    return to_nanoseconds(_typed(element, name, int))


def _number(element: dict[str, Any], name: str) -> float:
    value = element.get(name)
    if value is None:
        raise Rejected("missing_field")
    if type(value) not in (int, float):
        raise Rejected("wrong_type")
    try:
        return float(value)
    except OverflowError:
        raise Rejected("wrong_type") from None


def _optional(element: dict[str, Any], name: str) -> float:
    return NAN if element.get(name) is None else _number(element, name)


def _amount(element: dict[str, Any], exact: str, whole: str) -> float:
    """Shares: the decimal string, which carries fractions, before the whole number."""
    text = element.get(exact)
    if text is None:
        return _number(element, whole)
    if type(text) is not str or len(text) > 64 or DECIMAL.fullmatch(text) is None:
        raise Rejected("wrong_type")
    return float(text)


def _optional_amount(element: dict[str, Any], exact: str, whole: str) -> float:
    if element.get(exact) is None and element.get(whole) is None:
        return NAN
    return _amount(element, exact, whole)


def _venue(element: dict[str, Any], name: str) -> int:
    value = element.get(name)
    if value is None:
        return 0
    if type(value) is not int or not 0 <= value <= MAX_VENUE:
        raise Rejected("wrong_type")
    return value


def _mask(element: dict[str, Any], name: str) -> int:
    ids = element.get(name)
    if ids is None:
        return 0
    if type(ids) is not list or any(type(one) is not int for one in ids):
        raise Rejected("wrong_type")
    return condition_mask(ids)


def _trade(element: dict[str, Any]) -> Row:
    identity = element.get("i")
    if identity is not None and type(identity) is not str:
        raise Rejected("wrong_type")
    symbol = _symbol(element)
    return Row(
        "trades",
        symbol,
        (
            _time(element, "t"),
            _number(element, "p"),
            _amount(element, "ds", "s"),
            _mask(element, "c"),
            trade_key(_venue(element, "x"), _venue(element, "trfi"), identity),
        ),
    )


def _bar(element: dict[str, Any], kind: str) -> Row:
    symbol = _symbol(element)
    return Row(
        kind,
        symbol,
        (
            _time(element, "s"),
            _time(element, "e"),
            _number(element, "o"),
            _number(element, "h"),
            _number(element, "l"),
            _number(element, "c"),
            _amount(element, "dv", "v"),
            _optional_amount(element, "dav", "av"),
            _optional(element, "a"),
            _optional(element, "op"),
            _optional(element, "vw"),
            _optional(element, "z"),
        ),
    )


def _quote(element: dict[str, Any]) -> Row:
    symbol = _symbol(element)
    names = ("bp", "ap", "bs", "as")
    return Row("quotes", symbol, (_time(element, "t"), *(_optional(element, name) for name in names)))


def _limit(element: dict[str, Any]) -> Row:
    symbol = _symbol(element, "T")
    return Row(
        "limits", symbol, (_time(element, "t"), _optional(element, "h"), _optional(element, "l"), _mask(element, "i"))
    )


def _status(element: dict[str, Any]) -> Status:
    message = element.get("message")
    return Status(_typed(element, "status", str), message if type(message) is str else "")


READERS: Final[dict[str, Callable[[dict[str, Any]], Row | Status]]] = {
    "T": _trade,
    "A": lambda element: _bar(element, "second_bars"),
    "AM": lambda element: _bar(element, "minute_bars"),
    "Q": _quote,
    "LULD": _limit,
    "status": _status,
}
KINDS: Final = ("limits", "quotes", "minute_bars", "second_bars", "trades")
