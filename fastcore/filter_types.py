"""Names and kinds: the parser's tree to a checked one, in which every leaf is a field or a constant.

What may stand where: arithmetic on numbers; numbers, times and enums (in the
order of their texts) compared with any operator; texts and booleans with = and !=.
"""

import difflib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from fastcore.fields import BY_NAME, Field, Kind
from fastcore.filter_ast import (
    And,
    Arithmetic,
    Between,
    Call,
    Compare,
    Condition,
    Constant,
    FieldValue,
    FilterError,
    Has,
    HasName,
    Membership,
    Name,
    Negative,
    Node,
    Not,
    Or,
    OrderKey,
    Written,
)
from fastcore.filter_parser import parse_filter, parse_order

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_A_KIND: Final[dict[Kind, str]] = {
    "number": "a number",
    "text": "a text",
    "boolean": "true or false",
    "time": "a time",
    "enum": "the text of an enum",
}
_ORDERED: Final[tuple[Kind, ...]] = ("number", "time", "enum")


class _Value(NamedTuple):
    """A value and its kind; None while only what it is compared with can tell (a text, an enum's text).

    `values` are an enum's texts; `choices` those that a text is compared with, when there are no others.
    """

    node: Node
    kind: Kind | None
    values: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()


def check_filter(text: str) -> Node | None:
    """The checked tree of a filter, None for an empty one; FilterError when it cannot be used."""
    tree = parse_filter(text)
    return None if tree is None else checked_condition(tree)


def check_number(text: str) -> Node | None:
    """The checked tree of a number's expression, None for an empty one; FilterError when it cannot be used."""
    keys = parse_order(text)
    if not keys:
        return None
    if len(keys) > 1 or keys[0].descending:
        raise FilterError("expected one number, was an order", keys[-1].position)
    return checked_number(keys[0].value)


def check_order(text: str) -> list[OrderKey]:
    """The checked keys of an order; FilterError when it cannot be used."""
    return checked_order(parse_order(text))


def checked_order(written: Sequence[OrderKey]) -> list[OrderKey]:
    """The checked keys of an order's keys; FilterError when they cannot be used."""
    keys = []
    for key in written:
        value = _value(key.value)
        if value.kind is None:
            raise _not_a_field(value.node)
        if isinstance(value.node, Constant):
            raise FilterError("expected a field to order by, was a constant", key.position)
        if value.kind == "text" and not _is_symbol(value.node):
            raise FilterError("expected a number, a time, an enum or symbol to order by, was a text", key.position)
        keys.append(OrderKey(value.node, key.descending, key.position))
    return keys


def checked_condition(node: Node) -> Node:
    """The checked tree of a condition without words; FilterError when it cannot be used."""
    match node:
        case And(items, position):
            return And(tuple(checked_condition(item) for item in items), position)
        case Or(items, position):
            return Or(tuple(checked_condition(item) for item in items), position)
        case Not(item, position):
            return Not(checked_condition(item), position)
        case HasName(name, position):
            return Has(_field(name), position)
        case Compare(op, left, right, position):
            return _compare(op, left, right, position)
        case Between(operand, low, high, position):
            checked = (
                _compare(">=", operand, low, position, "BETWEEN"),
                _compare("<=", operand, high, position, "BETWEEN"),
            )
            return And(checked, position)
        case Membership(operand, values, position):
            return _membership(operand, values, position)
        case _:
            value = _value(node)
            if value.kind == "boolean":
                return Compare("=", value.node, Constant(1.0, "boolean", node.position), node.position)
            if value.kind is None and isinstance(value.node, Name):
                raise _unknown(value.node)
            was = _A_KIND[value.kind or "text"]
            raise FilterError(f"expected a condition (a value compared with another), was {was}", node.position)


def _compare(op: str, left: Node, right: Node, position: int, shown: str | None = None) -> Compare:
    a, b = _value(left), _value(right)
    if a.kind is None and b.kind is None:
        for value in (a, b):
            if isinstance(value.node, Name):
                raise _unknown(value.node)
        raise FilterError("expected a field on one side of the comparison, was two texts", position)
    if a.kind is None:
        a = _Value(_constant(a.node, b), b.kind, b.values, b.choices)
    elif b.kind is None:
        b = _Value(_constant(b.node, a), a.kind, a.values, a.choices)
    if (a.kind, a.values) != (b.kind, b.values):
        raise FilterError(f"expected {_expected(a)}, was {_was(b)}", b.node.position)
    if op not in ("=", "!=") and a.kind not in _ORDERED:
        assert a.kind is not None
        raise FilterError(f"expected = or != with {_A_KIND[a.kind]}, was {shown or op}", position)
    if a.kind == "text" and (_is_symbol(a.node) or _is_symbol(b.node)):
        other = b if _is_symbol(a.node) else a
        if not isinstance(other.node, Constant):
            raise FilterError("expected symbol to be compared with a text in double quotes, was a field", position)
    return Compare(op, a.node, b.node, position)  # type: ignore[arg-type]


