"""One-minute bars from everything that was ever seen of a minute."""

import math
from collections import defaultdict

from tradeul.v1 import frame_pb2, market_data_pb2

from fastcore.reference.day_events import Trade, judge_trade
from fastcore.reference.derived import stored
from fastcore.reference.market_twin import MarketTwin

MINUTE_NS = 60_000_000_000
HELD = 4

Bar = tuple[float, float, float, float, float, float | None, int | None, bool]


class MinuteBarsTwin:
    """Feed it each frame after `market` has had it; `bars()` is what should be stored when all have settled.

    (symbol id, minute's start) -> open, high, low, close, volume, vwap, trades, is_made.
    """

    def __init__(self, market: MarketTwin, whole_from_ns: int) -> None:
        self._market = market
        self._whole_from_ns = whole_from_ns
        self._newest: dict[int, int] = {}
        self._trades: dict[tuple[int, int], list[Trade]] = defaultdict(list)
        self._vendor: dict[tuple[int, int], Bar] = {}
        self.late_trades = 0
        self.odd_bars = 0

    def apply(self, frame_bytes: bytes) -> None:
        frame = frame_pb2.Frame.FromString(frame_bytes)
        body = frame.WhichOneof("body")
        if body == "trades":
            self._take_trades(frame.trades)
        elif body == "bars" and frame.bars.span == market_data_pb2.MINUTE:
            self._take_bars(frame.bars)

    def bars(self) -> dict[tuple[int, int], Bar]:
        made = {}
        for (symbol_id, minute), trades in self._trades.items():
            bar = _made(trades)
            if bar is not None:
                made[symbol_id, minute * MINUTE_NS] = bar
        return {**made, **self._vendor}

    def _take_trades(self, batch: market_data_pb2.TradeBatch) -> None:
        assert self._market.day is not None
        for i, symbol_id in enumerate(batch.symbol_id):
            row = (batch.time_ns[i], batch.price[i], batch.size[i], batch.conditions[i])
            trade = judge_trade(i, row, self._market.rules, self._market.day)
            if trade.time < self._whole_from_ns or trade.official_open or trade.official_close:
                continue
            minute = trade.time // MINUTE_NS
            if self._is_held(symbol_id, minute):
                self._trades[symbol_id, minute].append(trade)
            else:
                self.late_trades += 1

    def _take_bars(self, batch: market_data_pb2.BarBatch) -> None:
        for i, symbol_id in enumerate(batch.symbol_id):
            start = batch.start_ns[i]
            if start % MINUTE_NS:
                self.odd_bars += 1
                continue
            self._is_held(symbol_id, start // MINUTE_NS)
            vwap, average = batch.vwap[i], batch.average_size[i]
            self._vendor[symbol_id, start] = (
                batch.open[i],
                batch.high[i],
                batch.low[i],
                batch.close[i],
                batch.volume[i],
                None if math.isnan(vwap) or vwap == 0 else vwap,
                round(batch.volume[i] / average) if average > 0 else None,
                False,
            )

    def _is_held(self, symbol_id: int, minute: int) -> bool:
        self._newest[symbol_id] = max(self._newest.get(symbol_id, minute), minute)
        return minute > self._newest[symbol_id] - HELD


def _made(trades: list[Trade]) -> Bar | None:
    """The bar of a minute's trades, in order of arrival; None when they make none."""
    priced = [trade for trade in trades if trade.sets_price]
    ranged = [trade.price for trade in trades if trade.sets_high_low]
    counted = [trade for trade in trades if trade.has_volume]
    shares = 0.0
    dollars = 0.0
    for trade in counted:
        shares += trade.size
        dollars += trade.price * trade.size
    if not (priced and ranged and shares > 0):
        return None
    first = min(priced, key=lambda trade: trade.time)
    newest = max(trade.time for trade in priced)
    last = [trade for trade in priced if trade.time == newest][-1]
    ranged += [first.price, last.price]
    vwap = stored(dollars / shares)
    return first.price, max(ranged), min(ranged), last.price, shares, vwap, len(counted), True
