"""A filter for single rows, for clients that hold a few of them; `fastcore.filters` is for whole markets.

Conditions are true, false or unknown, as in docs/filters.md: a comparison with something that the row lacks is
unknown, and matches neither plainly nor under NOT.
"""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fastcore.filter_ast import (
    And,
    Arithmetic,
    Call,
    Compare,
    Constant,
    FieldValue,
    Has,
    Membership,
    Negative,
    Node,
    Not,
    Or,
)
from fastcore.filter_types import check_filter

Row = Mapping[str, Any]
Condition = Callable[[Row], bool | None]
Value = Callable[[Row], Any]

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ARITHMETIC: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else math.nan,
}
_CALLS: Final[dict[str, Callable[..., float]]] = {"abs": abs, "min": min, "max": max}


def row_filter(text: str) -> Callable[[Row], bool]:
    """Returns whether a row passes, as a function of it; every row passes the empty filter. Raises FilterError.

    A row holds numbers, texts and booleans as they are, enums as their texts, times in ns since 1970 UTC, by the
    fields' names; what is absent has no key.
    """
    tree = check_filter(text)
    if tree is None:
        return lambda _: True
    condition = _condition(tree)
    return lambda row: condition(row) is True


def _condition(node: Node) -> Condition:
    match node:
        case Compare(op, left, right):
            return _known(_COMPARE[op], _value(left), _value(right))
        case Membership(operand, values):
            members = frozenset(value.value for value in values if isinstance(value, Constant))
            return _known(members.__contains__, _value(operand))
        case Has(field):
            return lambda row: field.name in row
        case Not(item):
            return _known(operator.not_, _condition(item))
        case And(items):
            return _decided_by(False, [_condition(item) for item in items])
        case Or(items):
            return _decided_by(True, [_condition(item) for item in items])
    raise TypeError(f"expected a condition, was {type(node).__name__}")


def _value(node: Node) -> Value:
    match node:
        case Constant(value):
            return lambda _: value
        case FieldValue(field):
            return _field_value(field.name, field.kind, field.values)
        case Negative(operand):
            return _known(operator.neg, _value(operand))
        case Call(function, arguments):
            return _known(_CALLS[function], *map(_value, arguments))
        case Arithmetic(first, rest):
            result = _value(first)
            for op, operand in rest:
                result = _known(_ARITHMETIC[op], result, _value(operand))
            return result
    raise TypeError(f"expected a value, was {type(node).__name__}")


def _field_value(name: str, kind: str, texts: Sequence[str]) -> Value:
    """A field as constants are written: enums by their number, all but texts as doubles."""
    if kind == "text":
        return lambda row: row.get(name)
    if kind == "enum":
        numbers = {text: float(number) for number, text in enumerate(texts, 1)}
        return lambda row: numbers.get(row.get(name, ""))

    def value(row: Row) -> float | None:
        found = row.get(name)
        return None if found is None else float(found)

    return value


def _known(function: Callable[..., Any], *terms: Value) -> Value:
    """The function of the terms; unknown where one of them is, or where the result is no finite number."""

    def value(row: Row) -> Any:
        values = [term(row) for term in terms]
        if any(each is None for each in values):
            return None
        result = function(*values)
        return None if isinstance(result, float) and not math.isfinite(result) else result

    return value


def _decided_by(deciding: bool, conditions: Sequence[Condition]) -> Condition:
    """AND, decided by one that is false; OR, by one that is true."""

    def value(row: Row) -> bool | None:
        found = [condition(row) for condition in conditions]
        return deciding if deciding in found else None if None in found else not deciding

    return value
