from typing import final

from fastcore.filters import Filter, Order

@final
class ListUpdate:
    """One change of a list. `message`: the encoded WatchListResponse with its ListDelta, as subscribers get it, and
    `changed` the fields that differ in that one's updates, as fastcore.changed_fields takes them; both are empty when
    deltas are not encoded. `added` and `removed`: how many rows entered and left.
    """

    list: str
    previous_sequence: int
    sequence: int
    message: bytes
    changed: bytes
    added: int
    removed: int
    @property
    def delta(self) -> memoryview:
        """The encoded ListDelta, where it is in the message."""
    def __init__(
        self,
        list: str,
        previous_sequence: int,
        sequence: int,
        message: bytes,
        changed: bytes,
        added: int,
        removed: int,
    ) -> None: ...

@final
class RankedList:
    """A list of at most `limit` rows, and the handle of an own one; a Market makes them.

    `sequence` counts its changes, 0 while it is empty from the start.
    """

    name: str
    sequence: int
    limit: int
    filter: Filter
    stay: Filter | None
    order: Order
    @property
    def count(self) -> int:
        """Rows published."""
