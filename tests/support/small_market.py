"""A market of a few symbols, fed by hand: for examples with the result worked out on paper."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from tradeul.v1 import frame_pb2, market_data_pb2, stream_pb2

from fastcore.columns import condition_mask
from tests.support.market_stream import DAYS, EPOCH, RULES, TradingDay, at

NAN = math.nan
SECOND = 1_000_000_000
MINUTE = 60 * SECOND


class State(Protocol):
    @property
    def now_ns(self) -> int: ...
    def apply(self, frame: bytes) -> object: ...
    def row(self, symbol: str) -> dict[str, Any]: ...


class SmallMarket:
    """Times are New York times of day "HH:MM:SS[.fff]" of `day`; symbols A, B, C unless others are given."""

    def __init__(
        self, state: State, day: TradingDay = DAYS[0], rules: bool = True, symbols: Sequence[str] = ("A", "B", "C")
    ) -> None:
        self.state = state
        self.sequence = 0
        self.symbols = list(symbols)
        self.new_day(day)
        self.frame(symbols=frame_pb2.SymbolTable(first_id=0, symbols=self.symbols))
        if rules:
            self.frame(trade_rules=RULES)

    def add_symbols(self, symbols: Sequence[str]) -> None:
        self.frame(symbols=frame_pb2.SymbolTable(first_id=len(self.symbols), symbols=symbols))
        self.symbols += symbols

    def new_day(self, day: TradingDay, split: list[int] | None = None) -> None:
        """`split`: ids of symbols whose shares split since the day before; None: not known."""
        self.day = day
        message = day.message()
        message.splits_unknown = split is None
        message.split_symbol_id.extend(split or [])
        self.frame(trading_day=message)

    def at(self, clock: str) -> int:
        whole, _, fraction = clock.partition(".")
        return at(self.day.date, whole) + int(fraction.ljust(9, "0") or 0)

    def frame(self, **body: Any) -> None:
        self.sequence += 1
        position = stream_pb2.StreamPosition(epoch=EPOCH, sequence=self.sequence)
        self.state.apply(frame_pb2.Frame(position=position, **body).SerializeToString())

    def trade(self, clock: str, price: float, size: float = 100, *conditions: int, symbol: str = "A") -> None:
        self.frame(
            trades=market_data_pb2.TradeBatch(
                symbol_id=[self.symbols.index(symbol)],
                time_ns=[self.at(clock)],
                price=[price],
                size=[size],
                conditions=[condition_mask(list(conditions))],
            )
        )

    def bar(
        self,
        clock: str,
        close: float,
        volume: float = 100,
        *,
        span: int = MINUTE,
        high: float | None = None,
        low: float | None = None,
        av: float = NAN,
        a: float = NAN,
        op: float = NAN,
        vwap: float | None = None,
        symbol: str = "A",
    ) -> None:
        """A bar that starts at `clock`."""
        start = self.at(clock)
        self.frame(
            bars=market_data_pb2.BarBatch(
                span=market_data_pb2.MINUTE if span == MINUTE else market_data_pb2.SECOND,
                symbol_id=[self.symbols.index(symbol)],
                start_ns=[start],
                end_ns=[start + span],
                open=[close],
                high=[close if high is None else high],
                low=[close if low is None else low],
                close=[close],
                volume=[volume],
                accumulated_volume=[av],
                day_vwap=[a],
                official_open=[op],
                vwap=[close if vwap is None else vwap],
                average_size=[NAN],
            )
        )

    def snapshot(
        self,
        updated: str,
        *,
        minute: str = "",
        av: float = NAN,
        minute_bar: tuple[float, float, float] = (NAN, NAN, NAN),
        day: tuple[float, float, float, float] = (NAN, NAN, NAN, NAN),
        vw: float = NAN,
        last: tuple[str, float] | None = None,
        bid: float = NAN,
        ask: float = NAN,
        symbol: str = "A",
    ) -> None:
        """A row of the vendor's full snapshot: `minute_bar` is (high, low, close), `day` (open, high, low, close)."""
        self.frame(
            vendor_snapshot=market_data_pb2.VendorSnapshot(
                symbol_id=[self.symbols.index(symbol)],
                updated_ns=[self.at(updated)],
                last_trade_ns=[self.at(last[0]) if last else 0],
                last_trade_price=[last[1] if last else NAN],
                day_open=[day[0]],
                day_high=[day[1]],
                day_low=[day[2]],
                day_close=[day[3]],
                day_vwap=[vw],
                accumulated_volume=[av],
                minute_close=[minute_bar[2]],
                bid=[bid],
                ask=[ask],
                minute_start_ns=[self.at(minute) if minute else 0],
                minute_high=[minute_bar[0]],
                minute_low=[minute_bar[1]],
            )
        )

    def quote(self, clock: str, bid: float, ask: float, bid_size: float = 100, ask_size: float = 100) -> None:
        batch = market_data_pb2.QuoteBatch(
            symbol_id=[0], time_ns=[self.at(clock)], bid=[bid], ask=[ask], bid_size=[bid_size], ask_size=[ask_size]
        )
        self.frame(quotes=batch)

    def limit(self, clock: str, *indicators: int, upper: float = NAN, lower: float = NAN) -> None:
        batch = market_data_pb2.LimitBatch(
            symbol_id=[0],
            time_ns=[self.at(clock)],
            upper=[upper],
            lower=[lower],
            indicators=[condition_mask(list(indicators))],
        )
        self.frame(limits=batch)

    def halt(self, clock: str, resumes: str = "", reason: str = "T1", symbol: str = "A", days_ago: int = 0) -> None:
        """An item of the trade-halt feed."""
        batch = market_data_pb2.HaltBatch(
            symbol_id=[self.symbols.index(symbol)],
            halted_at_ns=[self.at(clock) - days_ago * 86_400 * SECOND],
            resumes_at_ns=[self.at(resumes) if resumes else 0],
            reason=[reason],
        )
        self.frame(halts=batch)

    def reference(self, symbol: str = "A", **values: Any) -> None:
        """Fields by their names: prev_close=20.0, company_name="Acme" ..."""
        columns: dict[str, list[Any]] = {"numbers": [], "texts": []}
        for name, value in values.items():
            text = isinstance(value, str)
            column = frame_pb2.TextColumn if text else frame_pb2.NumberColumn
            field = frame_pb2.ReferenceField.Value(name.upper())
            columns["texts" if text else "numbers"].append(column(field=field, values=[value]))
        self.frame(reference=frame_pb2.ReferenceColumns(symbol_id=[self.symbols.index(symbol)], **columns))

    def baselines(
        self, volume: list[float], trades: list[float], sd: list[float], days: int = 30, symbol_id: int = 0
    ) -> None:
        self.frame(
            baselines=frame_pb2.VolumeBaselines(
                symbol_id=[symbol_id], days=[days], avg_volume=volume, avg_trades=trades, sd_trades=sd
            )
        )

    def watermark(self, clock: str) -> None:
        self.frame(watermark=frame_pb2.Watermark(event_time_ns=self.at(clock)))

    def row(self, symbol: str = "A") -> dict[str, Any]:
        refresh = getattr(self.state, "refresh", None)
        if refresh is not None:
            refresh()
        return self.state.row(symbol)
