"""A handful of symbols moved by hand: frames for tests that are about few rows."""

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from typing import Final, Protocol, TypeVar
from zoneinfo import ZoneInfo

from tradeul.v1 import frame_pb2, market_data_pb2, scanner_pb2, stream_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.alert_rules import AlertRule, rule_message
from fastcore.market import Market
from fastcore.ranked_list import ListUpdate
from services.kit.lists.definitions import ListSpec
from services.kit.lists.list_client import ListCopy
from services.kit.rpc.frames import Frame, next_frame
from services.kit.rpc.ring import Position

DAY: Final = "2026-03-10"
EPOCH: Final = 1_773_000_000
SECOND: Final = 1_000_000_000
DAY_NS: Final = 86_400 * SECOND


def at(clock: str) -> int:
    """Nanoseconds since 1970 UTC of a New York time of day (HH:MM:SS) on the day."""
    zone = ZoneInfo("America/New_York")
    return int(datetime.fromisoformat(f"{DAY}T{clock}").replace(tzinfo=zone).timestamp()) * SECOND


def a_list(
    name: str = "risers",
    filter: str = "change_percent > 0",
    order_by: str = "change_percent desc",
    *,
    stay: str = "",
    base_filter: str = "",
    uses_scanner_filters: bool = False,
    limit: int = 100,
) -> ListSpec:
    return ListSpec(name, name, filter, order_by, stay, base_filter, uses_scanner_filters, limit, limit)


class Tape:
    """Makes the frames of one epoch, in order. Symbols get their ids in the order in which they are named."""

    def __init__(
        self, symbols: Iterable[str], prev_close: float = 100.0, clock: str = "10:00:00", epoch: int = EPOCH
    ) -> None:
        self.symbols = list(symbols)
        self.epoch = epoch
        self.now_ns = at(clock)
        self.sequence = 0
        self._prev_close = prev_close
        # Since DAY.
        self._days = 0

    def frame(self, **body: object) -> bytes:
        self.sequence += 1
        position = stream_pb2.StreamPosition(epoch=self.epoch, sequence=self.sequence)
        return frame_pb2.Frame(position=position, **body).SerializeToString()  # type: ignore[arg-type]

    def opening(self) -> list[bytes]:
        """The day, the symbols and their previous closes."""
        ids = range(len(self.symbols))
        closes = frame_pb2.NumberColumn(field=frame_pb2.PREV_CLOSE, values=[self._prev_close for _ in ids])
        return [
            self._trading_day(),
            self.frame(symbols=frame_pb2.SymbolTable(first_id=0, symbols=self.symbols)),
            self.frame(reference=frame_pb2.ReferenceColumns(symbol_id=ids, numbers=[closes])),
        ]

    def next_day(self) -> bytes:
        """The following day, at the same time of day."""
        self._days += 1
        self.now_ns += DAY_NS
        return self._trading_day()

    def _trading_day(self) -> bytes:
        times = [at(clock) + self._days * DAY_NS for clock in ("04:00:00", "09:30:00", "16:00:00", "20:00:00")]
        return self.frame(
            trading_day=frame_pb2.TradingDay(
                trading_date=str(date.fromisoformat(DAY) + timedelta(days=self._days)),
                pre_market_start_ns=times[0],
                market_open_ns=times[1],
                market_close_ns=times[2],
                post_market_end_ns=times[3],
                next_trading_date=str(date.fromisoformat(DAY) + timedelta(days=self._days + 1)),
            )
        )

    def trades(self, prices: Mapping[str, float], size: float = 100.0) -> bytes:
        """One trade a symbol, a millisecond after whatever came before."""
        self.now_ns += 1_000_000
        return self.frame(
            trades=market_data_pb2.TradeBatch(
                symbol_id=[self.symbols.index(symbol) for symbol in prices],
                time_ns=[self.now_ns for _ in prices],
                price=list(prices.values()),
                size=[size for _ in prices],
                conditions=[0 for _ in prices],
            )
        )

    def filters(self, *filters: tuple[str, str] | tuple[str, str, list[int]]) -> bytes:
        """(name, expression[, sessions]) as ListFilters."""
        return self.frame(
            list_filters=frame_pb2.ListFilters(
                filters=[
                    frame_pb2.ListFilter(name=one[0], expression=one[1], sessions=one[2] if len(one) > 2 else [])  # type: ignore[arg-type]
                    for one in filters
                ]
            )
        )

    def alert_rules(self, *rules: AlertRule, disabled: Iterable[AlertRule] = ()) -> bytes:
        """All alert rules from now on."""
        message = frame_pb2.AlertRules(rules=map(rule_message, rules), disabled=map(rule_message, disabled))
        return self.frame(alert_rules=message)

    def watermark(self, seconds: float = 0.0) -> bytes:
        """A watermark so many seconds on."""
        self.now_ns += int(seconds * SECOND)
        return self.frame(watermark=frame_pb2.Watermark(event_time_ns=self.now_ns))


