"""The stream's symbol table: which symbol has which id."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from tradeul.v1 import frame_pb2

from fastcore.admission import REFUSED, UNNAMED

# Far more than there are; what is beyond is a vendor gone wrong, and every row costs memory everywhere.
MAX_SYMBOLS: Final = 1 << 17
_PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9.\-/]{0,11}")


def is_symbol(text: str) -> bool:
    """True if a name has the form of a symbol."""
    return _PATTERN.fullmatch(text) is not None


class SymbolTable:
    """Ids are dense, in the order in which symbols came, and never change; `known` are those of before, by id.

    A name that is refused is counted, not kept.
    """

    def __init__(self, max_symbols: int = MAX_SYMBOLS, known: Sequence[str] = ()) -> None:
        self.texts: list[str] = list(known)
        self.refused = 0
        self._ids = {symbol: index for index, symbol in enumerate(known)}
        self._max_symbols = max_symbols
        # So many of them are in the stream.
        self._published = len(self.texts)

    def __len__(self) -> int:
        return len(self.texts)

    def get(self, symbol: str) -> int | None:
        """Its id; None when it has none."""
        return self._ids.get(symbol)

    def known_ids(self, symbols: Iterable[str]) -> list[int]:
        """The ids of those that have one, ascending."""
        return sorted(self._ids[symbol] for symbol in symbols if symbol in self._ids)

    def find(self, symbol: str) -> int:
        """Its id, UNNAMED when it has none yet; REFUSED, and counted, when it breaks the pattern."""
        if (known := self._ids.get(symbol)) is not None:
            return known
        if not is_symbol(symbol):
            self.refused += 1
            return REFUSED
        return UNNAMED

    def add(self, symbol: str) -> int:
        """Its id, a new one if need be; REFUSED, and counted, when it breaks the pattern or there is no room."""
        known = self.find(symbol)
        if known != UNNAMED:
            return known
        if len(self.texts) >= self._max_symbols:
            self.refused += 1
            return REFUSED
        self._ids[symbol] = len(self.texts)
        self.texts.append(symbol)
        return len(self.texts) - 1

    def unpublished(self) -> bytes:
        """The encoded SymbolTable of those that are new since the last call, empty when none is."""
        first, self._published = self._published, len(self.texts)
        if first == self._published:
            return b""
        return frame_pb2.SymbolTable(first_id=first, symbols=self.texts[first:]).SerializeToString()