def _membership(operand: Node, values: Sequence[Node], position: int) -> Membership:
    value = _value(operand)
    if value.kind is None:
        raise _not_a_field(value.node)
    return Membership(value.node, tuple(_member(item, value) for item in values), position)


def _member(node: Node, like: _Value) -> Constant:
    value = _value(node)
    if isinstance(value.node, FieldValue):
        raise FilterError(f"expected a value in IN, was the field {value.node.field.name!r}", node.position)
    if value.kind is None:
        return _constant(value.node, like)
    if value.kind != like.kind or not isinstance(value.node, Constant):
        raise FilterError(f"expected {_expected(like)}, was {_was(value)}", node.position)
    return value.node


def _value(node: Node) -> _Value:
    match node:
        case Name(text, position):
            field = BY_NAME.get(text)
            if field is not None and field.kind == "text":
                return _Value(FieldValue(field, position), field.kind, choices=field.values)
            if field is not None:
                return _Value(FieldValue(field, position), field.kind, field.values)
            if text.lower() in ("true", "false"):
                return _Value(Constant(float(text.lower() == "true"), "boolean", position), "boolean")
            return _Value(node, None)
        case Written(float() as number, position):
            return _Value(Constant(number, "number", position), "number")
        case Written():
            return _Value(node, None)
        case Negative(operand, position):
            return _Value(Negative(checked_number(operand), position), "number")
        case Arithmetic(first, rest, position):
            checked = tuple((op, checked_number(operand)) for op, operand in rest)
            return _Value(Arithmetic(checked_number(first), checked, position), "number")
        case Call(function, arguments, position):
            return _Value(Call(function, tuple(checked_number(item) for item in arguments), position), "number")
        case _:
            assert isinstance(node, Condition), node
            raise FilterError("expected a value, was a condition", node.position)


def checked_number(node: Node) -> Node:
    """The checked tree of a number; FilterError when it cannot be used."""
    value = _value(node)
    if value.kind is None:
        raise _not_a_field(value.node)
    if value.kind != "number":
        raise FilterError(f"expected a number, was {_was(value)}", node.position)
    return value.node


def _constant(node: Node, like: _Value) -> Constant:
    """A text or bare word as a constant of the kind it is compared with."""
    assert isinstance(node, Name | Written), node
    text = str(node.value) if isinstance(node, Written) else node.text
    position = node.position
    if like.kind == "enum":
        if text not in like.values:
            raise FilterError(f"expected {_expected(like)}, was {text!r}", position, nearest(text, like.values))
        return Constant(float(like.values.index(text) + 1), "enum", position)
    if isinstance(node, Name):
        if like.kind == "text":
            problem = f"expected a field or a text in double quotes, was {text}"
            # A text that lacks its quotes is likelier than a misspelt field.
            raise FilterError(problem, position, nearest(text, tuple(BY_NAME), 0.7))
        raise _unknown(node)
    if like.kind == "text":
        if like.choices and text not in like.choices:
            raise FilterError(
                f"expected one of {', '.join(like.choices)}, was {text!r}", position, nearest(text, like.choices)
            )
        return Constant(text, "text", position)
    if like.kind == "time":
        return Constant(_time_ns(text, position), "time", position)
    raise FilterError(f"expected {_expected(like)}, was the text {text!r}", position)


def _time_ns(text: str, position: int) -> float:
    expected = 'expected a time like "2026-01-05T14:30:00Z"'
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise FilterError(f"{expected}, was {text!r}", position) from None
    if time.tzinfo is None:
        raise FilterError(f"{expected}, was {text!r} without an offset from UTC", position)
    return float((time - _EPOCH) // timedelta(microseconds=1) * 1000)


def _field(name: Name) -> Field:
    field = BY_NAME.get(name.text)
    if field is None:
        raise _unknown(name)
    return field


def _is_symbol(node: Node) -> bool:
    return isinstance(node, FieldValue) and node.field.name == "symbol"


def _expected(like: _Value) -> str:
    if like.values:
        return f"one of {', '.join(like.values)}"
    assert like.kind is not None
    return _A_KIND[like.kind]


def _was(value: _Value) -> str:
    if isinstance(value.node, FieldValue):
        return f"{value.node.field.name} ({value.node.kind})"
    assert value.kind is not None
    return _A_KIND[value.kind]


def nearest(text: str, names: Sequence[str], likeness: float = 0.5) -> str | None:
    """The name most like `text`, whatever its case; None when none is even that much (0-1) alike."""
    lower = {name.lower(): name for name in names}
    found = difflib.get_close_matches(text.lower(), lower, n=1, cutoff=likeness)
    return lower[found[0]] if found else None


def _unknown(name: Name) -> FilterError:
    return FilterError(f"unknown field {name.text!r}", name.position, nearest(name.text, tuple(BY_NAME)))


def _not_a_field(node: Node) -> FilterError:
    if isinstance(node, Name):
        return _unknown(node)
    return FilterError("expected a field or a number, was a text", node.position)
