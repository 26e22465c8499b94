"""From polygon_ws's batches to frames: the feed's symbol ids, admission, and the change of the trading day."""

import datetime
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from tradeul.v1 import polygon_ws_pb2

from fastcore.admission import MAX_TIME, Admission
from fastcore.trade_rules import read_rules
from services.data_ingest.stream.sequencer import EntryNotes, Sequencer
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import fields, read_varint
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.market.calendar import Calendar, TradingDay

log = get_logger(__name__)

# So many symbols must have sent events of a later day before a feed is believed.
LATER_DAY_SYMBOLS: Final = 3
# With the wall clock, events may be so much ahead of it.
AHEAD_NS: Final = 5_000_000_000
# Batches with events of a later day are kept until it begins, up to so many bytes.
MAX_EARLY_BYTES: Final = 1 << 20
# After so many events of the day in force those of later days were wrong timestamps.
MOST_EVENTS_BETWEEN: Final = 1000

_BATCH: Final = {field.name: field.number for field in polygon_ws_pb2.MarketBatch.DESCRIPTOR.fields}
_POSITION: Final = _BATCH["position"]
_FIRST_ID: Final = _BATCH["first_symbol_id"]
_NEW_SYMBOLS: Final = _BATCH["new_symbols"]
_WATERMARK: Final = _BATCH["watermark_ns"]
_MALFORMED: Final = "malformed_batch"
_OUT_OF_SESSION: Final = "time_out_of_session"
_UNKNOWN_SYMBOL: Final = "unknown_symbol"
_AHEAD: Final = "time_ahead"

# A batch's encoded columns by field of MarketBatch.
Parts = list[tuple[int, memoryview]]


class FeedHole(Exception):
    """A batch or a symbol is missing between what was taken last and what came."""


