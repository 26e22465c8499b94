from typing import Self

from typing_extensions import Buffer, disjoint_base

@disjoint_base
class PreparedBuffer(Buffer):
    """Bytes to be written by a snapshot, and then read as of any buffer.

    `size`: how many are prepared, by prepare() when `is_prepared` is false. ValueError when negative,
    MemoryError when there are not as many. Other threads go on meanwhile.
    """

    def __new__(cls, size: int, is_prepared: bool = True) -> Self: ...
    def prepare(self, begin: int, count: int) -> None:
        """Prepares `count` bytes from byte `begin` on, as far as there are; BufferError once something is written."""
    def __len__(self) -> int: ...
    @property
    def capacity(self) -> int:
        """Bytes that it has room for without growing."""
