"""List deltas made by hand, and a client that applies what a list stream sends."""

from collections.abc import Iterable

from tradeul.v1 import scanner_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.lists.list_client import ListCopy

ADD = scanner_pb2.ListChange.ADD
REMOVE = scanner_pb2.ListChange.REMOVE
RERANK = scanner_pb2.ListChange.RERANK
UPDATE = scanner_pb2.ListChange.UPDATE

EPOCH = 7


class ListModel:
    """A list that changes at will, and says by which deltas: the publisher's side in tests."""

    def __init__(self, name: str = "winners", sequence: int = 0) -> None:
        self.name = name
        self.sequence = sequence
        self.rows: list[tuple[str, float]] = []

    def change_to(self, rows: Iterable[tuple[str, float]]) -> bytes:
        """The encoded ListDelta from the rows (symbol, price) of now to `rows`."""
        before = {symbol: (rank, price) for rank, (symbol, price) in enumerate(self.rows, 1)}
        after = list(rows)
        delta = scanner_pb2.ListDelta(
            list=self.name, epoch=EPOCH, previous_sequence=self.sequence, sequence=self.sequence + 1
        )
        kept = {symbol for symbol, _ in after}
        for symbol in before:
            if symbol not in kept:
                delta.deltas.add(action=REMOVE, symbol=symbol)
        for rank, (symbol, price) in enumerate(after, 1):
            old = before.get(symbol)
            if old is None or old[1] != price:
                data = TickerRow(rank=rank, symbol=symbol, price=price)
                delta.deltas.add(action=UPDATE if old else ADD, symbol=symbol, rank=rank, data=data)
            elif old[0] != rank:
                delta.deltas.add(action=RERANK, symbol=symbol, old_rank=old[0], new_rank=rank)
        delta.change_count = len(delta.deltas)
        self.rows = after
        self.sequence += 1
        return delta.SerializeToString()

    def snapshot(self) -> bytes:
        """The encoded RankedList of now."""
        message = scanner_pb2.RankedList(list=self.name, epoch=EPOCH, sequence=self.sequence, count=len(self.rows))
        for rank, (symbol, price) in enumerate(self.rows, 1):
            message.rows.append(TickerRow(rank=rank, symbol=symbol, price=price))
        return message.SerializeToString()


def rows_of(copy: ListCopy) -> list[tuple[str, float]]:
    """A client's rows as ListModel has them; their ranks have no hole."""
    rows = copy.rows()
    assert [row.rank for row in rows] == list(range(1, len(rows) + 1))
    return [(row.symbol, row.price) for row in rows]


def response(message: bytes) -> scanner_pb2.WatchListResponse:
    return scanner_pb2.WatchListResponse.FromString(message)
