"""The stream's symbol table: which symbol has which id."""

import re
from collections.abc import Sequence
from typing import Final

from tradeul.v1 import frame_pb2

# Far more than there are; what is beyond is a vendor gone wrong, and every row costs memory everywhere.
MAX_SYMBOLS: Final = 1 << 17
# The id of a symbol that is refused.
REFUSED: Final = -1
_PATTERN: Final = re.compile(r"[A-Za-z][A-Za-z0-9.\-/]{0,11}")


class SymbolTable:
    """Ids are dense, in the order in which symbols came, and never change; `known` are those of before, by id."""

    def __init__(self, max_symbols: int = MAX_SYMBOLS, known: Sequence[str] = ()) -> None:
        self.texts: list[str] = list(known)
        self.refused = 0
        self._ids = {symbol: index for index, symbol in enumerate(known)}
        self._max_symbols = max_symbols

    def __len__(self) -> int:
        return len(self.texts)

    def add(self, symbols: Sequence[str]) -> tuple[list[int], bytes]:
        """The ids of `symbols`, and the encoded SymbolTable of those that are new, empty when none is.

        A symbol that breaks the pattern, or for which there is no room, is REFUSED and counted.
        """
        first = len(self.texts)
        ids = [self._id(symbol) for symbol in symbols]
        if len(self.texts) == first:
            return ids, b""
        table = frame_pb2.SymbolTable(first_id=first, symbols=self.texts[first:])
        return ids, table.SerializeToString()

    def _id(self, symbol: str) -> int:
        if (known := self._ids.get(symbol)) is not None:
            return known
        if _PATTERN.fullmatch(symbol) is None or len(self.texts) >= self._max_symbols:
            self.refused += 1
            return REFUSED
        self._ids[symbol] = len(self.texts)
        self.texts.append(symbol)
        return len(self.texts) - 1
