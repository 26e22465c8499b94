"""The grammar of filters and orders (docs/filters.md): text to tree.

    condition  = conjunction { OR conjunction }
    conjunction = negation { AND negation }
    negation   = [NOT] comparison
    comparison = sum [ op sum | [NOT] IN "(" literal, ... ")" | [NOT] BETWEEN sum AND sum ]
    sum        = product { ("+" | "-") product }
    product    = unary { ("*" | "/") unary }
    unary      = ["-"] primary
    primary    = number | text | name | function "(" ... ")" | "(" condition ")"
    order      = sum [asc | desc] { "," sum [asc | desc] }

Parsing is rare and bounded (2,000 characters, 32 levels), so it is plain Python;
what runs at every refresh is the compiled program.
"""

import difflib
import math
import re
from collections.abc import Callable
from typing import Final, NamedTuple, NoReturn, cast

from fastcore.filter_ast import (
    WORDS,
    And,
    Arithmetic,
    ArithmeticOp,
    Between,
    Call,
    Compare,
    CompareOp,
    FilterError,
    FunctionName,
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

MAX_LENGTH: Final = 2000
MAX_DEPTH: Final = 32
MAX_ORDER_KEYS: Final = 8
ARGUMENTS: Final = {"abs": 1, "min": 2, "max": 2}
COMPARISONS: Final = ("=", "!=", "<", "<=", ">", ">=")

_TOKEN: Final = re.compile(
    r"""\s*(?:
      (?P<duration>[0-9]+[smh]\b)
    | (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<sign><=|>=|!=|[=<>()+\-*/,])
    )""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_KEYWORDS: Final = frozenset({"AND", "OR", "NOT", "IN", "BETWEEN"})


class Token(NamedTuple):
    """`kind`: number, duration, name, text, sign, a keyword in capitals, or end."""

    kind: str
    text: str
    position: int


def tokens(text: str, with_durations: bool = False) -> list[Token]:
    """The tokens of `text`, an `end` token last; FilterError for a sign that has no meaning.

    Durations, as in 30s, 5m or 1h, have one where there are words of alert rules.
    """
    if len(text) > MAX_LENGTH:
        raise FilterError(f"expected at most {MAX_LENGTH} characters, was {len(text)}", MAX_LENGTH)
    found: list[Token] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            at += len(text[at:]) - len(text[at:].lstrip())
            raise FilterError(_strange(text[at:]), at)
        kind = cast(str, match.lastgroup)
        word, start = match.group(kind), match.start(kind)
        if kind == "name" and word.upper() in _KEYWORDS:
            kind = word.upper()
        if kind == "duration" and not with_durations:
            raise FilterError(f"expected a number, was {word!r}", match.end() - 1)
        if kind == "number" and text[match.end() : match.end() + 1].isidentifier():
            raise FilterError(f"expected a number, was {text[start : match.end() + 1]!r}", match.end())
        found.append(Token(kind, word, start))
        at = match.end()
    found.append(Token("end", "", len(text)))
    return found


def _strange(rest: str) -> str:
    if rest.startswith('"'):
        return 'expected a closing double quote (")'
    if rest.startswith("'"):
        return "expected double quotes around a text, was a single quote"
    if rest.startswith("!"):
        return "expected != or NOT, was '!'"
    return f"expected a field, a value or an operator, was {rest[0]!r}"


def parse_filter(text: str) -> Node | None:
    """The tree of a filter, None for an empty one; FilterError when it does not follow the grammar."""
    parser = Parser(text)
    if parser.next.kind == "end":
        return None
    node = parser.condition()
    parser.expect_end("AND, OR or the end")
    return node


def parse_order(text: str) -> list[OrderKey]:
    """The keys of an order, the most important first; none for an empty text."""
    parser = Parser(text)
    keys: list[OrderKey] = []
    if parser.next.kind == "end":
        return keys
    while True:
        parser.add_order_key(keys)
        if not parser.take(","):
            parser.expect_end("asc, desc, a comma or the end")
            return keys


class Parser:
    """Recursive descent over the tokens; `depth` counts what is open around the current token."""

    def __init__(self, text: str, with_durations: bool = False) -> None:
        self._text = text
        self._tokens = tokens(text, with_durations)
        self._at = 0
        self.depth = 0

    @property
    def next(self) -> Token:
        return self._tokens[self._at]

    @property
    def second(self) -> Token:
        """The token after the next one; the end has none after it but itself."""
        return self._tokens[min(self._at + 1, len(self._tokens) - 1)]

    def written_since(self, position: int) -> str:
        """The text from `position` to the end of the last token that was taken."""
        last = self._tokens[self._at - 1]
        return self._text[position : last.position + len(last.text)]

    def advance(self) -> Token:
        token = self.next
        self._at += 1
        return token

    def take(self, *signs: str) -> Token | None:
        """The next token when it is one of these signs or keywords."""
        token = self.next
        if (token.text if token.kind == "sign" else token.kind) in signs and token.kind != "end":
            return self.advance()
        return None

    def expect(self, sign: str) -> Token:
        return self.take(sign) or self.fail(repr(sign) if len(sign) == 1 else sign)

    def expect_end(self, expected: str) -> None:
        if self.next.kind != "end":
            self.fail(expected)

    def fail(self, expected: str) -> NoReturn:
        token = self.next
        was = "the end" if token.kind == "end" else repr(token.text)
        raise FilterError(f"expected {expected}, was {was}", token.position)

    def enter(self, position: int) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise FilterError(f"expected at most {MAX_DEPTH} levels, was deeper", position)

    def add_order_key(self, keys: list[OrderKey]) -> None:
        """Reads an order's next key."""
        position = self.next.position
        value = self.sum()
        direction = self.next.text.lower() if self.next.kind == "name" else ""
        if direction in ("asc", "desc"):
            self.advance()
        elif direction:
            nearest = difflib.get_close_matches(direction, ("asc", "desc"), n=1)
            raise FilterError(
                f"expected asc, desc, a comma or the end, was {self.next.text!r}",
                self.next.position,
                nearest[0] if nearest else None,
            )
        keys.append(OrderKey(value, direction == "desc", position))
        if len(keys) > MAX_ORDER_KEYS:
            raise FilterError(f"expected at most {MAX_ORDER_KEYS} order values, was more", position)

    def condition(self) -> Node:
        position = self.next.position
        items = [self._conjunction()]
        while self.take("OR"):
            items.append(self._conjunction())
        return items[0] if len(items) == 1 else Or(tuple(items), position)

    def _conjunction(self) -> Node:
        position = self.next.position
        items = [self._negation()]
        while self.take("AND"):
            items.append(self._negation())
        return items[0] if len(items) == 1 else And(tuple(items), position)

    def _negation(self) -> Node:
        token = self.take("NOT")
        if token is None:
            return self._comparison()
        self.enter(token.position)
        node = Not(self._negation(), token.position)
        self.depth -= 1
        return node

    def _comparison(self) -> Node:
        left = self.sum()
        token = self.take(*COMPARISONS)
        if token is not None:
            node = Compare(cast(CompareOp, token.text), left, self.sum(), token.position)
            chained = self.take(*COMPARISONS)
            if chained is not None:
                raise FilterError("expected AND between two comparisons (or BETWEEN), was a chain", chained.position)
            return node
        negated = self.take("NOT")
        token = self.take("IN", "BETWEEN")
        if token is None:
            if negated is not None:
                self.fail("IN or BETWEEN")
            return left
        node_: Node
        if token.kind == "IN":
            node_ = Membership(left, self._values(), token.position)
        else:
            low = self.sum()
            self.expect("AND")
            node_ = Between(left, low, self.sum(), token.position)
        return node_ if negated is None else Not(node_, negated.position)

    def _values(self) -> tuple[Node, ...]:
        self.expect("(")
        values = [self._literal()]
        while self.take(","):
            values.append(self._literal())
        self.expect(")")
        return tuple(values)

    def _literal(self) -> Node:
        minus = self.take("-")
        if minus is not None and self.next.kind != "number":
            self.fail("a number")
        if self.next.kind not in ("number", "text", "name"):
            self.fail("a value")
        node = self._primary()
        return node if minus is None else Written(-cast(float, cast(Written, node).value), minus.position)

    def sum(self) -> Node:
        return self._chain(self._product, "+", "-")

    def _product(self) -> Node:
        return self._chain(self._unary, "*", "/")

    def _chain(self, operand: Callable[[], Node], *signs: str) -> Node:
        position = self.next.position
        first = operand()
        rest: list[tuple[ArithmeticOp, Node]] = []
        while token := self.take(*signs):
            rest.append((cast(ArithmeticOp, token.text), operand()))
        return Arithmetic(first, tuple(rest), position) if rest else first

    def _unary(self) -> Node:
        token = self.take("-")
        if token is None:
            return self._primary()
        self.enter(token.position)
        operand = self._unary()
        self.depth -= 1
        if isinstance(operand, Written) and isinstance(operand.value, float):
            return Written(-operand.value, token.position)
        return Negative(operand, token.position)

    def _primary(self) -> Node:
        token = self.next
        if token.kind == "number":
            self.advance()
            value = float(token.text)
            if not math.isfinite(value):
                raise FilterError(f"expected a number below 1.8e308, was {token.text}", token.position)
            return Written(value, token.position)
        if token.kind == "text":
            self.advance()
            return Written(_ESCAPE.sub(r"\1", token.text[1:-1]), token.position)
        if token.kind == "name":
            self.advance()
            if self.next.text == "(" and self.next.kind == "sign":
                return self.call(token)
            return Name(token.text, token.position)
        if self.take("("):
            self.enter(token.position)
            node = self.condition()
            self.depth -= 1
            self.expect(")")
            return node
        self.fail("a field or a value")

    def call(self, name: Token) -> Node:
        function = name.text.lower()
        if function in WORDS:
            raise FilterError(f"expected {function}() only in when and rearm of an alert rule", name.position)
        if function != "has" and function not in ARGUMENTS:
            nearest = difflib.get_close_matches(function, ("has", *ARGUMENTS), n=1)
            raise FilterError(f"unknown function {name.text!r}", name.position, nearest[0] if nearest else None)
        self.expect("(")
        if function == "has":
            token = self.next
            if token.kind != "name":
                self.fail("a field")
            self.advance()
            self.expect(")")
            return HasName(Name(token.text, token.position), name.position)
        self.enter(name.position)
        arguments = [self.sum()]
        while self.take(","):
            arguments.append(self.sum())
        self.depth -= 1
        self.expect(")")
        if len(arguments) != ARGUMENTS[function]:
            raise FilterError(
                f"expected {ARGUMENTS[function]} value(s) in {function}(), was {len(arguments)}", name.position
            )
        return Call(cast(FunctionName, function), tuple(arguments), name.position)
