"""The twin of list_conflation.pyx: several deltas of a list as one, with every row decoded."""

import struct
from collections.abc import Iterator, Sequence
from typing import Final

from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.changed_fields import RECORD_BYTES

ADD = scanner_pb2.ListChange.ADD
REMOVE = scanner_pb2.ListChange.REMOVE
RERANK = scanner_pb2.ListChange.RERANK
UPDATE = scanner_pb2.ListChange.UPDATE


# A record of fastcore.changed_fields: the rank before, and the changed fields as bits.
_RECORD: Final = struct.Struct("<I16s")
assert _RECORD.size == RECORD_BYTES
ALL_FIELDS: Final = (1 << 128) - 1
NO_RANK: Final = 0


def _records(changed: bytes) -> Iterator[tuple[int, int]]:
    """Yields the rank before and the fields that changed, for each update."""
    for rank, fields in _RECORD.iter_unpack(changed):
        yield rank, int.from_bytes(fields, "little")
    while not changed:
        yield NO_RANK, ALL_FIELDS


class _Member:
    """One symbol: its row before the first delta, and after the last."""

    __slots__ = ("changed_fields", "data", "first_rank", "is_member", "rank", "was_member")

    def __init__(self, was_member: bool) -> None:
        self.was_member = was_member
        self.is_member = was_member
        self.first_rank: int | None = None
        self.rank = 0
        self.data: TickerRow | None = None
        # In which the row may differ from the one before the first delta.
        self.changed_fields = 0

    def apply(self, change: scanner_pb2.ListChange, records: Iterator[tuple[int, int]]) -> None:
        """Takes the next change; `records` yields those of the updates, in their order."""
        if change.action == REMOVE:
            self.is_member = False
            self.data = None
            # The ranks that follow are those of another stay.
            self.first_rank = self.first_rank or NO_RANK
        elif change.action == RERANK:
            if self.first_rank is None:
                self.first_rank = change.old_rank
            self.rank = change.new_rank
        else:
            self.is_member = True
            self.rank = change.rank
            self.data = change.data
            if change.action == UPDATE:
                old_rank, fields = next(records)
                self.changed_fields |= fields
                if self.first_rank is None:
                    self.first_rank = old_rank
            else:
                # Whatever row was there before it left.
                self.changed_fields = ALL_FIELDS

    def changes(self, symbol: str, out: scanner_pb2.ListDelta) -> bytes:
        """Adds to `out` the change from before to after, if there is one; returns the record of an update."""
        if not self.is_member:
            if self.was_member:
                out.deltas.add(action=REMOVE, symbol=symbol)
        elif self.data is not None:
            change = out.deltas.add(action=UPDATE if self.was_member else ADD, symbol=symbol, rank=self.rank)
            change.data.CopyFrom(self.data)
            change.data.rank = self.rank
            if self.was_member:
                return _RECORD.pack(self.first_rank or NO_RANK, self.changed_fields.to_bytes(16, "little"))
        elif self.rank != self.first_rank:
            out.deltas.add(action=RERANK, symbol=symbol, old_rank=self.first_rank, new_rank=self.rank)
        return b""


def conflated(steps: Sequence[tuple[bytes | memoryview, bytes]]) -> tuple[bytes, bytes]:
    """See list_conflation.pyi."""
    merged = scanner_pb2.ListDelta()
    members: dict[str, _Member] = {}
    for index, (encoded, changed) in enumerate(steps):
        delta, records = scanner_pb2.ListDelta.FromString(bytes(encoded)), _records(changed)
        if index == 0:
            merged.list = delta.list
            merged.epoch = delta.epoch
            merged.previous_sequence = delta.previous_sequence
        elif (delta.epoch, delta.previous_sequence) != (merged.epoch, merged.sequence):
            raise ValueError(
                f"list {merged.list}: expected a delta from {merged.epoch}/{merged.sequence}, "
                f"was from {delta.epoch}/{delta.previous_sequence}"
            )
        merged.sequence = delta.sequence
        for name in ("timestamp", "position"):
            merged.ClearField(name)
            if delta.HasField(name):
                getattr(merged, name).CopyFrom(getattr(delta, name))
        for change in delta.deltas:
            member = members.get(change.symbol)
            if member is None:
                # An ADD as the first change: it was no member before.
                members[change.symbol] = member = _Member(change.action != ADD)
            member.apply(change, records)
    changes = b"".join([member.changes(symbol, merged) for symbol, member in members.items()])
    merged.change_count = len(merged.deltas)
    return merged.SerializeToString(), changes
