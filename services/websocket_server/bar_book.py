"""The newest bar of each symbol that somebody watches, as aggregate messages."""

import math
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec
from tradeul.v1 import frame_pb2, market_data_pb2

from fastcore.row_json import instant_json
from services.kit.lists.list_json import text_json
from services.websocket_server import messages

SECOND: Final = market_data_pb2.SECOND


class Bar(NamedTuple):
    """By the contract's names; NaN is absent."""

    end_ns: int
    o: float
    h: float
    l: float  # noqa: E741
    c: float
    v: float
    vw: float
    av: float
    op: float


class BarBook:
    """`is_wanted`: whether a symbol (as JSON) is in a list that somebody watches; others' bars are let go."""

    def __init__(self, is_wanted: Callable[[bytes], bool]) -> None:
        self._is_wanted = is_wanted
        # By id of the stream that is followed now: symbols as JSON.
        self._symbols: list[bytes] = []
        # Ids that have bars of seconds: their minutes say nothing new.
        self._with_seconds: set[int] = set()
        # Bars not shown yet, and when the last one shown ended.
        self._newest: dict[bytes, Bar] = {}
        self._shown_ns: dict[bytes, int] = {}

    def forget(self) -> None:
        """Another stream begins, with ids of its own."""
        self._symbols.clear()
        self._with_seconds.clear()
        self._newest.clear()
        self._shown_ns.clear()

    def add_symbols(self, table: frame_pb2.SymbolTable) -> None:
        """Raises ValueError when names are missing in between."""
        if table.first_id != len(self._symbols):
            raise ValueError(f"expected symbols from id {len(self._symbols)} on, was from {table.first_id}")
        self._symbols += [text_json(symbol) for symbol in table.symbols]

    def take(self, batch: market_data_pb2.BarBatch) -> None:
        """Raises ValueError for a batch whose columns do not fit."""
        columns = (
            batch.open,
            batch.high,
            batch.low,
            batch.close,
            batch.volume,
            batch.vwap,
            batch.accumulated_volume,
            batch.official_open,
        )
        ids = batch.symbol_id
        fits = all(len(column) == len(ids) for column in (batch.end_ns, *columns))
        if not fits or max(ids, default=-1) >= len(self._symbols):
            raise ValueError(f"expected {len(ids)} bars of {len(self._symbols)} symbols, the columns do not fit")
        if batch.span == SECOND:
            self._with_seconds.update(ids)
        for row, symbol_id in enumerate(ids):
            symbol = self._symbols[symbol_id]
            if batch.span != SECOND and symbol_id in self._with_seconds:
                continue
            if self._is_wanted(symbol):
                self._keep(symbol, Bar(batch.end_ns[row], *[column[row] for column in columns]))

    def drain(self) -> dict[bytes, bytes]:
        """The framed aggregates of all symbols that have a newer bar than at the last call, by symbol as JSON."""
        newest, self._newest = self._newest, {}
        for symbol, bar in newest.items():
            self._shown_ns[symbol] = bar.end_ns
        return {symbol: _frame(symbol, bar) for symbol, bar in newest.items()}

    def _keep(self, symbol: bytes, bar: Bar) -> None:
        """Late bars change nothing; a repeated one replaces the earlier one."""
        shown_ns = self._shown_ns.get(symbol, 0)
        waiting = self._newest.get(symbol)
        if bar.end_ns >= (waiting.end_ns if waiting is not None else shown_ns):
            self._newest[symbol] = bar


def _frame(symbol: bytes, bar: Bar) -> bytes:
    data = {name: _number(value) for name, value in _values(bar) if math.isfinite(value)}
    return messages.aggregate(symbol, msgspec.json.encode(data), instant_json(bar.end_ns))


def _values(bar: Bar) -> Iterable[tuple[str, float]]:
    return zip(Bar._fields[1:], bar[1:], strict=True)


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() and abs(value) < 1e15 else value
