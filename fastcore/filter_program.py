"""A checked tree to a flat program: what filters.pyx evaluates over blocks of rows.

Matching needs no third truth value: NOT is pushed down to the leaves (NOT a > b
is a <= b, where a comparison with something absent is false either way), so a
mask is one byte a row, true or not. That gives exactly what three-valued logic
gives, whose "unknown" does not match and stays unknown under NOT.
"""

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from fastcore.filter_ast import (
    And,
    Arithmetic,
    Call,
    Compare,
    Constant,
    Event,
    FieldValue,
    Has,
    Membership,
    Negative,
    Node,
    Not,
    Or,
    OrderKey,
)


class Op(IntEnum):
    """Values go to registers of doubles, conditions to registers of masks."""

    LOAD = 0  # target = column `-left` of the requested rows
    SYMBOL_ORDER = 1  # target = place of the row's symbol in ascending order
    FILL = 2  # target = constant
    ADD = 3
    SUBTRACT = 4
    MULTIPLY = 5
    DIVIDE = 6
    MIN = 7
    MAX = 8
    ABS = 9
    NEGATE = 10
    COMPARE = 20  # left relation right
    COMPARE_CONSTANT = 21  # left relation constant
    HAS = 22  # column `-left` is there
    HAS_TEXT = 23
    ALWAYS = 24  # constant: 1 or 0
    IN_NUMBERS = 25  # left is one of the constants
    IN_TEXTS = 26  # text column `-left` is one of the texts
    IN_SYMBOLS = 27  # the symbol is one of the texts
    SAME_TEXT = 28  # text columns `-left` and `-right`
    MASK = 29  # mask register `left`
    EVENT = 30  # word number `first` of an alert rule


class Relation(IntEnum):
    """Of comparisons; HAS, IN and SAME_TEXT have 1 for "not" (there, but not so) and else 0."""

    EQUAL = 0
    NOT_EQUAL = 1
    LESS = 2
    LESS_EQUAL = 3
    GREATER = 4
    GREATER_EQUAL = 5


class Combine(IntEnum):
    """How a condition's mask joins what its target holds."""

    SET = 0
    AND = 1
    OR = 2


class Step(NamedTuple):
    """One instruction. Operands: a register (>= 0) or a field's column (minus its number)."""

    op: Op
    target: int
    left: int = 0
    right: int = 0
    relation: int = 0
    combine: int = Combine.SET
    constant: float = 0.0
    first: int = 0
    length: int = 0


class Lowered(NamedTuple):
    """A program: its steps, its constants, and how many registers it needs."""

    steps: tuple[Step, ...]
    numbers: tuple[float, ...]
    texts: tuple[tuple[str, bool], ...]  # (text, whether it is a symbol)
    value_registers: int
    mask_registers: int


RELATIONS: Final = {
    "=": Relation.EQUAL,
    "!=": Relation.NOT_EQUAL,
    "<": Relation.LESS,
    "<=": Relation.LESS_EQUAL,
    ">": Relation.GREATER,
    ">=": Relation.GREATER_EQUAL,
}
_NEGATED: Final = {
    Relation.EQUAL: Relation.NOT_EQUAL,
    Relation.NOT_EQUAL: Relation.EQUAL,
    Relation.LESS: Relation.GREATER_EQUAL,
    Relation.LESS_EQUAL: Relation.GREATER,
    Relation.GREATER: Relation.LESS_EQUAL,
    Relation.GREATER_EQUAL: Relation.LESS,
}
_TURNED: Final = {
    Relation.EQUAL: Relation.EQUAL,
    Relation.NOT_EQUAL: Relation.NOT_EQUAL,
    Relation.LESS: Relation.GREATER,
    Relation.LESS_EQUAL: Relation.GREATER_EQUAL,
    Relation.GREATER: Relation.LESS,
    Relation.GREATER_EQUAL: Relation.LESS_EQUAL,
}
_ARITHMETIC: Final = {"+": Op.ADD, "-": Op.SUBTRACT, "*": Op.MULTIPLY, "/": Op.DIVIDE}
_FUNCTIONS: Final = {"min": Op.MIN, "max": Op.MAX}


