"""Checks what may stand where in an alert rule's `when` and `rearm`: the parser's tree to a checked one and its words.

An event is a word, or several conditions of which one is a word at least. Where an event is expected, a plain condition
stands for the moment when it becomes true.
"""

from dataclasses import replace
from typing import Final, NamedTuple

from fastcore.alert_parser import parse_events
from fastcore.fields import BY_NAME
from fastcore.filter_ast import And, Event, FieldValue, FilterError, Node, Not, Or, Scan, Word
from fastcore.filter_program import folded
from fastcore.filter_types import checked_condition, checked_number, checked_order

MOST_WORDS: Final = 8
# Different ones in a `when` or a `rearm`: each is ranked at every watermark.
MOST_SCANS: Final = 2


class CheckedWord(NamedTuple):
    """`conditions` and `values`: what it looks at; in the conditions, Event(n) is that rule's word n, an earlier one.

    `looks_at_price`: the first value is the price, so that what it was between two looks counts, too.
    """

    name: str
    conditions: tuple[Node, ...]
    values: tuple[Node, ...]
    numbers: tuple[float, ...]
    list: str
    looks_at_price: bool
    scan: Scan | None = None


class CheckedEvents(NamedTuple):
    """`tree`: a condition in which Event(n) is word n."""

    tree: Node
    words: tuple[CheckedWord, ...]


def check_when(text: str) -> CheckedEvents:
    """The checked `when` of a rule; FilterError when it cannot be used."""
    tree = parse_events(text)
    if tree is None:
        raise FilterError("expected an event, was nothing", 0)
    checker = _Checker()
    return CheckedEvents(checker.event(tree), tuple(checker.words))


def check_rearm(text: str) -> CheckedEvents | None:
    """The checked `rearm` of a rule, None for an empty one; FilterError when it cannot be used."""
    tree = parse_events(text)
    if tree is None:
        return None
    checker = _Checker()
    return CheckedEvents(checker.condition(tree), tuple(checker.words))


class _Checker:
    def __init__(self) -> None:
        self.words: list[CheckedWord] = []
        self.scans: set[tuple[str, str, int]] = set()

    def event(self, node: Node) -> Node:
        """A condition that is true at single looks only."""
        match node:
            case Or(items, position):
                return Or(tuple(self.event(item) for item in items), position)
            case And(items, position) if has_word(node):
                checked = (self.event(item) if has_word(item) else self.condition(item) for item in items)
                return And(tuple(checked), position)
            case _ if has_word(node):
                return self.condition(node)
            case _:
                return self._rise(node)

    def condition(self, node: Node) -> Node:
        """A condition with words or without."""
        match node:
            case Word():
                return self._word(node)
            case And(items, position):
                return And(tuple(self.condition(item) for item in items), position)
            case Or(items, position):
                return Or(tuple(self.condition(item) for item in items), position)
            case Not(item, position) if has_word(item):
                raise FilterError("expected a condition without words under NOT, was one with a word", position)
            case _:
                return checked_condition(node)

    def _rise(self, node: Node) -> Node:
        condition = checked_condition(node)
        return self._add("rises", (condition, Not(condition, node.position)), (), (), node.position)

    def _word(self, word: Word) -> Node:
        arguments, numbers, position = word.arguments, word.numbers, word.position
        match word.name:
            case "rises" | "falls":
                return self._add(word.name, self._states(arguments[0], word.name), (), (), position)
            case "held":
                states = self._states(arguments[0], word.name)
                if numbers:
                    return self._add("held", states, (), numbers, position)
                shares = (FieldValue(BY_NAME["volume_today"], position), checked_number(arguments[1]))
                return self._add("held", states, shares, (), position)
            case "after":
                events = self.event(arguments[0]), self.event(arguments[1])
                return self._add("after", events, (), numbers, position)
            case "count":
                return self._add("count", (self.event(arguments[0]),), (), numbers, position)
            case "steps":
                first, step = self._constant(arguments[1]), self._constant(arguments[2])
                if step <= 0:
                    raise FilterError(f"expected steps of more than 0, was {step:g}", arguments[2].position)
                return self._add("steps", (), (checked_number(arguments[0]),), (first, step), position)
            case "enters" | "leaves":
                return self._add(word.name, (), (), numbers, position, word.list, self._scan(word.scan))
            case _:
                return self._add(word.name, (), tuple(checked_number(item) for item in arguments), (), position)

    def _scan(self, scan: Scan | None) -> Scan | None:
        """A scan with its condition and keys checked."""
        if scan is None:
            return None
        if has_word(scan.condition):
            raise FilterError("expected a condition without words in scan(), was one with a word", scan.position)
        checked = replace(scan, condition=checked_condition(scan.condition), keys=tuple(checked_order(scan.keys)))
        self.scans.add((scan.filter, scan.order_by, scan.limit))
        if len(self.scans) > MOST_SCANS:
            raise FilterError(f"limit reached: {MOST_SCANS} scans", scan.position)
        return checked

    def _states(self, node: Node, word: str) -> tuple[Node, Node]:
        """A condition and its opposite: where it is unknown, neither is true."""
        if has_word(node):
            raise FilterError(f"expected a condition without words in {word}(), was one with a word", node.position)
        condition = checked_condition(node)
        return condition, Not(condition, node.position)

    def _constant(self, node: Node) -> float:
        value = folded(checked_number(node))
        if value is None or value != value:
            raise FilterError("expected a number without fields, was an expression", node.position)
        return value

    def _add(
        self,
        name: str,
        conditions: tuple[Node, ...],
        values: tuple[Node, ...],
        numbers: tuple[float, ...],
        position: int,
        list_name: str = "",
        scan: Scan | None = None,
    ) -> Node:
        if len(self.words) == MOST_WORDS:
            raise FilterError(f"limit reached: {MOST_WORDS} words", position)
        first = values[0] if name.startswith("crosses") else None
        looks_at_price = isinstance(first, FieldValue) and first.field.name == "price"
        self.words.append(CheckedWord(name, conditions, values, numbers, list_name, looks_at_price, scan))
        return Event(len(self.words) - 1, position)


def has_word(node: Node) -> bool:
    """True if a condition has a word in it, itself included."""
    match node:
        case Word():
            return True
        case And(items) | Or(items):
            return any(has_word(item) for item in items)
        case Not(item):
            return has_word(item)
        case _:
            return False
