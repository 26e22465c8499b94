"""Which vendor subscriptions are wanted: names like "T.AAPL" and "A.*"."""

import re
from collections.abc import Iterable
from typing import Final

from services.kit.runtime.errors import INVALID_SUBSCRIPTION
from services.kit.runtime.settings import SUBSCRIPTION as NAME
from services.kit.runtime.settings import SUBSCRIPTION_KINDS as KINDS

# The same inside a sentence of the vendor's.
MENTION: Final = re.compile(r"(?<![\w.])" + NAME.pattern, re.ASCII)
# A message to the vendor names at most so many, so that it stays a small one.
PER_MESSAGE: Final = 500
# More than every symbol of every kind.
MAX_SUBSCRIPTIONS: Final = 100_000


class Subscriptions:
    """The set of what is wanted, in the order it was asked for."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[str, None] = {}
        self.update(tuple(names), ())

    def __contains__(self, name: str) -> bool:
        return name in self._names

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._names)

    def update(self, subscribe: Iterable[str], unsubscribe: Iterable[str]) -> tuple[list[str], list[str]]:
        """Adds and removes; what is in both ends up removed. Returns what is new and what is gone.

        Raises INVALID_SUBSCRIPTION, before anything is changed, naming every wrong name.
        """
        add, remove = list(dict.fromkeys(subscribe)), list(dict.fromkeys(unsubscribe))
        if wrong := [name for name in (*add, *remove) if NAME.fullmatch(name) is None]:
            shown = ", ".join(repr(name[:40]) for name in wrong[:10])
            raise INVALID_SUBSCRIPTION.error(
                f"expected KIND.SYMBOL or KIND.* with KIND one of {', '.join(KINDS)}, was {shown}"
            )
        added = [name for name in add if name not in self._names and name not in remove]
        removed = [name for name in remove if name in self._names]
        if len(self._names) + len(added) - len(removed) > MAX_SUBSCRIPTIONS:
            raise INVALID_SUBSCRIPTION.error(
                f"expected at most {MAX_SUBSCRIPTIONS} subscriptions, was {len(self._names) + len(added)}"
            )
        self._names.update(dict.fromkeys(added))
        for name in removed:
            del self._names[name]
        return added, removed


def mentioned(text: str, among: Subscriptions) -> list[str]:
    """The subscriptions that a sentence of the vendor's names, of those that are wanted."""
    found = [match.group() for match in MENTION.finditer(text)]
    # A sentence may end with a full stop, and so may no symbol.
    names = [name if name in among else name.rstrip(".") for name in found]
    return [name for name in dict.fromkeys(names) if name in among]


def parameters(names: Iterable[str]) -> Iterable[str]:
    """The `params` texts of the messages that name all of `names`."""
    listed = list(names)
    return (",".join(listed[i : i + PER_MESSAGE]) for i in range(0, len(listed), PER_MESSAGE))