class FeedInput:
    """The gate between one polygon_ws and the stream.

    Args:
        sequencer: gets the frames; its day is begun by the first call of set_calendar().
        clock: whose time the trading day follows.
        on_day: is called after each day that began, or whose hours changed.
        splits: gives the symbols that split since the day before; None when that is not known.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        clock: Literal["wall", "feed"],
        on_day: Callable[[], None] = lambda: None,
        splits: Callable[[TradingDay], Iterable[str] | None] = lambda day: None,
    ) -> None:
        self.admission = Admission(name=self._name, day_symbols=LATER_DAY_SYMBOLS)
        # The last batch taken; None before the first.
        self.position: Position | None = None
        self.resets = 0
        self.lost_batches = 0
        # By what duplicates of the day's first trades are recognised: what a new epoch's journal begins with.
        self.first_identities = b""
        # Trading days begun.
        self.days = 0
        # Those just before the day in force of which nothing came.
        self.missing_days: list[datetime.date] = []
        self._sequencer = sequencer
        self._is_wall = clock == "wall"
        self._on_day = on_day
        self._splits = splits
        self._calendar: Calendar | None = None
        self._later_days: tuple[TradingDay, ...] = ()
        # The feed's symbols by its ids, and their ids in the stream.
        self._names: list[str] = []
        self._ids = array("i")
        # Batches with events of a later day that has not begun, and how many events were admitted since.
        self._early: list[Parts] = []
        # The newest time of a later day in the batch under way; 0 for none.
        self._later_ns = 0
        self._events_between = 0
        # What admission counts twice or not at all.
        self._corrections: Counter[str] = Counter()
        admission = self.admission
        self._admit = {
            _BATCH["limits"]: ("limits", admission.admit_limits),
            _BATCH["quotes"]: ("quotes", admission.admit_quotes),
            _BATCH["minute_bars"]: ("bars", admission.admit_bars),
            _BATCH["second_bars"]: ("bars", admission.admit_bars),
            _BATCH["trades"]: ("trades", admission.admit_trades),
        }

    def go_on_after(self, position: Position | None, trade_identities: bytes) -> None:
        """The stream has the batches up to `position` already, and these trades, from a process before."""
        self.position = position
        self.admission.remember(trade_identities)

    @property
    def names(self) -> tuple[str, ...]:
        """The feed's symbols, by its ids."""
        return tuple(self._names)

    # --- trading days and rules

    def begin(self, calendar: Calendar, day: TradingDay) -> None:
        """Begins the stream's first day."""
        self._calendar = calendar
        self._enter(day)

    def set_calendar(self, calendar: Calendar) -> None:
        """A newer calendar, which may hold other hours of the day in force."""
        self._calendar = calendar
        day = self._sequencer.day
        known = calendar.find(day.date) or day
        if known != day:
            log.warning("trading day has other hours", date=str(day.date))
            self._enter(known)
        else:
            self._set_later_days(day)

    def follow_clock(self, now_ns: int) -> None:
        """With the wall clock: what it says, before anything is admitted or said at that time."""
        day = self._sequencer.day
        if self._later_days and self._later_days[0].pre_market_start_ns <= now_ns:
            begun = [later for later in self._later_days if later.pre_market_start_ns <= now_ns]
            day = begun[-1]
            self._skip(begun[:-1])
            self._enter(day)
        self.admission.set_bounds(day.pre_market_start_ns, day.post_market_end_ns, now_ns + AHEAD_NS)

    def set_trade_rules(self, rules: bytes) -> None:
        """`rules`: an encoded TradeRules."""
        self.admission.set_known_conditions(read_rules(rules)["known"])
        self._sequencer.set_trade_rules(rules)

    @property
    def next_day(self) -> TradingDay | None:
        """None when the calendar does not know it."""
        return self._later_days[0] if self._later_days else None

    @property
    def rejected(self) -> Counter[str]:
        """Rows set aside since the start, by reason."""
        counts = Counter(self.admission.rejected)
        counts.update(self._corrections)
        return counts

    # --- what polygon_ws says

    def opened(self, message: polygon_ws_pb2.MarketOpened) -> None:
        """The feed's symbol table as a whole. A symbol that the stream does not know gets its id there with its
        first event that is admitted."""
        self._names = list(message.symbols)
        self._ids = array("i", map(self._sequencer.symbols.find, self._names))
        # Its ids may mean others now.
        self._forget_early()

    def reset(self, position: Position, reason: str) -> None:
        """Batches were lost; the next one comes after `position`."""
        self.resets += 1
        last = self.position
        if last is not None and last.epoch == position.epoch:
            self.lost_batches += max(0, position.sequence - last.sequence)
        log.warning("batches of polygon_ws were lost", reason=reason, last=str(last), goes_on_after=str(position))
        self.position = position

    def take(self, batch: memoryview, now_ns: int) -> int:
        """Sequences one encoded MarketBatch; returns how many of its events were admitted.

        `now_ns` is the wall clock's time, of no matter in feed mode. Raises FeedHole
        when the batch does not follow the last one; nothing is taken then.
        """
        last = self.position
        try:
            position, first_id, symbols, parts, watermark_ns = _read(batch)
        except ValueError as error:
            self._corrections[_MALFORMED] += 1
            log.error("batch of polygon_ws set aside", after=str(last), error=reason_of(error))
            # It would come again and again.
            self.position = _position(batch) if last is None else Position(last.epoch, last.sequence + 1)
            return 0
        if last is not None and position != (last.epoch, last.sequence + 1):
            raise FeedHole(f"expected the batch after {last}, was {position}")
        # Who goes on from the journal asks polygon_ws for the batch after this one, or for this one: all of it
        # is in there, or nothing.
        with self._sequencer.journal_entry() as notes:
            if symbols:
                self._take_symbols(first_id, symbols)
            self.position = notes.feed = position
            if self._is_wall:
                self.follow_clock(now_ns)
            admitted = self._take_parts(parts, notes)
            if watermark_ns:
                self._sequencer.add_watermark(watermark_ns)
        return admitted

    def _take_symbols(self, first_id: int, symbols: list[str]) -> None:
        if first_id > len(self._ids):
            raise FeedHole(f"expected the feed's symbols from {len(self._ids)} on, was {first_id}")
        # After a reconnection the table may hold them already.
        self._names[first_id : first_id + len(symbols)] = symbols
        self._ids[first_id : first_id + len(symbols)] = array("i", map(self._sequencer.symbols.find, symbols))

    def _name(self, feed_id: int) -> int:
        """The stream's id of a symbol with its first event that is admitted; admission asks for it."""
        self._ids[feed_id] = symbol_id = self._sequencer.name_symbol(self._names[feed_id])
        return symbol_id

    def _take_parts(self, parts: Parts, notes: EntryNotes) -> int:
        """Admits a batch; in feed mode that may change the day, and then what came early of it is admitted, too."""
        self._later_ns = 0
        admitted = self._admit_parts(parts, notes)
        if self._is_wall:
            return admitted
        if self.admission.begun_day >= 0:
            return admitted + self._follow_feed(parts, notes)
        if self._later_ns:
            self._keep_early(parts)
        if self._early:
            self._events_between += admitted
            if self._events_between > MOST_EVENTS_BETWEEN:
                self._forget_early()
        return admitted

    def _follow_feed(self, parts: Parts, notes: EntryNotes) -> int:
        """Enters the later day in which the feed is; returns how many of the events that came early are admitted."""
        early, latest_ns = self._early, self._later_ns + AHEAD_NS
        admitted = 0
        while (begun := self.admission.begun_day) >= 0:
            day = self._later_days[begun]
            self._skip(self._later_days[:begun])
            self._enter(day)
            # A wrong timestamp may be of this day, too.
            self.admission.set_bounds(day.pre_market_start_ns, day.post_market_end_ns, latest_ns)
            for batch in early:
                admitted += self._judge_again(batch, notes)
            self.admission.set_bounds(day.pre_market_start_ns, day.post_market_end_ns, MAX_TIME)
            admitted += self._judge_again(parts, notes)
        if any(self.admission.later_symbols):
            for batch in (*early, parts):
                self._keep_early(batch)
        return admitted

    def _keep_early(self, parts: Parts) -> None:
        self._early.append(parts)
        self._events_between = 0
        while len(self._early) > 1 and sum(len(part) for batch in self._early for _, part in batch) > MAX_EARLY_BYTES:
            del self._early[0]

    def _forget_early(self) -> None:
        """What came of later days were wrong timestamps, or it is of no use any more."""
        self.admission.forget_later()
        self._early = []
        self._events_between = 0

    def _admit_parts(self, parts: Parts, notes: EntryNotes) -> int:
        admitted = 0
        for number, content in parts:
            if (kind := self._admit.get(number)) is None:
                continue
            body, admit = kind
            try:
                rows, count = admit(content, self._ids)
            except ValueError as error:
                self._corrections[_MALFORMED] += 1
                log.error("batch of polygon_ws set aside", kind=body, error=reason_of(error))
                continue
            self._later_ns = max(self._later_ns, self.admission.later_ns)
            if count:
                self._sequencer.add_events(body, rows)
                admitted += count
                if body == "trades":
                    notes.trade_identities += self.admission.identities
                    if self._sequencer.is_epoch_due:
                        self.first_identities += self.admission.identities
        return admitted

    def _judge_again(self, parts: Parts, notes: EntryNotes) -> int:
        """Admits what was judged for the day before; each row counts once, for the day whose it is."""
        before = self.admission.rejected
        corrections = self._corrections
        malformed = corrections[_MALFORMED]
        admitted = self._admit_parts(parts, notes)
        corrections[_MALFORMED] = malformed
        now = self.admission.rejected
        # Every row was judged once more: of either day it is out of session once, of neither twice.
        judged = admitted + sum(now.values()) - sum(before.values())
        unknown = now[_UNKNOWN_SYMBOL] - before[_UNKNOWN_SYMBOL]
        # What the feed has not reached when the day begins is none of it.
        ahead = now[_AHEAD] - before[_AHEAD]
        corrections[_AHEAD] -= ahead
        corrections[_UNKNOWN_SYMBOL] -= unknown
        corrections[_OUT_OF_SESSION] -= judged - unknown - ahead
        return admitted

    def _skip(self, days: Sequence[TradingDay]) -> None:
        """These trading days of the calendar have passed without an event, none of them usually."""
        self.missing_days = [day.date for day in days]
        for date in self.missing_days:
            log.error("trading day is missing", date=str(date))

    def _enter(self, day: TradingDay) -> None:
        assert self._calendar is not None, "begin() first"
        log.info("trading day begins", date=str(day.date), early_close=day.is_early_close)
        self.days += 1
        self._sequencer.begin_day(day, self._splits(day))
        self.admission.set_bounds(day.pre_market_start_ns, day.post_market_end_ns, MAX_TIME)
        self._forget_early()
        self._set_later_days(day)
        self.first_identities = b""
        self._on_day()

    def _set_later_days(self, day: TradingDay) -> None:
        assert self._calendar is not None, "begin() first"
        self._later_days = self._calendar.all_after(day.date)
        self.admission.set_later_days(
            (later.pre_market_start_ns, later.post_market_end_ns) for later in self._later_days
        )


