"""Names and kinds: the parser's tree to a checked one, in which every leaf is a field or a constant.

What may stand where: arithmetic on numbers; numbers, times and enums (in the
order of their texts) compared with any operator; texts and booleans with = and !=.
"""

import difflib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

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
    "enum": "one of the texts of an enum",
}


def check_filter(text: str) -> Node | None:
    """The checked tree of a filter, None for an empty one; FilterError when it cannot be used."""
    tree = parse_filter(text)
    return None if tree is None else condition(tree)


def check_order(text: str) -> list[OrderKey]:
    """The checked keys of an order; FilterError when it cannot be used."""
    keys = []
    for key in parse_order(text):
        value = _value(key.value)
        if value.kind == "text" and not (isinstance(value, FieldValue) and value.field.name == "symbol"):
            raise FilterError("expected a number, a time, an enum or symbol to order by, was a text", key.position)
        keys.append(OrderKey(value.node, key.descending, key.position))
    return keys
