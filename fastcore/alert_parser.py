"""The grammar of an alert rule's `when` and `rearm` (docs/alerts.md): that of filters, and words.

word     = rises | falls "(" condition ")"
         | crosses_above | crosses_below "(" sum "," sum ")"
         | grows | shrinks "(" sum ")"
         | steps "(" sum "," sum "," sum ")"
         | held "(" condition "," ( duration | volume sum ) ")"
         | after "(" condition "," condition "," duration ")"
         | count "(" condition "," number "," duration ")"
         | enters | leaves "(" ( text | scan ) [ "," number ] ")"
scan     = scan "(" condition "," order "," number ")"
duration = digits ( s | m | h )
"""

import difflib
from collections.abc import Callable
from typing import Final, TypeVar

from fastcore.filter_ast import WORDS, FilterError, Node, OrderKey, Scan, Word
from fastcore.filter_parser import ARGUMENTS, Parser, Token

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}
_NS: Final = 1_000_000_000
LONGEST_SECONDS: Final = 16 * 3600
MOST_COUNTED: Final = 16
MOST_RANKS: Final = 1000
# Before the shares of held().
VOLUME: Final = "volume"
# In the place of a list.
SCAN: Final = "scan"

Read = TypeVar("Read")


def seconds_of(duration: str) -> int:
    """Seconds of a time like 30s, 5m or 1h."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def parse_events(text: str) -> Node | None:
    """The tree of a `when` or `rearm`, None for an empty one; FilterError when it does not follow the grammar."""
    parser = _EventParser(text, with_durations=True)
    if parser.next.kind == "end":
        return None
    node = parser.condition()
    parser.expect_end("AND, OR or the end")
    return node


class _EventParser(Parser):
    def call(self, name: Token) -> Node:
        word = name.text.lower()
        if word not in WORDS:
            if word != "has" and word not in ARGUMENTS:
                nearest = difflib.get_close_matches(word, (*WORDS, "has", *ARGUMENTS), n=1)
                raise FilterError(
                    f"unknown function or word {name.text!r}", name.position, nearest[0] if nearest else None
                )
            return super().call(name)
        self.expect("(")
        self.enter(name.position)
        node = self._word(word, name.position)
        self.depth -= 1
        self.expect(")")
        return node

    def _word(self, word: str, position: int) -> Node:
        match word:
            case "rises" | "falls":
                return Word(word, (self.condition(),), (), "", position)
            case "crosses_above" | "crosses_below":
                return Word(word, (self.sum(), self._next(self.sum)), (), "", position)
            case "grows" | "shrinks":
                return Word(word, (self.sum(),), (), "", position)
            case "steps":
                return Word(word, (self.sum(), self._next(self.sum), self._next(self.sum)), (), "", position)
            case "held":
                return self._held(position)
            case "after":
                first, second = self.condition(), self._next(self.condition)
                return Word(word, (first, second), (self._next(self._duration),), "", position)
            case "count":
                counted = self.condition()
                times = self._next(lambda: self._whole(2, MOST_COUNTED))
                return Word(word, (counted,), (times, self._next(self._duration)), "", position)
            case _:
                return self._list(word, position)

    def _held(self, position: int) -> Node:
        held = self.condition()
        self.expect(",")
        if self.next.kind == "name" and self.next.text == VOLUME:
            self.advance()
            return Word("held", (held, self.sum()), (), "", position)
        if self.next.kind != "duration":
            self.fail("a time like 30s, or volume and a number of shares")
        return Word("held", (held,), (self._duration(),), "", position)

    def _list(self, word: str, position: int) -> Node:
        name, scan = "", None
        if self.next.kind == "name" and self.next.text.lower() == SCAN:
            scan = self._scan()
        elif self.next.kind == "text":
            name = self.advance().text[1:-1]
        else:
            self.fail("the name of a list in double quotes, or scan(condition, order, rows)")
        rank = self._whole(1, MOST_RANKS) if self.take(",") else float(MOST_RANKS)
        return Word(word, (), (rank,), name, position, scan)

    def _scan(self) -> Scan:
        position = self.advance().position
        self.expect("(")
        self.enter(position)
        start = self.next.position
        condition = self.condition()
        filter_text = self.written_since(start)
        self.expect(",")
        start = self.next.position
        keys: list[OrderKey] = []
        order_by = ""
        # A number with nothing behind it is that of the rows; 2 * price is a key.
        while not keys or self.next.kind != "number" or self.second.text != ")":
            self.add_order_key(keys)
            order_by = self.written_since(start)
            if not self.take(","):
                self.fail("asc, desc, or a comma and the number of rows")
        limit = int(self._whole(1, MOST_RANKS))
        self.depth -= 1
        self.expect(")")
        return Scan(condition, tuple(keys), limit, filter_text, order_by, position)

    def _next(self, read: Callable[[], Read]) -> Read:
        self.expect(",")
        return read()

    def _duration(self) -> float:
        """A time in ns."""
        token = self.next
        if token.kind != "duration":
            self.fail("a time like 30s, 5m or 1h")
        self.advance()
        seconds = seconds_of(token.text)
        if not 1 <= seconds <= LONGEST_SECONDS:
            raise FilterError(f"expected a time of 1s to 16h, was {token.text}", token.position)
        return float(seconds * _NS)

    def _whole(self, least: int, most: int) -> float:
        token = self.next
        if token.kind != "number" or not token.text.isdecimal() or not least <= int(token.text) <= most:
            self.fail(f"a whole number of {least} to {most}")
        self.advance()
        return float(token.text)
