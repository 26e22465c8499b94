"""The market's state in the slowest and plainest way: every message of the day is kept, every row computed from all.

It shares nothing with the compiled state but the names of the fields, and is
what that is compared with.
"""

import math
from collections import deque
from typing import Final

from tradeul.v1 import frame_pb2, market_data_pb2

from fastcore.fields import RANGE_WINDOW_MINUTES
from fastcore.reference.day_events import (
    HALT,
    RESUME,
    Bar,
    Day,
    Limit,
    Quote,
    Rules,
    Snapshot,
    SymbolDay,
    judge_trade,
)
from fastcore.reference.derived import (
    MINUTE,
    SECOND,
    SLOTS,
    Baseline,
    History,
    Point,
    Value,
    points_of,
    row_of,
    stored,
)
from fastcore.reference.facts import Facts, facts_of
from fastcore.reference.halts_twin import HaltsTwin, Listed
from fastcore.reference.opening_ranges import opening_ranges
from fastcore.reference.suspects import settled

# As seen from today, and of many days before.
_LEVELS = frozenset(
    {"prev_open", "prev_high", "prev_low", "high_5d", "low_5d", "high_20d", "low_20d", "high_52w", "low_52w"}
    | {"sma_20d", "sma_50d", "sma_200d", "close_5d", "close_20d", "prev_ssr"}
)
_DAY_BEFORE = frozenset({"prev_close", "prev_volume"}) | _LEVELS
_DAYS_BEFORE = frozenset({"avg_volume_10d", "avg_volume_30d", "avg_price_30d", "atr"})

# So many of the market's newest volume-eligible trades are distinguished within one second.
RECENT_TRADES: Final = 131_072


