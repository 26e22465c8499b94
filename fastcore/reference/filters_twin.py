"""Filters and orders, evaluated row by row on dicts.

A condition is True, False or None; None is a comparison with something absent,
which matches neither plainly nor under NOT. No error messages of worth: the
texts have passed the real parser before.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from fastcore.fields import BY_NAME

Row = Mapping[str, Any]
Term = Callable[[Row], Any]

_TOKEN: Final = re.compile(
    r'\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<word>[A-Za-z_]\w*)|"(?P<text>(?:[^"\\]|\\.)*)"'
    r"|(?P<sign><=|>=|!=|[-+*/=<>(),]))"
)
_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
# Written in either case, and here in this one.
_WORDS: Final = {
    word.lower(): word
    for word in ("AND", "OR", "NOT", "IN", "BETWEEN", "asc", "desc", "has", "abs", "min", "max", "true", "false")
}
_CALLS: Final[dict[str, Callable[..., float]]] = {"abs": abs, "min": min, "max": max}


def matches(text: str, row: Row) -> bool:
    """True if the row passes; every row passes the empty filter."""
    return not text.strip() or TermParser(text).whole(TermParser.condition)(row) is True


def order_keys(text: str) -> list[tuple[Term, bool]]:
    """The order's expressions, each with whether it descends."""
    return TermParser(text).order() if text.strip() else []


def ranked(text: str, rows: list[Row]) -> list[Row]:
    """The rows in order: absent values last, ascending and descending, ties by symbol."""
    result = sorted(rows, key=lambda row: str(row["symbol"]))
    for plain, descending in reversed(order_keys(text)):
        texts = getattr(plain, "texts", ())
        # Enums rank by the order of their texts.
        term: Term = _apply(texts.index, plain) if texts else plain

        def key(row: Row, term: Term = term, descending: bool = descending) -> tuple[bool, Any]:
            value = term(row)
            if value is None:
                return True, 0.0
            if isinstance(value, str):
                # Texts can't be negated; the stable sort below is turned round instead.
                return False, value
            return False, -value if descending else value

        if descending and any(isinstance(term(row), str) for row in result):
            present = [row for row in result if term(row) is not None]
            absent = [row for row in result if term(row) is None]
            result = [*sorted(present, key=term, reverse=True), *absent]
        else:
            result.sort(key=key)
    return result


def first_key(text: str, row: Row) -> float | None:
    """The row's first order value, negated where the order descends, infinite when absent; None for a text's."""
    (term, descending), *_ = order_keys(text) or [(lambda row: 0.0, False)]
    texts = getattr(term, "texts", ())
    value = term(row)
    if value is None:
        return math.inf
    if texts:
        value = texts.index(value)
    if isinstance(value, str):
        return None
    number = float(value)
    return -number if descending else number


def known_number(value: Any) -> Any:
    """A result that is no finite number is absent."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _divide(a: float, b: float) -> float:
    return a / b if b != 0 else math.nan


_ARITHMETIC: Final[dict[str, Callable[[float, float], float]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
}


def _apply(function: Callable[..., Any], *terms: Term) -> Term:
    """The function of the terms' values; absent when one of them is."""

    def value(row: Row) -> Any:
        values = [term(row) for term in terms]
        return None if any(item is None for item in values) else known_number(function(*values))

    return value


