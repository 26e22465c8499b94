"""A row's order value as one number, from the row as JSON: what sorted sets are scored by. Pure."""

import math
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from fastcore.filter_ast import Arithmetic, Call, Constant, FieldValue, Negative, Node
from fastcore.filter_types import check_order

_FUNCTIONS: Final[dict[str, Callable[..., float]]] = {"abs": abs, "min": min, "max": max}


class OrderScore:
    """The first value of an `order_by`; of a list that is in the order of symbols, or of enums, the rank."""

    def __init__(self, order_by: str) -> None:
        keys = check_order(order_by)
        self._key = keys[0] if keys else None
        fields = list(_fields(self._key.value)) if self._key is not None else []
        if any(field.kind not in ("number", "time") for field in fields):
            self._key = None
        names = dict.fromkeys(field.field.name for field in fields)
        # Of a row only these are read; NaN is absent.
        row = msgspec.defstruct("OrderedRow", [(name, float | str, math.nan) for name in names])
        self._decoder = msgspec.json.Decoder(row)

    def of(self, rank: int, members: bytes) -> float:
        """The score of a row: its JSON members, without braces. An absent value comes last, whatever the direction."""
        if self._key is None:
            return rank
        row = msgspec.structs.asdict(self._decoder.decode(b"{%b}" % members))
        value = _value(self._key.value, row)
        if math.isnan(value):
            return -math.inf if self._key.descending else math.inf
        return value


def _fields(node: Node) -> Iterator[FieldValue]:
    match node:
        case FieldValue():
            yield node
        case Negative(operand, _):
            yield from _fields(operand)
        case Call(_, arguments, _):
            for argument in arguments:
                yield from _fields(argument)
        case Arithmetic(first, rest, _):
            yield from _fields(first)
            for _, operand in rest:
                yield from _fields(operand)


def _value(node: Node, row: Mapping[str, Any]) -> float:
    """NaN when anything that it needs is absent."""
    match node:
        case FieldValue(field, _):
            value = row[field.name]
            return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else float(value)
        case Constant(value, _, _):
            return float(value)
        case Negative(operand, _):
            return -_value(operand, row)
        case Call(function, arguments, _):
            values = [_value(argument, row) for argument in arguments]
            # min and max would pass NaN over, depending on its place.
            return math.nan if any(map(math.isnan, values)) else _FUNCTIONS[function](*values)
        case Arithmetic(first, rest, _):
            return _sum(first, rest, row)
    raise TypeError(f"expected a value to order by, was {node!r}")


def _sum(first: Node, rest: tuple[tuple[str, Node], ...], row: Mapping[str, Any]) -> float:
    result = _value(first, row)
    for operator, node in rest:
        operand = _value(node, row)
        if operator == "+":
            result += operand
        elif operator == "-":
            result -= operand
        elif operator == "*":
            result *= operand
        else:
            result = result / operand if operand else math.nan
    return result