def lower_filter(tree: Node | None) -> Lowered:
    """The program whose mask register 0 says which rows match; all do without a tree."""
    lowering = _Lowering(gathers=False)
    if tree is None:
        lowering.always(True, 0, Combine.SET)
    else:
        lowering.condition(tree, False, 0, Combine.SET)
    return lowering.lowered()


def lower_order(keys: Sequence[OrderKey]) -> Lowered:
    """The program that leaves key k in value register k."""
    lowering = _Lowering(gathers=True)
    for register, key in enumerate(keys):
        lowering.value(key.value, register)
    return lowering.lowered()


def folded(node: Node) -> float | None:
    """The value of an expression without fields (NaN when absent, as 1/0 is), None when it has fields."""
    match node:
        case Constant(float() as value):
            return value
        case Negative(operand):
            inner = folded(operand)
            return None if inner is None else -inner
        case Arithmetic(first, rest):
            result = folded(first)
            for op, operand in rest:
                inner = folded(operand)
                if result is None or inner is None:
                    return None
                result = _finite(_ARITHMETIC[op], result, inner)
            return result
        case Call(function, arguments):
            values = [folded(argument) for argument in arguments]
            known = [value for value in values if value is not None]
            if len(known) < len(values):
                return None
            if any(math.isnan(value) for value in known):
                return math.nan
            return {"abs": lambda: abs(known[0]), "min": lambda: min(known), "max": lambda: max(known)}[function]()
        case _:
            return None


def _finite(op: Op, a: float, b: float) -> float:
    if op == Op.ADD:
        result = a + b
    elif op == Op.SUBTRACT:
        result = a - b
    elif op == Op.MULTIPLY:
        result = a * b
    else:
        result = a / b if b != 0 else math.nan
    return result if math.isfinite(result) else math.nan


