"""The sequencer: whatever enters becomes the next frame, in the ring and in this process's own copy of the market."""

import contextlib
import statistics
from array import array
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol

from tradeul.v1 import frame_pb2, session_pb2

from fastcore.alert_rules import AlertRule, rules_message
from fastcore.prepared_buffer import PreparedBuffer
from fastcore.wire import field_head
from services.data_ingest.journal import Journal, MarketAt
from services.data_ingest.stream.committed import Committed
from services.data_ingest.stream.symbols import MAX_SYMBOLS, SymbolTable
from services.kit.alerts.encoding import AlertMarket, Rows
from services.kit.alerts.recent_alerts import RecentAlerts
from services.kit.lists.scan_filters import ScanFilter
from services.kit.rpc.envelope import FRAMES
from services.kit.rpc.ring import Position, Ring
from services.kit.runtime.clock import monotonic
from services.market.calendar import TradingDay

# Some seconds of the heaviest load, minutes of a usual one.
MAX_HELD_BYTES: Final = 32 * 1024 * 1024
MAX_HELD_FRAMES: Final = 1 << 16
# A position has 32 bits: beyond this sequence, some 40 busy days, the next change of the day begins a new epoch.
LAST_SEQUENCE: Final = 1 << 31
# Of so many rankings the middle one says how long ranking takes. A few that another process or the system kept waiting
# say nothing of the next: as part of a mean, each of them made watermarks rarer for nearly a second.
NEWEST_RANKINGS: Final = 5
# By the name of what a frame holds, the number of that field.
_BODIES: Final = {field.name: field.number for field in frame_pb2.Frame.DESCRIPTOR.oneofs_by_name["body"].fields}


# Is called after each frame with the name of its body and the encoded message in it. It adds no frames itself.
FrameListener = Callable[[str, bytes], None]


class StateView(Rows, Protocol):
    """The part of its copy's state that the sequencer reads."""

    @property
    def now_ns(self) -> int: ...
    @property
    def session(self) -> int: ...
    @property
    def symbols(self) -> list[str]: ...
    @property
    def suspect_prints(self) -> dict[str, int]: ...
    @property
    def halted_count(self) -> int: ...
    @property
    def active_count(self) -> int: ...
    @property
    def lowered_volumes(self) -> int: ...
    def column(self, name: str) -> "array[float]": ...


class MarketCopy(AlertMarket, Protocol):
    """fastcore's Market."""

    @property
    def state(self) -> StateView: ...
    @property
    def sequence(self) -> int: ...
    @property
    def list_filters_message(self) -> bytes: ...
    def take(self, frame: memoryview) -> bool: ...
    def refresh(self) -> object: ...
    def hash(self) -> int: ...
    def to_bytes(self, with_baselines: bool = True) -> bytes: ...
    def expected_size(self, with_baselines: bool = True) -> int: ...
    def write_to(self, buffer: PreparedBuffer, with_baselines: bool = True) -> memoryview: ...


class EntrySink(Protocol):
    """Gets what the journal gets."""

    def add(self, body: str, message: bytes) -> None: ...
    def commit(self, feed: Position | None = None, trade_identities: bytes = b"") -> None: ...


class EntryNotes:
    """Notes that the journal keeps beside an entry's frames."""

    def __init__(self) -> None:
        self.feed: Position | None = None
        self.trade_identities = b""


