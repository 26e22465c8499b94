from typing import Self

from typing_extensions import Buffer, disjoint_base

@disjoint_base
class PreparedBuffer(Buffer):
    """Bytes to be written by a snapshot, and then read as of any buffer.

    `size`: how many are prepared; ValueError when negative, MemoryError when there are not as many.
    Other threads go on meanwhile.
    """

    def __new__(cls, size: int) -> Self: ...
    def __len__(self) -> int: ...
    @property
    def capacity(self) -> int:
        """Bytes that it has room for without growing."""