class _Lowering:
    """`gathers`: fields are loaded into registers first, since the requested rows are not neighbours."""

    def __init__(self, gathers: bool) -> None:
        self._gathers = gathers
        self._steps: list[Step] = []
        self._numbers: list[float] = []
        self._texts: list[tuple[str, bool]] = []
        self._values = 0
        self._masks = 0

    def lowered(self) -> Lowered:
        return Lowered(
            tuple(self._steps), tuple(self._numbers), tuple(self._texts), max(self._values, 1), max(self._masks, 1)
        )

    def value(self, node: Node, register: int) -> int:
        """Emits the steps of a value; returns its operand. Uses registers from `register` on."""
        constant = folded(node)
        if constant is not None:
            return self._value_step(Step(Op.FILL, register, constant=constant))
        match node:
            case FieldValue(field):
                if field.name == "symbol":
                    return self._value_step(Step(Op.SYMBOL_ORDER, register))
                if self._gathers:
                    return self._value_step(Step(Op.LOAD, register, -field.number))
                return -field.number
            case Negative(operand):
                return self._value_step(Step(Op.NEGATE, register, self.value(operand, register)))
            case Call("abs", (argument,)):
                return self._value_step(Step(Op.ABS, register, self.value(argument, register)))
            case Call(function, (a, b)):
                left, right = self.value(a, register), self.value(b, register + 1)
                return self._value_step(Step(_FUNCTIONS[function], register, left, right))
            case Arithmetic(first, rest):
                left = self.value(first, register)
                for op, operand in rest:
                    right = self.value(operand, register + 1)
                    left = self._value_step(Step(_ARITHMETIC[op], register, left, right))
                return left
            case _:
                raise AssertionError(f"expected a checked value, was {node!r}")

    def condition(self, node: Node, negated: bool, target: int, combine: Combine) -> None:
        """Emits the steps that join a condition (its opposite when `negated`) to mask `target`."""
        match node:
            case Not(item):
                self.condition(item, not negated, target, combine)
            case And(items) | Or(items):
                joint = Combine.AND if isinstance(node, And) != negated else Combine.OR
                if combine in (Combine.SET, joint):
                    for index, item in enumerate(items):
                        self.condition(item, negated, target, combine if index == 0 else joint)
                else:
                    for index, item in enumerate(items):
                        self.condition(item, negated, target + 1, Combine.SET if index == 0 else joint)
                    self._mask_step(Step(Op.MASK, target, target + 1, combine=combine))
            case Has(field):
                if field.name == "symbol":
                    self.always(not negated, target, combine)
                else:
                    op = Op.HAS_TEXT if field.kind == "text" else Op.HAS
                    self._mask_step(Step(op, target, -field.number, relation=int(negated), combine=combine))
            case Compare(op, left, right):
                relation = _NEGATED[RELATIONS[op]] if negated else RELATIONS[op]
                if left.kind == "text" if isinstance(left, FieldValue | Constant) else False:
                    self._compare_texts(relation == Relation.NOT_EQUAL, left, right, target, combine)
                else:
                    self._compare(relation, left, right, target, combine)
            case Membership(operand, values):
                self._membership(operand, values, negated, target, combine)
            case Event(number):
                self._mask_step(Step(Op.EVENT, target, combine=combine, first=number))
            case _:
                raise AssertionError(f"expected a checked condition, was {node!r}")

    def always(self, truth: bool, target: int, combine: Combine) -> None:
        self._mask_step(Step(Op.ALWAYS, target, combine=combine, constant=float(truth)))

    def _compare(self, relation: Relation, left: Node, right: Node, target: int, combine: Combine) -> None:
        a, b = folded(left), folded(right)
        if a is not None:
            relation, left, right, a, b = _TURNED[relation], right, left, b, a
        if b is None:
            step = Step(Op.COMPARE, target, self.value(left, 0), self.value(right, 1), relation, combine)
        else:
            step = Step(Op.COMPARE_CONSTANT, target, self.value(left, 0), 0, relation, combine, b)
        self._mask_step(step)

    def _compare_texts(self, negated: bool, left: Node, right: Node, target: int, combine: Combine) -> None:
        if isinstance(left, Constant):
            left, right = right, left
        assert isinstance(left, FieldValue), left
        if isinstance(right, Constant):
            self._membership(left, (right,), negated, target, combine)
        else:
            assert isinstance(right, FieldValue), right
            numbers = -left.field.number, -right.field.number
            self._mask_step(Step(Op.SAME_TEXT, target, *numbers, relation=int(negated), combine=combine))

    def _membership(self, operand: Node, values: Sequence[Node], negated: bool, target: int, combine: Combine) -> None:
        wanted = [value.value for value in values if isinstance(value, Constant)]
        relation = int(negated)
        if isinstance(operand, FieldValue) and operand.kind == "text":
            is_symbol = operand.field.name == "symbol"
            first = len(self._texts)
            self._texts += [(str(text), is_symbol) for text in dict.fromkeys(wanted)]
            op, length = Op.IN_SYMBOLS if is_symbol else Op.IN_TEXTS, len(self._texts) - first
            left = 0 if is_symbol else -operand.field.number
        else:
            first = len(self._numbers)
            self._numbers += [float(number) for number in dict.fromkeys(wanted)]
            op, length = Op.IN_NUMBERS, len(self._numbers) - first
            left = self.value(operand, 0)
        self._mask_step(Step(op, target, left, 0, relation, combine, first=first, length=length))

    def _value_step(self, step: Step) -> int:
        self._steps.append(step)
        self._values = max(self._values, step.target + 1)
        return step.target

    def _mask_step(self, step: Step) -> None:
        self._steps.append(step)
        self._masks = max(self._masks, step.target + 1)
