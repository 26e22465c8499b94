"""What the vendor says about the connection, kept for people: the newest texts, bounded and without the key."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_NOTICES: Final = 20
MAX_TEXT: Final = 300
HIDDEN: Final = "***"


@dataclass
class Notice:
    """One text, how often it was repeated without another in between, and when it came last (ns since 1970 UTC)."""

    kind: str
    text: str
    time_ns: int
    count: int = 1


class Notices:
    """The newest MAX_NOTICES texts, oldest first. `secret` is never shown."""

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
        """Keeps a cleaned text; whether it is another than the one before."""
        last = self._kept[-1] if self._kept else None
        if last is not None and (last.kind, last.text) == (kind, text):
            last.count += 1
            last.time_ns = time_ns
            return False
        self._kept.append(Notice(kind, text, time_ns))
        return True