class Sequencer:
    """Decides the order of the stream. Every method is one frame at most, after one of new symbols; none waits.

    A ValueError of the market copy means that we made a frame that nobody can
    apply: a defect, after which only a new epoch helps.

    A frame is in the journal when the method returns: readers take theirs from
    the ring later, when this event loop comes to them.

    Args:
        epoch: names the numbering; greater than that of any process that did not leave it to this one.
        market: an empty Market of that epoch, or the one that continues.
        journal: where frames are written down.
        day: in force already, of a market that continues.
        messages: of the newest frames in that market, for readers who are behind.
        alerts: gets the alerts of each watermark; without it they are not kept.
        defer: calls a function when readers have been given what there is for them; by default at once.
            Ranking this copy's lists takes a millisecond, for which no reader has to wait.
    """

    def __init__(
        self,
        epoch: int,
        market: MarketCopy,
        *,
        journal: Journal | None = None,
        day: TradingDay | None = None,
        messages: Sequence[bytes] = (),
        alerts: RecentAlerts | None = None,
        defer: Callable[[Callable[[], None]], object] = lambda function: function(),
        max_frames: int = MAX_HELD_FRAMES,
        max_bytes: int = MAX_HELD_BYTES,
        max_symbols: int = MAX_SYMBOLS,
        last_sequence: int = LAST_SEQUENCE,
    ) -> None:
        self.market = market
        self.ring = Ring(epoch, max_frames, max_bytes, market.sequence - len(messages))
        self._new_ring: Callable[[int], Ring] = lambda epoch: Ring(epoch, max_frames, max_bytes)
        self._last_sequence = last_sequence
        for message in messages:
            self.ring.append(message)
        self.symbols = SymbolTable(max_symbols, market.state.symbols)
        # Frames so far, by what they hold.
        self.frames: Counter[str] = Counter()
        self._journal = journal
        self._entry_sinks: list[EntrySink] = [] if journal is None else [journal]
        self._is_in_entry = False
        self._alerts = alerts
        self._defer = defer
        # The lists of the last watermark are still to be ranked.
        self._is_refresh_due = False
        self._newest_rankings: deque[float] = deque(maxlen=NEWEST_RANKINGS)
        self._day = day
        # What readers may have of it.
        self.committed = Committed(lambda: self.ring.position)
        # Of the epoch before, until they are announced.
        self._filters_message = b""
        self._listeners: list[FrameListener] = []

    def listen(self, listener: FrameListener) -> None:
        """Calls `listener` after each frame from now on."""
        self._listeners.append(listener)

    @property
    def ranking_seconds(self) -> float:
        """How long ranking takes: the median of the newest times; 0 before the first."""
        return statistics.median(self._newest_rankings) if self._newest_rankings else 0.0

    def follow_entries(self, sink: EntrySink) -> None:
        """Gives `sink` all entries of the journal from now on."""
        self._entry_sinks.append(sink)

    @property
    def position(self) -> Position:
        """Of the newest frame."""
        return self.ring.position

    @property
    def now_ns(self) -> int:
        """The newest event time accepted, or the newest watermark; 0 before the first."""
        return self.market.state.now_ns

    @property
    def day(self) -> TradingDay:
        """The trading day in force; RuntimeError before the first."""
        if self._day is None:
            raise RuntimeError("expected begin_day() to have been called, was not")
        return self._day

    @property
    def is_closed(self) -> bool:
        """True while the market is closed: no session of the day in force is open."""
        return self.market.state.session == session_pb2.CLOSED

    def add_symbols(self, symbols: Sequence[str]) -> list[int]:
        """Returns their ids, REFUSED for invalid names; new ones get theirs by a frame."""
        ids = [self.symbols.add(symbol) for symbol in symbols]
        self._publish_symbols()
        return ids

    def name_symbol(self, symbol: str) -> int:
        """The id of one whose first event is added next, REFUSED for an invalid name; the next frame brings it."""
        return self.symbols.add(symbol)

    def begin_day(self, day: TradingDay, split: Iterable[str] | None = None) -> None:
        """`split`: the symbols whose shares split since the day before; None when that is not known."""
        if self._journal is not None and (self._day is None or self._day.date != day.date):
            self._journal.day_began(self._next_position(), is_first=self._day is None)
        self._day = day
        message = day.frame()
        if split is None:
            message.splits_unknown = True
        else:
            message.split_symbol_id.extend(self.symbols.known_ids(split))
        self._append("trading_day", message.SerializeToString())

    @property
    def is_epoch_due(self) -> bool:
        """True if the numbering should end with the day."""
        return self.ring.newest > self._last_sequence

    def begin_epoch(self, epoch: int, renew: Callable[[int], MarketCopy]) -> None:
        """Continues with the same rows under another numbering, which begins at 1.

        The journal has to begin again before anything is awaited. `renew`: gives the market of that epoch.
        """
        if epoch <= self.ring.epoch or self._is_in_entry:
            raise ValueError(f"expected an epoch after {self.ring.epoch} between two entries, was {epoch}")
        self._refresh()
        self._filters_message = self.market.list_filters_message
        self.market = renew(epoch)
        self.ring = self._new_ring(epoch)

    def announce_epoch(self) -> None:
        """Adds the frames that a new epoch needs beside its rows: the filters, and a watermark."""
        if self._filters_message:
            self._append("list_filters", self._filters_message)
        self.add_watermark(0)

    def set_trade_rules(self, rules: bytes) -> None:
        """`rules`: an encoded TradeRules."""
        self._append("trade_rules", rules)

    def set_list_filters(self, filters: Sequence[ScanFilter]) -> bool:
        """The enabled scanner filters, all of them; False when they are as before."""
        message = frame_pb2.ListFilters(
            filters=[
                frame_pb2.ListFilter(
                    name=each.name,
                    expression=each.expression,
                    sessions=[session_pb2.Session.Value(session) for session in each.sessions],
                )
                for each in filters
            ]
        )
        return self._append_changed("list_filters", self.market.list_filters_message, message.SerializeToString())

    def set_alert_rules(self, rules: Sequence[AlertRule], disabled: Sequence[AlertRule] = ()) -> bool:
        """The alert rules in force and those that are switched off, all of them; False when they are as before."""
        return self._append_changed("alert_rules", self.market.alert_rules_message, rules_message(rules, disabled))

    def add_events(self, body: str, batch: bytes) -> None:
        """`batch`: an admitted batch for the frame's body `trades`, `bars`, `quotes`, `limits` or `halts`."""
        self._append(body, batch)

    def add_vendor_snapshot(self, rows: bytes) -> None:
        """`rows`: an encoded VendorSnapshot in our ids."""
        self._append("vendor_snapshot", rows)

    def add_reference(self, columns: bytes) -> None:
        """`columns`: an encoded ReferenceColumns in our ids."""
        self._append("reference", columns)

    def add_baselines(self, columns: bytes) -> None:
        """`columns`: an encoded VolumeBaselines in our ids."""
        self._append("baselines", columns)

    def add_watermark(self, time_ns: int) -> None:
        """Lists are ranked here. The time never goes back behind what was accepted or marked before."""
        message = frame_pb2.Watermark(event_time_ns=max(time_ns, self.now_ns))
        self._append("watermark", message.SerializeToString())

    def market_at(self, with_baselines: bool, buffer: PreparedBuffer | None = None) -> MarketAt:
        """The market as of the newest frame, for the journal or readers; its data in the buffer, if there is one."""
        self._refresh()
        day = self._day.frame().SerializeToString() if self._day is not None else None
        market = self.market
        data = market.to_bytes(with_baselines) if buffer is None else market.write_to(buffer, with_baselines)
        return MarketAt(self.position, day, data, self._recent_alerts())

    def expected_size(self, with_baselines: bool) -> int:
        """Bytes of data that market_at() would give, or somewhat more."""
        return self.market.expected_size(with_baselines)

    def hash(self) -> tuple[Position, int]:
        """The newest frame's position, and the hash that any copy of the market has there."""
        self._refresh()
        return self.position, self.market.hash()

    @contextlib.contextmanager
    def journal_entry(self) -> Iterator[EntryNotes]:
        """Makes all that is added inside one entry of the journal, with these notes: kept as a whole, or not at all.

        Nothing may be awaited inside.
        """
        notes = EntryNotes()
        self._is_in_entry = True
        try:
            yield notes
        finally:
            self._is_in_entry = False
            for sink in self._entry_sinks:
                sink.commit(notes.feed, notes.trade_identities)

    def _next_position(self) -> Position:
        return Position(self.ring.epoch, self.ring.newest + 1)

    def _publish_symbols(self) -> None:
        if table := self.symbols.unpublished():
            self._append("symbols", table)

    def _append_changed(self, body: str, before: bytes, content: bytes) -> bool:
        """Adds a frame unless the market has its content from one before, also from before a restart."""
        if content == before:
            return False
        self._append(body, content)
        return True

    def _append(self, body: str, content: bytes) -> None:
        if body != "symbols":
            self._publish_symbols()
        self._refresh()
        message, frame = FRAMES.positioned(
            "frame", self._next_position(), field_head(_BODIES[body], len(content)), content
        )
        try:
            self._is_refresh_due = self.market.take(frame)
        except ValueError as error:
            if self._journal is not None:
                # Whoever went on from it would meet the same frame again.
                self._journal.abandon(f"frame {self._next_position()} cannot be applied: {error}")
            raise
        self.ring.append(message)
        self.frames[body] += 1
        for sink in self._entry_sinks:
            sink.add(body, message)
            if not self._is_in_entry:
                sink.commit()
        for listener in self._listeners:
            listener(body, content)
        if self._is_refresh_due:
            self._defer(self._refresh)

    def _refresh(self) -> None:
        """Brings the lists of this copy to the last watermark, if they are not."""
        if self._is_refresh_due:
            began = monotonic()
            self.market.refresh()
            self._newest_rankings.append(monotonic() - began)
            self._is_refresh_due = False
            if self._alerts is not None:
                self._alerts.take(self.market)

    def _recent_alerts(self) -> tuple[bytes, ...]:
        return self._alerts.all() if self._alerts is not None else ()