class Watched:
    """A market and, for each list, a client that knows only the deltas."""

    def __init__(self, tape: Tape, *specs: ListSpec) -> None:
        self.tape = tape
        self.market = Market(specs, EPOCH)
        self.copies = {spec.name: watcher(self.market, spec.name) for spec in specs}
        for frame in tape.opening():
            assert self.market.apply(frame) == []

    def refresh(self, seconds: float = 0.0) -> dict[str, scanner_pb2.ListDelta]:
        """A watermark: the deltas by list. Every client then has exactly what is published."""
        updates = self.market.apply(self.tape.watermark(seconds))
        for update in updates:
            if update.list in self.copies:
                feed(self.copies[update.list], update)
        for name, copy in self.copies.items():
            check_copy(copy, self.market, name)
        return {update.list: scanner_pb2.ListDelta.FromString(bytes(update.delta)) for update in updates}

    def trade(self, prices: Mapping[str, float], seconds: float = 0.0) -> dict[str, scanner_pb2.ListDelta]:
        """Trades, then a watermark."""
        self.market.apply(self.tape.trades(prices))
        return self.refresh(seconds)

    def ranked(self, name: str, limit: int | None = None) -> list[str]:
        """A list's symbols by rank."""
        return [row.symbol for row in rows_of(self.market.snapshot(name, limit))]


def watcher(market: Market, name: str) -> ListCopy:
    """A client that begins with the list's snapshot."""
    copy = ListCopy()
    snapshot = scanner_pb2.RankedList.FromString(market.snapshot(name))
    copy.apply(scanner_pb2.WatchListResponse(snapshot=snapshot))
    return copy


def feed(copy: ListCopy, update: ListUpdate) -> None:
    """Gives a client the next delta, which must be as its ListUpdate says and as protobuf would write it."""
    delta = scanner_pb2.ListDelta.FromString(bytes(update.delta))
    assert delta.SerializeToString(deterministic=True) == update.delta
    assert (delta.previous_sequence, delta.sequence) == (update.previous_sequence, update.sequence)
    assert delta.sequence == delta.previous_sequence + 1
    assert delta.change_count == len(delta.deltas) > 0
    copy.apply(scanner_pb2.WatchListResponse(delta=delta))


def check_copy(copy: ListCopy, market: Market, name: str) -> None:
    """The client has exactly the published list."""
    encoded = market.snapshot(name)
    snapshot = scanner_pb2.RankedList.FromString(encoded)
    assert snapshot.SerializeToString(deterministic=True) == encoded
    assert (snapshot.list, snapshot.epoch, snapshot.count) == (name, EPOCH, len(snapshot.rows))
    assert snapshot.sequence == copy.sequence == market.list_sequence(name)
    assert [row.rank for row in snapshot.rows] == list(range(1, len(snapshot.rows) + 1))
    assert copy.rows() == list(snapshot.rows)
    assert market.list_count(name) == len(snapshot.rows)


def rows_of(ranked_list: bytes) -> list[TickerRow]:
    """The rows of an encoded RankedList."""
    return list(scanner_pb2.RankedList.FromString(ranked_list).rows)


def said(delta: scanner_pb2.ListDelta) -> list[tuple[str, str, int, int]]:
    """What a delta says: (action, symbol, rank afterwards, rank before if it is told)."""
    return [
        (
            scanner_pb2.ListChange.Action.Name(change.action),
            change.symbol,
            change.new_rank or change.rank,
            change.old_rank,
        )
        for change in delta.deltas
    ]


Applied_co = TypeVar("Applied_co", covariant=True)


class Sink(Protocol[Applied_co]):
    """Whatever applies frames in their order."""

    @property
    def position(self) -> Position | None: ...
    def apply(self, frame: Frame) -> Applied_co: ...


def apply_next(sink: Sink[Applied_co], *frames: bytes | memoryview) -> list[Applied_co]:
    """Applies encoded frames as the frame reader does; what each apply() returned."""
    return [sink.apply(next_frame(memoryview(frame), sink.position)) for frame in frames]