def _position(batch: memoryview) -> Position | None:
    """Its position, which comes first, of a batch that cannot be read; None when that cannot be, either."""
    try:
        for number, _, start, end in fields(batch):
            if number == _POSITION:
                return _read_position(batch, start, end)
    except ValueError:
        pass
    return None


def _read_position(batch: memoryview, start: int, end: int) -> Position:
    epoch = sequence = 0
    for part, _, at, _ in fields(batch[start:end]):
        value, _ = read_varint(batch, start + at)
        epoch, sequence = (value, sequence) if part == 1 else (epoch, value)
    return Position(epoch, sequence)


def _read(batch: memoryview) -> tuple[Position, int, list[str], Parts, int]:
    """Position, first_symbol_id, new_symbols, the batches in the order of their fields, and watermark_ns, 0 for none.

    ValueError when it is malformed.
    """
    first_id = watermark_ns = 0
    position = Position(0, 0)
    symbols: list[str] = []
    parts: Parts = []
    for number, _, start, end in fields(batch):
        if number == _POSITION:
            position = _read_position(batch, start, end)
        elif number == _FIRST_ID:
            first_id, _ = read_varint(batch, start)
        elif number == _NEW_SYMBOLS:
            symbols.append(str(batch[start:end], "utf-8"))
        elif number == _WATERMARK:
            watermark_ns = int.from_bytes(batch[start:end], "little")
        elif number > _NEW_SYMBOLS:
            parts.append((number, batch[start:end]))
    parts.sort(key=lambda part: part[0])
    return position, first_id, symbols, parts, watermark_ns
