"""An alert rule's checked trees to programs: what alert_book.pyx evaluates over the rows that it looks at.

A word that several rules have is evaluated and remembered once: `key` is the same for the same word.
"""

from collections.abc import Sequence
from enum import IntEnum
from hashlib import blake2b
from typing import Final, NamedTuple

from fastcore.alert_types import CheckedEvents, CheckedWord
from fastcore.filter_ast import OrderKey, Scan
from fastcore.filter_program import Lowered, lower_filter, lower_order


class Kind(IntEnum):
    """Of words."""

    RISES = 0
    FALLS = 1
    CROSSES_ABOVE = 2
    CROSSES_BELOW = 3
    GROWS = 4
    SHRINKS = 5
    STEPS = 6
    HELD = 7
    AFTER = 8
    COUNT = 9
    ENTERS = 10
    LEAVES = 11


class LoweredScan(NamedTuple):
    """The best `limit` rows of a filter in an order; `key`: the same for the same rows."""

    key: str
    filter: str
    order_by: str
    limit: int


class LoweredWord(NamedTuple):
    """`conditions` and `values`: programs; `uses`: keys of the words that number n in the conditions stands for.

    `list` and `scan`: of enters and leaves, which have one of them.
    """

    kind: Kind
    key: str
    conditions: tuple[Lowered, ...]
    values: Lowered | None
    numbers: tuple[float, ...]
    list: str
    looks_at_price: bool
    uses: tuple[str, ...]
    scan: LoweredScan | None = None


class LoweredEvents(NamedTuple):
    """`words`: each after those that it uses."""

    words: tuple[LoweredWord, ...]
    program: Lowered


KINDS: Final = {kind.name.lower(): kind for kind in Kind}


def lower_events(events: CheckedEvents) -> LoweredEvents:
    """The programs of a `when` or `rearm`."""
    words: list[LoweredWord] = []
    for word in events.words:
        words.append(_lower_word(word, tuple(each.key for each in words)))
    return LoweredEvents(tuple(words), lower_filter(events.tree))


def _lower_word(word: CheckedWord, earlier: tuple[str, ...]) -> LoweredWord:
    conditions = tuple(lower_filter(condition) for condition in word.conditions)
    values = lower_order([OrderKey(value, False, 0) for value in word.values]) if word.values else None
    programs = [*conditions, *([values] if values is not None else [])]
    uses = earlier if word.name in ("after", "count") else ()
    scan = _lower_scan(word.scan) if word.scan is not None else None
    place = scan.key if scan is not None else word.list
    content = repr((word.name, [_plain(program) for program in programs], word.numbers, place, uses))
    return LoweredWord(
        KINDS[word.name], _key(word.name, content), conditions, values, word.numbers, word.list, word.looks_at_price,
        uses, scan,
    )  # fmt: skip


def _lower_scan(scan: Scan) -> LoweredScan:
    directions = [key.descending for key in scan.keys]
    programs = lower_filter(scan.condition), lower_order(scan.keys)
    content = repr(([_plain(program) for program in programs], directions, scan.limit))
    return LoweredScan(_key("scan", content), scan.filter, scan.order_by, scan.limit)


def _key(name: str, content: str) -> str:
    return f"{name}:{blake2b(content.encode(), digest_size=12).hexdigest()}"


def _plain(lowered: Lowered) -> Sequence[object]:
    """The same for the same program in every process and version of Python."""
    return [[float(number) for number in step] for step in lowered.steps], lowered.numbers, lowered.texts
