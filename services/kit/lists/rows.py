"""One list as JSON: its rows now, and its changes, from the scanner's encoded messages.

Nothing is decoded into objects, and no row is made into JSON twice. Pure.
"""

from collections.abc import Sequence
from typing import Final

from tradeul.v1 import scanner_pb2

from fastcore.row_json import read_list_delta, read_ranked_list
from services.kit.rpc.ring import Position

ADD: Final = int(scanner_pb2.ListChange.ADD)
REMOVE: Final = int(scanner_pb2.ListChange.REMOVE)
RERANK: Final = int(scanner_pb2.ListChange.RERANK)
UPDATE: Final = int(scanner_pb2.ListChange.UPDATE)


class ListRowsHole(Exception):
    """A delta does not begin where the list stands, or does not fit it: a snapshot is needed."""


class ListRows:
    """A list from its first snapshot on."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_loaded = False
        # Of the newest change; meaningful once it is loaded.
        self.position = Position(0, 0)
        # When the list stood so, as JSON; b"" when that is not known.
        self.timestamp = b""
        # By symbol as JSON: the rank, and the row's JSON members but the rank.
        self.rows: dict[bytes, tuple[int, bytes]] = {}

    def load(self, ranked_list: bytes | memoryview) -> bool:
        """Takes the whole list, an encoded RankedList; whether it says anything new. Raises ValueError."""
        epoch, sequence, timestamp, rows = read_ranked_list(ranked_list)
        if self.is_loaded and self.position == (epoch, sequence):
            return False
        self.rows = {symbol: (rank, row) for symbol, rank, row in rows}
        self.position = Position(epoch, sequence)
        self.timestamp = timestamp
        self.is_loaded = True
        return True

    def apply(self, list_delta: bytes | memoryview) -> list[bytes]:
        """Takes the next change, an encoded ListDelta; its parts as JSON.

        Raises ListRowsHole when it does not fit, ValueError when it cannot be read;
        a snapshot has to come then.
        """
        epoch, previous, sequence, timestamp, changes = read_list_delta(list_delta)
        position = self.position
        if not self.is_loaded or (epoch, previous) != position or sequence <= previous:
            self.forget()
            raise ListRowsHole(
                f"list {self.name}: expected a delta from {position}, was {epoch}/{previous} to {sequence}"
            )
        try:
            encoded = [self._change(*change) for change in changes]
        except KeyError as error:
            self.forget()
            raise ListRowsHole(f"list {self.name}: expected a change of a row that is there, was of {error}") from error
        self.position = Position(epoch, sequence)
        self.timestamp = timestamp
        return encoded

    def forget(self) -> None:
        """The list can no longer be trusted, or is no longer wanted: only a snapshot can go on."""
        self.is_loaded = False
        self.rows = {}

    def ranked(self) -> list[bytes]:
        """The rows as JSON objects, by rank."""
        return [ranked_row(rank, row) for rank, row in sorted(self.rows.values())]

    def _change(self, action: int, symbol: bytes, old_rank: int, rank: int, row: bytes) -> bytes:
        """Makes the change and returns its JSON; raises KeyError when it does not fit."""
        rows = self.rows
        if action == UPDATE:
            if symbol not in rows:
                raise KeyError(symbol)
            rows[symbol] = (rank, row)
            return updated(symbol, rank, row)
        if action == RERANK:
            _, same = rows[symbol]
            rows[symbol] = (rank, same)
            return reranked(symbol, old_rank, rank)
        if action == ADD:
            rows[symbol] = (rank, row)
            return added(symbol, rank, row)
        if action == REMOVE:
            del rows[symbol]
            return removed(symbol)
        raise KeyError(f"action {action}")


def snapshot_parts(name: bytes, position: Position, rows: Sequence[bytes], timestamp: bytes) -> tuple[bytes, ...]:
    """The JSON of a snapshot. `name`: as JSON; `rows`: whole objects, by rank; `timestamp`: JSON, b"" for none."""
    return (
        b'{"type":"snapshot","list":%b,"epoch":%d,"sequence":%d,"rows":[' % (name, *position),
        b",".join(rows),
        b'],"count":%d' % len(rows),
        ending(timestamp),
    )


def ending(timestamp: bytes) -> bytes:
    """How a message ends that says when it was."""
    return b',"timestamp":%b}' % timestamp if timestamp else b"}"


def added(symbol: bytes, rank: int, row: bytes) -> bytes:
    return b'{"action":"add","rank":%d,"symbol":%b,"data":{"rank":%d,%b}}' % (rank, symbol, rank, row)


def updated(symbol: bytes, rank: int, row: bytes) -> bytes:
    return b'{"action":"update","rank":%d,"symbol":%b,"data":{"rank":%d,%b}}' % (rank, symbol, rank, row)


def removed(symbol: bytes) -> bytes:
    return b'{"action":"remove","symbol":%b}' % symbol


def reranked(symbol: bytes, old_rank: int, new_rank: int) -> bytes:
    return b'{"action":"rerank","symbol":%b,"old_rank":%d,"new_rank":%d}' % (symbol, old_rank, new_rank)


def ranked_row(rank: int, row: bytes) -> bytes:
    """A row's whole object."""
    return b'{"rank":%d,%b}' % (rank, row)