class TermParser:
    """Recursive descent over the tokens (kind, text)."""

    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise ValueError(f"expected a filter, was {text!r} at {at}")
            token = match.group(match.lastgroup)
            self.tokens.append((match.lastgroup, _WORDS.get(token.lower(), token) if match["word"] else token))
            at = match.end()
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, *texts: str) -> str | None:
        kind, text = self.peek()
        if kind in ("word", "sign") and text in texts:
            self.at += 1
            return text
        return None

    def expect(self, text: str) -> None:
        if self.take(text) is None:
            raise ValueError(f"expected {text}, was {self.peek()[1]!r}")

    def whole(self, rule: "Callable[[TermParser], Term]") -> Term:
        result = rule(self)
        if self.peek()[0] != "end":
            raise ValueError(f"expected the end, was {self.peek()[1]!r}")
        return result

    def order(self) -> list[tuple[Term, bool]]:
        keys = []
        while True:
            term = self.sum()
            keys.append((term, self.take("asc", "desc") == "desc"))
            if self.take(",") is None:
                if self.peek()[0] != "end":
                    raise ValueError(f"expected the end, was {self.peek()[1]!r}")
                return keys

    def condition(self) -> Term:
        terms = [self.conjunction()]
        while self.take("OR"):
            terms.append(self.conjunction())
        if len(terms) == 1:
            return terms[0]

        def value(row: Row) -> bool | None:
            values = [term(row) for term in terms]
            return True if True in values else None if None in values else False

        return value

    def conjunction(self) -> Term:
        terms = [self.negation()]
        while self.take("AND"):
            terms.append(self.negation())
        if len(terms) == 1:
            return terms[0]

        def value(row: Row) -> bool | None:
            values = [term(row) for term in terms]
            return False if False in values else None if None in values else True

        return value

    def negation(self) -> Term:
        if self.take("NOT"):
            return _apply(lambda value: not value, self.negation())
        return self.comparison()

    def comparison(self) -> Term:
        left = self.sum()
        sign = self.take(*_COMPARE)
        if sign:
            return self.compared(sign, left, self.sum())
        if self.take("NOT"):
            return _apply(lambda value: not value, self.placed(left))
        return self.placed(left)

    def placed(self, left: Term) -> Term:
        """IN and BETWEEN; `left` alone when neither follows."""
        if self.take("IN"):
            self.expect("(")
            choices = [self.sum()]
            while self.take(","):
                choices.append(self.sum())
            self.expect(")")
            tests = [self.compared("=", left, choice) for choice in choices]
            return lambda row: True if any(t(row) for t in tests) else None if tests[0](row) is None else False
        if self.take("BETWEEN"):
            low = self.sum()
            self.expect("AND")
            tests = [self.compared(">=", left, low), self.compared("<=", left, self.sum())]

            def value(row: Row) -> bool | None:
                values = [test(row) for test in tests]
                return False if False in values else None if None in values else True

            return value
        return left

    def compared(self, sign: str, left: Term, right: Term) -> Term:
        """Enums compare by the order of their texts, which the term of their field knows."""
        texts = getattr(left, "texts", ()) or getattr(right, "texts", ())
        compare = _COMPARE[sign]
        if texts:
            return _apply(lambda a, b: compare(texts.index(a), texts.index(b)), left, right)
        return _apply(compare, left, right)

    def sum(self) -> Term:
        left = self.product()
        while sign := self.take("+", "-"):
            left = _apply(_ARITHMETIC[sign], left, self.product())
        return left

    def product(self) -> Term:
        left = self.factor()
        while sign := self.take("*", "/"):
            left = _apply(_ARITHMETIC[sign], left, self.factor())
        return left

    def factor(self) -> Term:
        if self.take("-"):
            return _apply(lambda value: -value, self.factor())
        if self.take("("):
            inner = self.condition()
            self.expect(")")
            return inner
        kind, text = self.peek()
        self.at += 1
        if kind == "number":
            return lambda _: float(text)
        if kind == "text":
            plain = re.sub(r"\\(.)", r"\1", text)
            return lambda _: plain
        if kind != "word":
            raise ValueError(f"expected a value, was {text!r}")
        return self.word(text)

    def word(self, text: str) -> Term:
        if self.take("("):
            if text == "has":
                name = self.peek()[1]
                self.at += 1
                self.expect(")")
                return lambda row: name in row
            terms = [self.sum()]
            while self.take(","):
                terms.append(self.sum())
            self.expect(")")
            return _apply(_CALLS[text], *terms)
        if text in BY_NAME:
            is_time = BY_NAME[text].kind == "time"

            def value(row: Row) -> Any:
                found = row.get(text)
                # Columns are doubles: times within 256 ns of each other are the same time.
                return float(found) if is_time and found is not None else found

            value.texts = BY_NAME[text].values if BY_NAME[text].kind == "enum" else ()  # type: ignore[attr-defined]
            return value
        if text in ("true", "false"):
            return lambda _: text == "true"
        return lambda _: text
