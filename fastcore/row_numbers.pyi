from collections.abc import Iterable

from typing_extensions import disjoint_base

_Buffer = bytes | bytearray | memoryview
_Row = tuple[str, int, *tuple[float | None, ...]]

@disjoint_base
class RowNumbers:
    """Reads the number fields `names` of rows; ValueError for a field that is none, or twice, or more than 16."""

    def __init__(self, names: Iterable[str]) -> None: ...
    def entries(self, list_delta: _Buffer) -> tuple[str, int, list[_Row]]:
        """The rows that enter a list with an encoded ListDelta: the list's name, the time in ns since 1970 UTC, and of
        each row (symbol, rank, then its numbers, None where absent). ValueError when the bytes are no ListDelta.
        """
    def rows(self, ranked_list: _Buffer) -> tuple[str, int, list[_Row]]:
        """The same of all rows of an encoded RankedList."""
