"""Conflation: several deltas of a list as one, which leads to the same rows."""

from collections.abc import Sequence

from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

ADD = scanner_pb2.ListChange.ADD
REMOVE = scanner_pb2.ListChange.REMOVE
RERANK = scanner_pb2.ListChange.RERANK
UPDATE = scanner_pb2.ListChange.UPDATE


class _Member:
    """One symbol: its row before the first delta, and after the last."""

    __slots__ = ("data", "first_rank", "is_member", "rank", "was_member")

    def __init__(self, was_member: bool) -> None:
        self.was_member = was_member
        self.is_member = was_member
        self.first_rank: int | None = None
        self.rank = 0
        self.data: TickerRow | None = None

    def apply(self, change: scanner_pb2.ListChange) -> None:
        if change.action == REMOVE:
            self.is_member = False
            self.data = None
        elif change.action == RERANK:
            if self.first_rank is None:
                self.first_rank = change.old_rank
            self.rank = change.new_rank
        else:
            self.is_member = True
            self.rank = change.rank
            self.data = change.data

    def changes(self, symbol: str, out: scanner_pb2.ListDelta) -> None:
        """Adds to `out` the change from before to after, if there is one."""
        if not self.is_member:
            if self.was_member:
                out.deltas.add(action=REMOVE, symbol=symbol)
        elif self.data is not None:
            change = out.deltas.add(action=UPDATE if self.was_member else ADD, symbol=symbol, rank=self.rank)
            change.data.CopyFrom(self.data)
            change.data.rank = self.rank
        elif self.rank != self.first_rank:
            out.deltas.add(action=RERANK, symbol=symbol, old_rank=self.first_rank, new_rank=self.rank)


def conflate(deltas: Sequence[bytes]) -> bytes:
    """Returns one encoded ListDelta with the effect of these consecutive ones, oldest first.

    Raises ValueError when one does not follow the one before it.
    """
    if len(deltas) == 1:
        return deltas[0]
    conflated = scanner_pb2.ListDelta()
    members: dict[str, _Member] = {}
    for index, encoded in enumerate(deltas):
        delta = scanner_pb2.ListDelta.FromString(encoded)
        if index == 0:
            conflated.list = delta.list
            conflated.epoch = delta.epoch
            conflated.previous_sequence = delta.previous_sequence
        elif (delta.epoch, delta.previous_sequence) != (conflated.epoch, conflated.sequence):
            raise ValueError(
                f"list {conflated.list}: expected a delta from {conflated.epoch}/{conflated.sequence}, "
                f"was from {delta.epoch}/{delta.previous_sequence}"
            )
        conflated.sequence = delta.sequence
        conflated.timestamp.CopyFrom(delta.timestamp)
        conflated.position.CopyFrom(delta.position)
        for change in delta.deltas:
            member = members.get(change.symbol)
            if member is None:
                # An ADD as the first change: it was no member before.
                members[change.symbol] = member = _Member(change.action != ADD)
            member.apply(change)
    for symbol, member in members.items():
        member.changes(symbol, conflated)
    conflated.change_count = len(conflated.deltas)
    return conflated.SerializeToString()