class MarketTwin:
    """Rows of all symbols after the frames applied so far.

    `touched[symbol]` grows with every accepted message and reference value of the
    symbol. A row is that of its symbol's moment(). `filters` are the list filters in force as
    (expression, sessions' names).
    """

    def __init__(self) -> None:
        self.symbols: list[str] = []
        self.day: Day | None = None
        self.rules = Rules()
        self.now_ns = 0
        self.epoch = 0
        self.sequence = 0
        self.filters: list[tuple[str, frozenset[str]]] = []
        self.touched: dict[str, int] = {}
        self._order = 0
        self._events: dict[str, SymbolDay] = {}
        self._history: dict[str, History] = {}
        # Made from the events when they are read.
        self._settled: dict[str, SymbolDay] = {}
        self._facts: dict[str, Facts] = {}
        self._points: dict[str, list[Point]] = {}
        self._ranges: dict[str, dict[str, float]] = {}
        self._halts: dict[str, HaltsTwin] = {}
        # Per symbol the time of its newest limit message.
        self._newest_limit: dict[str, int] = {}
        # Per symbol now of its last watermark, and who has been touched since there was one.
        self._moments: dict[str, int] = {}
        self._unmarked: set[str] = set()
        # Those that the last watermark found touched.
        self.marked: set[str] = set()
        # The second of the last watermark.
        self._second = 0
        # What all rows have in common, as of that watermark.
        self._scalars: dict[str, Value] = {}
        # Orders of the newest trades of today that count for volume.
        self._recent: deque[int] = deque(maxlen=RECENT_TRADES)

    @property
    def trading_date(self) -> str:
        return "" if self.day is None else self.day.date

    @property
    def session(self) -> str | None:
        """The session of now."""
        return None if self.day is None else self.day.session(self.now_ns)

    def apply(self, frame_bytes: bytes) -> str:
        """Takes in one encoded Frame and returns the name of its body."""
        frame = frame_pb2.Frame.FromString(frame_bytes)
        body: str | None = frame.WhichOneof("body")
        if body is None:
            raise ValueError("expected a frame with a body, was none")
        before = self.now_ns
        getattr(self, f"_apply_{body}")(getattr(frame, body))
        for symbol, halts in self._halts.items():
            if halts.is_due(before, self.now_ns):
                halts.state_at(self.now_ns)
                self._touch_symbol(symbol)
        if body == "watermark":
            self._mark()
        self.epoch, self.sequence = frame.position.epoch, frame.position.sequence
        return body

    def _mark(self) -> None:
        """The rows' moment is now: of all when a second has begun, else of those that were touched."""
        second = self.now_ns // SECOND
        for symbol in self.symbols if second > self._second else self._unmarked:
            self._moments[symbol] = self.now_ns
        self.marked, self._unmarked = self._unmarked, set()
        if second > self._second and self.day is not None:
            self._scalars = self._market_scalars(self.day)
        self._second = second

    def _market_scalars(self, day: Day) -> dict[str, Value]:
        """As of a watermark that begins a second."""
        scalars: dict[str, Value] = {}
        if self.now_ns >= day.open:
            scalars["minutes_since_open"] = stored((self.now_ns - day.open) / MINUTE)
        spy = self.row("SPY") if "SPY" in self._events else {}
        for name in ("change_percent", *(f"chg_{minutes}m" for minutes in RANGE_WINDOW_MINUTES)):
            if name in spy:
                scalars[f"spy_{name}"] = spy[name]
        return scalars

    def moment(self, symbol: str) -> int:
        """The time of what moves with time alone in the symbol's row."""
        return self.now_ns if symbol in self._unmarked else self._moments[symbol]

    def row(self, symbol: str) -> dict[str, Value]:
        if symbol not in self._events:
            raise KeyError(symbol)
        events, history = self.events_of(symbol), self._history[symbol]
        if self.day is None:
            return row_of(symbol, Facts(), (), history, None, self.moment(symbol)) | self._scalars
        if symbol not in self._facts:
            self._facts[symbol] = facts_of(events, self.day)
            self._points[symbol] = points_of(events)
            self._ranges[symbol] = opening_ranges(events, self.day)
        row = row_of(symbol, self._facts[symbol], self._points[symbol], history, self.day, self.moment(symbol))
        return row | self._ranges[symbol] | self._scalars | self._halt_fields(symbol)

    def _halt_fields(self, symbol: str) -> dict[str, Value]:
        halts = self._halts.get(symbol)
        state = halts.state_at(self.now_ns) if halts is not None else None
        if state is None:
            return {}
        values: dict[str, Value | None] = {
            "halted": state.halted,
            "halt_reason": state.reason,
            "halted_at": state.halted_at,
            "resumes_at": state.resumes_at,
            "halts_today": float(state.count),
        }
        return {name: value for name, value in values.items() if value is not None}

    def _halts_of(self, symbol_id: int) -> HaltsTwin:
        assert self.day is not None
        return self._halts.setdefault(self.symbols[symbol_id], HaltsTwin(self.day.start))

    def _is_halted(self, symbol_id: int, now: int) -> bool:
        halts = self._halts.get(self.symbols[symbol_id])
        state = halts.state_at(now) if halts is not None else None
        return state is not None and bool(state.halted)

    def events_of(self, symbol: str) -> SymbolDay:
        """All messages of a symbol today, as they count."""
        if self.day is None:
            return self._events[symbol]
        if symbol not in self._settled:
            self._settled[symbol] = settled(self._events[symbol], self.day)
        return self._settled[symbol]

    def baseline_of(self, symbol: str) -> Baseline | None:
        return self._history[symbol].baseline

    def rows(self) -> dict[str, dict[str, Value]]:
        return {symbol: self.row(symbol) for symbol in self.symbols}

    def _touch(self, symbol_id: int) -> str:
        symbol = self.symbols[symbol_id]
        self._touch_symbol(symbol)
        return symbol

    def _touch_symbol(self, symbol: str) -> None:
        self.touched[symbol] = self.touched.get(symbol, 0) + 1
        self._unmarked.add(symbol)

    def _add(self, symbol_id: int, event: object, time: int) -> None:
        symbol = self._touch(symbol_id)
        self._events[symbol].add(event)  # type: ignore[arg-type]
        self._settled.pop(symbol, None)
        self._facts.pop(symbol, None)
        self.now_ns = max(self.now_ns, time)

    def _next(self) -> int:
        self._order += 1
        return self._order

    def _apply_symbols(self, table: frame_pb2.SymbolTable) -> None:
        if table.first_id != len(self.symbols):
            raise ValueError(f"expected the table to go on at {len(self.symbols)}, was {table.first_id}")
        for symbol in table.symbols:
            self.symbols.append(symbol)
            self._events[symbol] = SymbolDay()
            self._history[symbol] = History()
            self._unmarked.add(symbol)

    def _apply_reference(self, reference: frame_pb2.ReferenceColumns) -> None:
        columns: list[frame_pb2.NumberColumn | frame_pb2.TextColumn] = [*reference.numbers, *reference.texts]
        for column in columns:
            name = frame_pb2.ReferenceField.Name(column.field).lower()
            given: list[float | str] = [*column.values]
            for symbol_id, value in zip(reference.symbol_id, given, strict=True):
                values = self._history[self.symbols[symbol_id]].values
                absent = value == "" if isinstance(value, str) else math.isnan(value)
                if absent:
                    values.pop(name, None)
                else:
                    values[name] = bool(value) if column.field in (frame_pb2.IS_ETF, frame_pb2.PREV_SSR) else value
        for symbol_id in reference.symbol_id:
            self._touch(symbol_id)

    def _apply_baselines(self, message: frame_pb2.VolumeBaselines) -> None:
        for i, symbol_id in enumerate(message.symbol_id):
            part = slice(SLOTS * i, SLOTS * (i + 1))
            symbol = self._touch(symbol_id)
            self._history[symbol].baseline = Baseline(
                days=message.days[i],
                volume=list(message.avg_volume[part]),
                trades=list(message.avg_trades[part]),
                sd=list(message.sd_trades[part]),
            )

    def _apply_trading_day(self, day: frame_pb2.TradingDay) -> None:
        if self.day is not None and day.trading_date != self.day.date:
            self._halts.clear()
            self._newest_limit.clear()
            self._scalars.clear()
            split = {self.symbols[symbol_id] for symbol_id in day.split_symbol_id}
            self._recent.clear()
            for symbol in self.symbols:
                self._events[symbol] = SymbolDay()
                is_kept = not day.splits_unknown and symbol not in split
                self._history[symbol] = self._yesterday(self._history[symbol], is_kept)
                self._touch_symbol(symbol)
        self._settled.clear()
        self._facts.clear()
        self.day = Day(
            date=day.trading_date,
            start=day.pre_market_start_ns,
            open=day.market_open_ns,
            close=day.market_close_ns,
            end=day.post_market_end_ns,
        )

    @staticmethod
    def _yesterday(history: History, is_kept: bool) -> History:
        """Metadata outlast the day, and what is of many days when the shares are the same."""
        gone = _DAY_BEFORE if is_kept else _DAY_BEFORE | _DAYS_BEFORE
        values = {name: value for name, value in history.values.items() if name not in gone}
        return History(values, history.baseline if is_kept else None)

    def _apply_trade_rules(self, rules: frame_pb2.TradeRules) -> None:
        self.rules = Rules(rules.forbids_last, rules.forbids_high_low, rules.forbids_volume, rules.take_suspect_prints)

    def _apply_alert_rules(self, message: frame_pb2.AlertRules) -> None:
        """They change no row."""

    def _apply_list_filters(self, message: frame_pb2.ListFilters) -> None:
        names = {1: "PRE_MARKET", 2: "MARKET_OPEN", 3: "POST_MARKET", 4: "CLOSED"}
        self.filters = [(f.expression, frozenset(names[s] for s in f.sessions)) for f in message.filters]

    def _apply_trades(self, batch: market_data_pb2.TradeBatch) -> None:
        assert self.day is not None
        for i, symbol_id in enumerate(batch.symbol_id):
            row = (batch.time_ns[i], batch.price[i], batch.size[i], batch.conditions[i])
            is_halted = self._is_halted(symbol_id, max(self.now_ns, row[0]))
            trade = judge_trade(self._next(), row, self.rules, self.day, is_halted)
            if trade.has_volume:
                self._recent.append(trade.order)
            self._add(symbol_id, trade, trade.time)
            if trade.sets_price:
                self._halts_of(symbol_id).trade(trade.time, self.now_ns)

    def _apply_bars(self, batch: market_data_pb2.BarBatch) -> None:
        day = self.day
        assert day is not None
        for i, symbol_id in enumerate(batch.symbol_id):
            start = batch.start_ns[i]
            bar = Bar(
                order=self._next(),
                span=batch.span,
                start=start,
                end=batch.end_ns[i],
                high=batch.high[i],
                low=batch.low[i],
                close=batch.close[i],
                volume=batch.volume[i],
                accumulated=batch.accumulated_volume[i],
                day_vwap=batch.day_vwap[i],
                official_open=batch.official_open[i],
                vwap=batch.vwap[i],
                premarket=start < day.open,
                regular=day.open <= start < day.close,
                postmarket=start >= day.close,
                rules=self.rules,
            )
            self._add(symbol_id, bar, bar.end)

    def _apply_quotes(self, batch: market_data_pb2.QuoteBatch) -> None:
        for i, symbol_id in enumerate(batch.symbol_id):
            quote = Quote(
                self._next(), batch.time_ns[i], batch.bid[i], batch.ask[i], batch.bid_size[i], batch.ask_size[i]
            )
            self._add(symbol_id, quote, quote.time)

    def _apply_limits(self, batch: market_data_pb2.LimitBatch) -> None:
        for i, symbol_id in enumerate(batch.symbol_id):
            limit = Limit(self._next(), batch.time_ns[i], batch.upper[i], batch.lower[i], batch.indicators[i])
            self._add(symbol_id, limit, limit.time)
            if limit.time < self._newest_limit.get(self.symbols[symbol_id], -1):
                continue
            self._newest_limit[self.symbols[symbol_id]] = limit.time
            if limit.indicators & (HALT | RESUME):
                self._halts_of(symbol_id).limit(limit.time, bool(limit.indicators & HALT), self.now_ns)

    def _apply_halts(self, batch: market_data_pb2.HaltBatch) -> None:
        for i, symbol_id in enumerate(batch.symbol_id):
            self._touch(symbol_id)
            item = Listed(batch.halted_at_ns[i], batch.resumes_at_ns[i] or None, batch.reason[i])
            self._halts_of(symbol_id).list_item(item, self.now_ns)

    def _apply_vendor_snapshot(self, snapshot: market_data_pb2.VendorSnapshot) -> None:
        for i, symbol_id in enumerate(snapshot.symbol_id):
            row = Snapshot(
                order=self._next(),
                single_from=self._recent[0] if self._recent else 0,
                updated=snapshot.updated_ns[i],
                trade_time=snapshot.last_trade_ns[i],
                trade_price=snapshot.last_trade_price[i],
                open=snapshot.day_open[i],
                high=snapshot.day_high[i],
                low=snapshot.day_low[i],
                close=snapshot.day_close[i],
                vwap=snapshot.day_vwap[i],
                accumulated=snapshot.accumulated_volume[i],
                minute_close=snapshot.minute_close[i],
                bid=snapshot.bid[i],
                ask=snapshot.ask[i],
                minute_start=snapshot.minute_start_ns[i],
                minute_high=snapshot.minute_high[i],
                minute_low=snapshot.minute_low[i],
            )
            self._add(symbol_id, row, 0)

    def _apply_watermark(self, mark: frame_pb2.Watermark) -> None:
        self.now_ns = max(self.now_ns, mark.event_time_ns)
