"""What a target is, and the shapes of input that several of them share."""

import random
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from fastcore.wire import fields, wrap
from tests.support.mutations import structured

Mutate = Callable[[bytes, random.Random], bytes]


class Target(NamedTuple):
    """`run` raises when a promise is broken: anything but what the part declares, an AssertionError for a wrong result.

    `seeds`: inputs to begin with, beside the corpus. `longest`: bytes of an input. `python`: modules that are not
    compiled and guide the search, too. `words`: what a mutation may insert. `mutate`: one of the target's own, which
    takes turns with the fuzzer's. `alone`: the compiled part without its comparison, where that takes most of the time.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    longest: int
    python: tuple[str, ...] = ()
    words: tuple[bytes, ...] = ()
    mutate: Mutate | None = None
    alone: Callable[[bytes], None] | None = None


def joined(parts: Iterable[bytes]) -> bytes:
    """Messages as one input, as far as fuzzers understand it: a message with a repeated field."""
    return b"".join(wrap(1, part) for part in parts)


def parts_of(data: bytes) -> Iterator[bytes]:
    """The messages of an input, up to where it is none."""
    try:
        for _, _, start, end in fields(data):
            yield data[start:end]
    except ValueError:
        return


def mutated_parts(data: bytes, rng: random.Random) -> bytes:
    """One of the messages doubled, left out, moved, or changed as a protobuf message."""
    parts = list(parts_of(data))
    if not parts:
        return data
    index = rng.randrange(len(parts))
    choice = rng.randrange(10)
    if choice == 0:
        parts.insert(rng.randrange(len(parts) + 1), parts[index])
    elif choice == 1:
        del parts[index]
    elif choice == 2:
        parts.insert(rng.randrange(len(parts)), parts.pop(index))
    else:
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            parts[index] = structured(parts[index], rng)
    return joined(parts)
