"""Requests to the vendor and its answers: subscriptions, by names like "T.AAPL" and "A.*", and notices."""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from services.kit.runtime.errors import INVALID_SUBSCRIPTION
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import SUBSCRIPTION as NAME
from services.kit.runtime.settings import SUBSCRIPTION_KINDS as KINDS

log = get_logger(__name__)

# The same inside a sentence of the vendor's.
MENTION: Final = re.compile(r"(?<![\w.])" + NAME.pattern, re.ASCII)
# A message to the vendor names at most so many, so that it stays a small one.
PER_MESSAGE: Final = 500
# More than every symbol of every kind.
MAX_SUBSCRIPTIONS: Final = 100_000
# Of a connection that comes and goes the newest notices are enough.
MAX_NOTICES: Final = 20
MAX_TEXT: Final = 300
HIDDEN: Final = "***"


class Subscriptions:
    """The subscriptions that are wanted, in the order in which they came, and what the vendor answers to each."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names: dict[str, None] = {}
        # The vendor sends these, and refuses those for a reason.
        self.accepted: set[str] = set()
        self.refused: dict[str, str] = {}
        self.update(tuple(names), ())

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
            self.accepted.discard(name)
            self.refused.pop(name, None)
        return added, removed

    @property
    def unanswered(self) -> list[str]:
        """Those that the vendor has neither accepted nor refused."""
        return [name for name in self._names if name not in self.accepted and name not in self.refused]

    def forget_answers(self) -> None:
        """A new connection asks for everything again."""
        self.accepted.clear()
        self.refused.clear()

    def answer(self, kind: str, text: str) -> bool:
        """Notes what a status of the vendor's accepts or refuses; True if the number of refused ones has changed."""
        if kind not in ("success", "error") or text.lower().startswith("unsubscribed"):
            return False
        before = len(self.refused)
        for name in self.mentioned(text):
            if kind == "success":
                self.accepted.add(name)
                self.refused.pop(name, None)
            elif self.refused.get(name) != text:
                self.refused[name] = text
                log.warning("the vendor refuses a subscription: the rest goes on", subscription=name, reason=text)
        return len(self.refused) != before

    def mentioned(self, text: str) -> list[str]:
        """Those that a sentence of the vendor's names, in its order."""
        found = [match.group() for match in MENTION.finditer(text)]
        # A sentence may end with a full stop, and so may no symbol.
        names = [name if name in self._names else name.rstrip(".") for name in found]
        return [name for name in dict.fromkeys(names) if name in self._names]


def parameters(names: Iterable[str]) -> Iterable[str]:
    """The `params` of the messages that name all of `names`."""
    listed = list(names)
    return (",".join(listed[i : i + PER_MESSAGE]) for i in range(0, len(listed), PER_MESSAGE))


@dataclass
class Notice:
    """A text, how often it was repeated without another in between, and when it came last (ns since 1970 UTC)."""

    kind: str
    text: str
    time_ns: int
    count: int = 1


class Notices:
    """The newest MAX_NOTICES texts of the vendor's about the connection, oldest first. `secret` is never shown."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._kept: deque[Notice] = deque(maxlen=MAX_NOTICES)

    def __iter__(self) -> Iterator[Notice]:
        return iter(self._kept)

    def clean(self, text: str) -> str:
        """A text of the vendor's on one line, at most MAX_TEXT characters of it, without the secret."""
        if self._secret:
            text = text.replace(self._secret, HIDDEN)
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= MAX_TEXT else f"{line[: MAX_TEXT - 1]}\N{HORIZONTAL ELLIPSIS}"

    def add(self, kind: str, text: str, time_ns: int) -> bool:
        """Keeps a cleaned text; True if it differs from the one before."""
        last = self._kept[-1] if self._kept else None
        if last is not None and (last.kind, last.text) == (kind, text):
            last.count += 1
            last.time_ns = time_ns
            return False
        self._kept.append(Notice(kind, text, time_ns))
        return True
