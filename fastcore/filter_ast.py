"""Filters and orders as trees: what the parser makes, what the checker makes of it.

The parser's tree has `Name` and `Literal` leaves; in the checked tree they have
become `FieldValue` and `Constant` of a known kind. Everything else is shared.
Positions are 0-based offsets into the text. `Word` and `Event` are of alert rules only (docs/alerts.md).
"""

from dataclasses import dataclass
from typing import Literal

from fastcore.fields import Field, Kind

CompareOp = Literal["=", "!=", "<", "<=", ">", ">="]
ArithmeticOp = Literal["+", "-", "*", "/"]
FunctionName = Literal["abs", "min", "max"]
# They see more than the row of now: docs/alerts.md.
WORDS = (
    "rises", "falls", "crosses_above", "crosses_below", "grows", "shrinks", "steps", "held", "after", "count", "enters",
    "leaves",
)  # fmt: skip


class FilterError(ValueError):
    """A filter or order that cannot be used: says where and, for a misspelt name, what was probably meant.

    `position`: 0-based offset into the text. `suggestion`: the nearest name, or None.
    """

    def __init__(self, problem: str, position: int, suggestion: str | None = None) -> None:
        hint = f'; did you mean "{suggestion}"?' if suggestion else ""
        super().__init__(f"{problem} at position {position}{hint}")
        self.problem = problem
        self.position = position
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Name:
    """A bare word: a field, an enum's text, or true and false."""

    text: str
    position: int


@dataclass(frozen=True, slots=True)
class Written:
    """A number, or a text in double quotes, as written."""

    value: float | str
    position: int


@dataclass(frozen=True, slots=True)
class FieldValue:
    """A field of the row."""

    field: Field
    position: int

    @property
    def kind(self) -> Kind:
        return self.field.kind


@dataclass(frozen=True, slots=True)
class Constant:
    """A value of a known kind: numbers, booleans (0, 1), enum codes and times (ns) as float, texts as str."""

    value: float | str
    kind: Kind
    position: int


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """`first`, then each (operator, operand) from left to right."""

    first: "Node"
    rest: tuple[tuple[ArithmeticOp, "Node"], ...]
    position: int


@dataclass(frozen=True, slots=True)
class Negative:
    """Unary minus."""

    operand: "Node"
    position: int


@dataclass(frozen=True, slots=True)
class Call:
    """abs(a), min(a, b), max(a, b)."""

    function: FunctionName
    arguments: tuple["Node", ...]
    position: int


@dataclass(frozen=True, slots=True)
class Compare:
    """Two values of one kind compared."""

    op: CompareOp
    left: "Node"
    right: "Node"
    position: int


@dataclass(frozen=True, slots=True)
class Membership:
    """`operand IN (values)`; the values are literals."""

    operand: "Node"
    values: tuple["Node", ...]
    position: int


@dataclass(frozen=True, slots=True)
class Between:
    """`operand BETWEEN low AND high`, ends included; the checker makes two comparisons of it."""

    operand: "Node"
    low: "Node"
    high: "Node"
    position: int


@dataclass(frozen=True, slots=True)
class Has:
    """True if the row has the field, else false; never unknown."""

    field: Field
    position: int


@dataclass(frozen=True, slots=True)
class HasName:
    """`has(name)` before the name is looked up."""

    name: Name
    position: int


@dataclass(frozen=True, slots=True)
class Word:
    """A word of an alert rule: what it looks at, its numbers (times in ns), and its list or scan."""

    name: str
    arguments: tuple["Node", ...]
    numbers: tuple[float, ...]
    list: str
    position: int
    scan: "Scan | None" = None


@dataclass(frozen=True, slots=True)
class Scan:
    """The best `limit` rows that match a condition. `filter` and `order_by`: the condition and the keys as written."""

    condition: "Node"
    keys: tuple["OrderKey", ...]
    limit: int
    filter: str
    order_by: str
    position: int


@dataclass(frozen=True, slots=True)
class Event:
    """A checked word, by its number among the rule's words."""

    number: int
    position: int


@dataclass(frozen=True, slots=True)
class And:
    items: tuple["Node", ...]
    position: int


@dataclass(frozen=True, slots=True)
class Or:
    items: tuple["Node", ...]
    position: int


@dataclass(frozen=True, slots=True)
class Not:
    item: "Node"
    position: int


@dataclass(frozen=True, slots=True)
class OrderKey:
    """One term of order_by: a value and its direction."""

    value: "Node"
    descending: bool
    position: int


Node = (
    Name
    | Written
    | FieldValue
    | Constant
    | Arithmetic
    | Negative
    | Call
    | Compare
    | Membership
    | Between
    | Has
    | HasName
    | Word
    | Event
    | And
    | Or
    | Not
)
Condition = (Compare, Membership, Between, Has, HasName, Word, Event, And, Or, Not)
