"""The feed decoder as plainly as possible; slow, and the measure of the fast one."""

from collections import Counter
from typing import Any

import msgspec
from tradeul.v1 import market_data_pb2, polygon_ws_pb2

from fastcore.bounds import fault_of
from fastcore.columns import BarColumns, LimitColumns, QuoteColumns, TradeColumns
from fastcore.feed_elements import KINDS, Rejected, Row, Status, read_element


class ReferenceFeedDecoder:
    """Same interface and answers as fastcore.feed_decoder.FeedDecoder."""

    def __init__(self, max_symbols: int = 2**17) -> None:
        self.symbols: list[str] = []
        self.rejected: Counter[str] = Counter()
        self.totals: Counter[str] = Counter(dict.fromkeys(KINDS, 0))
        self._max_symbols = max_symbols
        self._ids: dict[str, int] = {}
        self._sent_symbols = 0
        self._columns: dict[str, Any] = {
            "limits": LimitColumns(),
            "quotes": QuoteColumns(),
            "minute_bars": BarColumns(2),
            "second_bars": BarColumns(1),
            "trades": TradeColumns(),
        }

    @property
    def rows(self) -> int:
        return sum(len(columns) for columns in self._columns.values())

    def decode(self, frame: bytes) -> list[Status]:
        try:
            msgspec.json.decode(frame, type=msgspec.Raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.rejected["malformed_json"] += 1
            return []
        try:
            elements = msgspec.json.decode(frame, type=list[msgspec.Raw])
        except msgspec.ValidationError:
            self.rejected["not_an_array"] += 1
            return []
        statuses: list[Status] = []
        for raw in elements:
            try:
                event = read_element(bytes(raw))
                if isinstance(event, Status):
                    statuses.append(event)
                else:
                    self._append(event)
            except Rejected as rejected:
                self.rejected[str(rejected)] += 1
        return statuses

    def _append(self, row: Row) -> None:
        symbol_id = self._ids.get(row.symbol)
        if symbol_id is None:
            if fault := fault_of(row.kind, row.values):
                raise Rejected(fault)
            if len(self.symbols) == self._max_symbols:
                raise Rejected("symbol_table_full")
            symbol_id = self._ids[row.symbol] = len(self.symbols)
            self.symbols.append(row.symbol)
        self._columns[row.kind].append(symbol_id, *row.values)
        self.totals[row.kind] += 1

    def take(self) -> bytes:
        batch = polygon_ws_pb2.MarketBatch()
        if self._sent_symbols < len(self.symbols):
            batch.first_symbol_id = self._sent_symbols
            batch.new_symbols.extend(self.symbols[self._sent_symbols :])
            self._sent_symbols = len(self.symbols)
        types: dict[str, Any] = {
            "limits": market_data_pb2.LimitBatch,
            "quotes": market_data_pb2.QuoteBatch,
            "minute_bars": market_data_pb2.BarBatch,
            "second_bars": market_data_pb2.BarBatch,
            "trades": market_data_pb2.TradeBatch,
        }
        for kind, columns in self._columns.items():
            if len(columns):
                getattr(batch, kind).CopyFrom(types[kind].FromString(columns.encode()))
                columns.clear()
        return batch.SerializeToString()
