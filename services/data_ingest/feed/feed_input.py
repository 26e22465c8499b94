"""From polygon_ws's batches to frames: the feed's symbol ids, admission, and its way into the next trading day."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal, NamedTuple

from fastcore.admission import MAX_TIME, Admission
from fastcore.trade_rules import read_rules
from services.data_ingest.feed.day_in_force import AHEAD_NS, DayInForce
from services.data_ingest.feed.market_batch import NUMBERS, Columns, MarketBatch, WaitingBatches, position_of
from services.data_ingest.stream.sequencer import EntryNotes, Sequencer
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import wall_ns
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.market.calendar import TradingDay

log = get_logger(__name__)

# So many symbols must have sent events of a later day before a feed is believed.
LATER_DAY_SYMBOLS: Final = 3

_MALFORMED: Final = "malformed_batch"
_OUT_OF_SESSION: Final = "time_out_of_session"
_UNKNOWN_SYMBOL: Final = "unknown_symbol"
_AHEAD: Final = "time_ahead"


class FeedHole(Exception):
    """A batch or a symbol is missing between the last batch sequenced and the next."""


class FeedProgress(NamedTuple):
    """The last batch in the stream, None before the first, and by what duplicates of its latest trades are known."""

    position: Position | None
    trade_identities: bytes


class FeedInput:
    """The gate between one polygon_ws and the stream.

    Args:
        sequencer: gets the frames; its first day is begun by `days.begin()`.
        clock: whose time the trading day follows.
        splits: gives the symbols that split since the day before; None when that is not known.
        now_ns: gives the wall clock's time, of no matter in feed mode.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        clock: Literal["wall", "feed"],
        splits: Callable[[TradingDay], Iterable[str] | None] = lambda day: None,
        now_ns: Callable[[], int] = wall_ns,
    ) -> None:
        self.admission = Admission(name=self._name, day_symbols=LATER_DAY_SYMBOLS)
        self.days = DayInForce(sequencer, self.admission, splits)
        self.is_wall = clock == "wall"
        self.now_ns = now_ns
        # The last batch sequenced; None before the first.
        self.position: Position | None = None
        self.resets = 0
        self.lost_batches = 0
        self._sequencer = sequencer
        # By what duplicates of the day's first trades are recognised, once a new epoch is due.
        self._first_identities = b""
        # The feed's symbols by its ids, and their ids in the stream.
        self._names: list[str] = []
        self._ids = array("i")
        self._waiting = WaitingBatches()
        # The newest time of a later day in the batch under way; 0 for none.
        self._later_ns = 0
        # What admission counts twice or not at all.
        self._corrections: Counter[str] = Counter()
        admission = self.admission
        self._admit_by_number = {
            NUMBERS["limits"]: ("limits", admission.admit_limits),
            NUMBERS["quotes"]: ("quotes", admission.admit_quotes),
            NUMBERS["minute_bars"]: ("bars", admission.admit_bars),
            NUMBERS["second_bars"]: ("bars", admission.admit_bars),
            NUMBERS["trades"]: ("trades", admission.admit_trades),
        }
        self.days.listen(self._day_began)

    def resume_after(self, progress: FeedProgress) -> None:
        """The stream has these batches and trades already, from a process before."""
        self.position = progress.position
        self.admission.remember(progress.trade_identities)

    def progress_of_epoch(self) -> FeedProgress:
        """The progress from which a new epoch's journal begins; the next call has later trades only."""
        identities, self._first_identities = self._first_identities, b""
        return FeedProgress(self.position, identities)

    def set_trade_rules(self, rules: bytes) -> None:
        """`rules`: an encoded TradeRules."""
        self.admission.set_known_conditions(read_rules(rules)["known"])
        self._sequencer.set_trade_rules(rules)

    def latest_ns(self) -> int:
        """An event after this time is ahead of it."""
        return self.now_ns() + AHEAD_NS if self.is_wall else MAX_TIME

    @property
    def names(self) -> tuple[str, ...]:
        """The feed's symbols, by its ids."""
        return tuple(self._names)

    @property
    def rejected(self) -> Counter[str]:
        """Rows set aside since the start, by reason."""
        counts = Counter(self.admission.rejected)
        counts.update(self._corrections)
        return counts

    # --- polygon_ws's messages

    def set_symbols(self, symbols: Sequence[str]) -> None:
        """Takes over the feed's symbol table as a whole.

        A symbol that the stream does not know gets its id there with its first event that is admitted.
        """
        self._names = list(symbols)
        self._ids = array("i", map(self._sequencer.symbols.find, self._names))
        # The waiting batches' ids may mean others now.
        self._forget_later_days()

    def skip_to(self, position: Position, reason: str) -> None:
        """Batches were lost; the next one comes after `position`."""
        self.resets += 1
        last = self.position
        if last is not None and last.epoch == position.epoch:
            self.lost_batches += max(0, position.sequence - last.sequence)
        log.warning("batches of polygon_ws were lost", reason=reason, last=str(last), goes_on_after=str(position))
        self.position = position

    def sequence(self, batch: memoryview, now_ns: int) -> int:
        """Sequences one encoded MarketBatch; returns how many of its events were admitted.

        `now_ns` is the wall clock's time, of no matter in feed mode. Raises FeedHole
        when the batch does not follow the last one; nothing of it is sequenced then.
        """
        last = self.position
        try:
            position, first_id, symbols, columns, watermark_ns = MarketBatch.read(batch)
        except ValueError as error:
            self._corrections[_MALFORMED] += 1
            log.error("batch of polygon_ws set aside", after=str(last), error=reason_of(error))
            # It would come again and again.
            self.position = position_of(batch) if last is None else Position(last.epoch, last.sequence + 1)
            return 0
        if last is not None and position != (last.epoch, last.sequence + 1):
            raise FeedHole(f"expected the batch after {last}, was {position}")
        # Whoever continues from the journal requests the batch after this one from polygon_ws, or this one: all of it
        # is in there, or nothing.
        with self._sequencer.journal_entry() as notes:
            if symbols:
                self._add_symbols(first_id, symbols)
            self.position = notes.feed = position
            if self.is_wall:
                self.days.follow_clock(now_ns)
                admitted = self._admit(columns, notes)
            else:
                admitted = self._admit_and_follow(columns, notes)
            if watermark_ns:
                self._sequencer.add_watermark(watermark_ns)
        return admitted

    def _add_symbols(self, first_id: int, symbols: list[str]) -> None:
        if first_id > len(self._ids):
            raise FeedHole(f"expected the feed's symbols from {len(self._ids)} on, was {first_id}")
        # After a reconnection the table may hold them already.
        self._names[first_id : first_id + len(symbols)] = symbols
        self._ids[first_id : first_id + len(symbols)] = array("i", map(self._sequencer.symbols.find, symbols))

    def _name(self, feed_id: int) -> int:
        """The stream's id of a symbol with its first event that is admitted; admission calls it."""
        self._ids[feed_id] = symbol_id = self._sequencer.name_symbol(self._names[feed_id])
        return symbol_id

    # --- admission

    def _admit(self, columns: Columns, notes: EntryNotes) -> int:
        """Adds the rows that are let in to the stream; returns how many these are."""
        admitted = 0
        self._later_ns = 0
        for number, content in columns:
            if (kind := self._admit_by_number.get(number)) is None:
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
                        self._first_identities += self.admission.identities
        return admitted

    # --- the trading day of a feed

    def _admit_and_follow(self, columns: Columns, notes: EntryNotes) -> int:
        """Admits a batch, which may change the day; then the events of that day that came before it did enter, too."""
        admitted = self._admit(columns, notes)
        if self.admission.begun_day >= 0:
            return admitted + self._enter_later_days(columns, notes)
        if self._later_ns:
            self._waiting.add(columns)
        if self._waiting.are_outdated_after(admitted):
            self._forget_later_days()
        return admitted

    def _enter_later_days(self, columns: Columns, notes: EntryNotes) -> int:
        """Enters the later day in which the feed is; returns how many events of the batches until now it lets in."""
        batches, latest_ns = (*self._waiting, columns), self._later_ns + AHEAD_NS
        admitted = 0
        while (begun := self.admission.begun_day) >= 0:
            self.days.enter_later(begun)
            # A wrong timestamp may be of this day, too: what waited is let in as far as the feed has come only.
            self.days.admit_until(latest_ns)
            for batch in batches[:-1]:
                admitted += self._admit_again(batch, notes)
            self.days.admit_until()
            admitted += self._admit_again(columns, notes)
        if any(self.admission.later_symbols):
            for batch in batches:
                self._waiting.add(batch)
        return admitted

    def _admit_again(self, columns: Columns, notes: EntryNotes) -> int:
        """Admits what was judged for the day before; each row counts once, for its own day."""
        before = self.admission.rejected
        corrections = self._corrections
        malformed = corrections[_MALFORMED]
        admitted = self._admit(columns, notes)
        corrections[_MALFORMED] = malformed
        now = self.admission.rejected
        # Every row was judged once more: of either day it is out of session once, of neither twice.
        judged = admitted + sum(now.values()) - sum(before.values())
        unknown = now[_UNKNOWN_SYMBOL] - before[_UNKNOWN_SYMBOL]
        # What is ahead of the feed when the day begins is not of that day.
        ahead = now[_AHEAD] - before[_AHEAD]
        corrections[_AHEAD] -= ahead
        corrections[_UNKNOWN_SYMBOL] -= unknown
        corrections[_OUT_OF_SESSION] -= judged - unknown - ahead
        return admitted

    def _day_began(self) -> None:
        self._waiting.clear()
        self._first_identities = b""

    def _forget_later_days(self) -> None:
        """Events of later days had wrong timestamps, or are of no use any more."""
        self.admission.forget_later()
        self._waiting.clear()
