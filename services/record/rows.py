"""Frames' trades and minute bars as the rows of the vendor's flat files. Pure."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from tradeul.v1 import market_data_pb2

from fastcore.wire import fields, read_varint

_TRADES: Final = {field.name: field.number for field in market_data_pb2.TradeBatch.DESCRIPTOR.fields}
_BARS: Final = {field.name: field.number for field in market_data_pb2.BarBatch.DESCRIPTOR.fields}
# Which element a column has.
_KINDS: Final = {"symbol_id": "<u4", "time_ns": "<i8", "start_ns": "<i8", "conditions": "<u8"}
_SPAN: Final = 1
_MINUTE: Final = market_data_pb2.MINUTE
# The 64th bit stands for ids that have no bit of their own: 63 is read as one of them.
_BITS: Final = 64


class RowWriter:
    """Makes lines of CSV; `sequence` is that of the last trade."""

    def __init__(self, sequence: int = 0) -> None:
        self.sequence = sequence
        self._conditions: dict[int, str] = {0: ""}

    def trades(self, body: memoryview, symbols: Sequence[str]) -> list[str]:
        """The lines of an encoded TradeBatch, in the columns of flat_files.TRADE_COLUMNS.

        Frames say neither exchange, trade id, tape nor other times than the SIP's:
        those stay empty. sequence_number counts in order of arrival.
        """
        columns = _columns(body, _TRADES, ("symbol_id", "time_ns", "price", "size", "conditions"))
        texts = self._conditions
        lines = []
        number = self.sequence
        for symbol, time, price, size, mask in zip(*columns, strict=True):
            number += 1
            if (text := texts.get(mask)) is None:
                text = texts[mask] = conditions_text(mask)
            lines.append(f"{symbols[symbol]},{text},0,,,,{price!r},{number},{time},{_shares(size)},,,\n")
        self.sequence = number
        return lines

    def minute_bars(self, body: memoryview, symbols: Sequence[str]) -> list[str]:
        """The lines of an encoded BarBatch, in the columns of flat_files.BAR_COLUMNS; none for second bars."""
        if _span(body) != _MINUTE:
            return []
        names = ("symbol_id", "volume", "open", "close", "high", "low", "start_ns", "average_size")
        lines = []
        for symbol, volume, opened, close, high, low, start, size in zip(*_columns(body, _BARS, names), strict=True):
            trades = round(volume / size) if size > 0 else ""
            lines.append(
                f"{symbols[symbol]},{_shares(volume)},{opened!r},{close!r},{high!r},{low!r},{start},{trades}\n"
            )
        return lines


def conditions_text(mask: int) -> str:
    """A condition mask as the flat files' list of ids: "12,37" in quotes when they are several."""
    ids = [str(bit) for bit in range(_BITS) if mask >> bit & 1]
    return ids[0] if len(ids) == 1 else '"' + ",".join(ids) + '"'


def _shares(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def _columns(body: memoryview, numbers: dict[str, int], names: Sequence[str]) -> list[list[float]]:
    places = {number: (start, end) for number, _, start, end in fields(body)}
    columns = []
    for name in names:
        start, end = places[numbers[name]]
        columns.append(np.frombuffer(body[start:end], _KINDS.get(name, "<f8")).tolist())
    return columns


def _span(body: memoryview) -> int:
    for number, _, start, _ in fields(body):
        if number == _SPAN:
            return read_varint(body, start)[0]
    return 0
