"""The most similar name to a wrong one, for error messages."""

import difflib
from collections.abc import Iterable


def nearest_name(name: str, names: Iterable[str]) -> str:
    """Returns the most similar of `names`, however little; "" if there are none.

    Takes time that grows with the square of the length: pass only as much of a client's text as a name can be.
    """
    found = difflib.get_close_matches(name, list(names), n=1, cutoff=0.0)
    return found[0] if found else ""


def nearest_hint(nearest: str) -> str:
    """Returns the end of the error's message; empty without a name."""
    return f"; the nearest is {nearest!r}" if nearest else ""
