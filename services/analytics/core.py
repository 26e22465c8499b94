"""The copy of the market that analytics keeps: no I/O, no clock, no waiting.

It needs no lists, so that it holds a MarketState alone, and brings derived
columns to now only when somebody asks.
"""

from array import array
from collections import deque
from typing import Final, NamedTuple

from fastcore.market import state_of
from fastcore.market_state import MarketState
from fastcore.measures import Measures, measures, slot_of_now
from fastcore.minute_bars import MinuteBars
from services.analytics.bar_queue import BarQueue
from services.kit.rpc.frames import FrameError, next_frame
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import NS_PER_MINUTE
from services.kit.runtime.errors import NOT_READY, UNKNOWN_SYMBOL
from services.market.symbols import spellings

# Bars that are made wait 10 s beyond their minute: the one before this may still be open.
OPEN_MINUTES: Final = 2
# Frames that wait while what was missed is read again.
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024


class Mark(NamedTuple):
    """Everything up to `position` has been stored.

    Read again from `whole_position` on, minutes from `whole_from_ns` on are seen as
    a whole; None when there is no such place.
    """

    position: Position
    whole_position: Position | None
    whole_from_ns: int


class AnalyticsCore:
    """The state, its minute bars, and the volumes at the ends of the day's slots.

    Until a whole state or the first frame of an epoch has come there is no state,
    and every question raises NOT_READY.
    """

    def __init__(self, bars: BarQueue) -> None:
        self.queue = bars
        # Grows with every other state.
        self.generation = 0
        # By slot that is over: volume_today by symbol id, NaN absent.
        self.slot_volumes: dict[int, array[float]] = {}
        self.slot = 0
        self._state: MarketState | None = None
        self._position: Position | None = None
        self._bars: MinuteBars | None = None
        self._symbols: list[str] = []
        # (minute's start, the position before its first event), the newest last.
        self._minutes: deque[tuple[int, Position]] = deque(maxlen=OPEN_MINUTES + 1)
        self._date = ""
        self._waiting: list[bytes] | None = None
        self._waiting_bytes = 0
        # Knows the trades of the minutes that were open when frames began to wait.
        self._bars_before: MinuteBars | None = None
        self._is_marking = True

    @property
    def position(self) -> Position | None:
        """The last frame applied; None without a state."""
        return self._position

    @property
    def is_loaded(self) -> bool:
        return self._state is not None

    @property
    def state(self) -> MarketState:
        """Raises NOT_READY while there is none."""
        if self._state is None:
            raise NOT_READY.error("the market's state is not here yet: the sequencer has not sent it")
        return self._state

    # --- what the frame reader feeds

    def apply(self, frame: memoryview) -> bool:
        """Applies the next encoded Frame; whether it began another market. Raises StreamHole, FrameError."""
        parts, begins = next_frame(frame, self._position)
        if begins:
            self._begin(MarketState())
        state, before = self._state, self._position
        assert state is not None, "a position goes with a state"
        try:
            state.apply(frame)
            self._position = Position(parts.epoch, parts.sequence)
            if self._waiting is None:
                self._feed_bars(frame, before)
            else:
                self._keep_waiting(bytes(frame))
        except ValueError as error:
            raise FrameError(f"frame {parts.epoch}/{parts.sequence} cannot be applied: {error}") from error
        self._follow_slot(state)
        return begins

    def load(self, data: bytes, position: Position) -> None:
        """Replaces the state by that of a whole market; raises FrameError when it cannot be read."""
        try:
            state = state_of(data)
        except ValueError as error:
            raise FrameError(f"whole state at {position} cannot be read: {error}") from error
        self._begin(state)
        self._position = position

    def forget(self) -> None:
        """Drops the position, so that a whole state is asked for; answers go on from what there is."""
        self._position = None

    def _begin(self, state: MarketState) -> None:
        self.collect_bars()
        self._state = state
        self._bars = MinuteBars(state, _next_minute(state.now_ns))
        self._symbols = state.symbols
        self._minutes.clear()
        self._waiting = self._bars_before = None
        self.generation += 1
        self.slot_volumes.clear()
        self.slot = slot_of_now(state)
        self._date = state.trading_date

    def _feed_bars(self, frame: memoryview | bytes, before: Position | None) -> None:
        bars = self._bars
        assert bars is not None, "minute bars go with a state"
        minute = bars.now_ns // NS_PER_MINUTE
        bars.apply(frame)
        if before is not None and bars.now_ns // NS_PER_MINUTE > minute:
            self._minutes.append((bars.now_ns // NS_PER_MINUTE * NS_PER_MINUTE, before))

    def _follow_slot(self, state: MarketState) -> None:
        """Keeps the volumes of a slot that has just ended."""
        if state.trading_date != self._date:
            self._date = state.trading_date
            self.slot_volumes.clear()
            self.slot = slot_of_now(state)
        elif (slot := slot_of_now(state)) != self.slot:
            # Before the day's first event the slot is that of no time.
            if slot == self.slot + 1:
                state.refresh()
                self.slot_volumes[self.slot] = state.column("volume_today")
            self.slot = slot

    # --- bars that were missed while this process was not there

    def begin_catch_up(self, whole_from_ns: int) -> None:
        """Frames wait from now on, until end_catch_up; older ones come by replay(), minutes whole from there on."""
        if self._waiting is None:
            self._waiting = []
            self._waiting_bytes = 0
            self._bars_before = self._bars
        self.collect_bars()
        # No place counts as stored while something before it is missing.
        self.queue.mark = None
        self._bars = MinuteBars(self.state, whole_from_ns)

    def replay(self, frame: memoryview) -> None:
        """Takes the bars of a frame from before the state was taken; raises ValueError when it cannot be read."""
        assert self._bars is not None, "begin_catch_up() first"
        self._bars.apply(frame)

    def end_catch_up(self, is_whole: bool) -> None:
        """What waited goes on; after all that was missed, or, when that did not come, after what was there before."""
        self.collect_bars()
        if not is_whole and self._waiting is not None:
            self._bars = self._bars_before
        self._bars_before = None
        waiting, self._waiting = self._waiting, None
        for frame in waiting or ():
            self._feed_bars(frame, None)

    def give_up_catch_up(self) -> None:
        """As when what was missed did not come, but nothing counts as stored any more: the next process reads it."""
        self.end_catch_up(is_whole=False)
        self._is_marking = False
        self.queue.mark = None

    @property
    def is_catching_up(self) -> bool:
        return self._waiting is not None

    def _keep_waiting(self, frame: bytes) -> None:
        assert self._waiting is not None, "begin_catch_up() first"
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self.end_catch_up(is_whole=False)

    # --- what is asked

    @property
    def symbols(self) -> list[str]:
        """All symbols, by id."""
        if len(self._symbols) != self.state.count:
            self._symbols = self.state.symbols
        return self._symbols

    def symbol_id(self, symbol: str) -> int:
        """Raises INVALID_SYMBOL, UNKNOWN_SYMBOL."""
        state = self.state
        for spelling in spellings(symbol):
            if (symbol_id := state.symbol_id(spelling)) >= 0:
                return symbol_id
        raise UNKNOWN_SYMBOL.error(f"the market has no symbol {symbol!r}", symbol=symbol)

    def measures(self, symbol_id: int) -> Measures:
        """What is known of a symbol now."""
        return measures(self.state, symbol_id)

    def collect_bars(self) -> None:
        """Hands the bars given out so far to the queue, with the mark that holds once they are stored."""
        if self._bars is None or self._state is None:
            return
        for bar in self._bars.take():
            self.queue.put(self.symbols[bar.symbol_id], bar)
        if self._position is not None and self._waiting is None and self._is_marking:
            self.queue.mark = self._mark(self._position)

    def _mark(self, position: Position) -> Mark:
        assert self._bars is not None, "minute bars go with a state"
        if len(self._minutes) > OPEN_MINUTES:
            start, before = self._minutes[0]
            if start >= self._bars.whole_from_ns:
                return Mark(position, before, start)
        return Mark(position, None, 0)


def _next_minute(now_ns: int) -> int:
    """The first minute that begins after now; -1 when it is for the first event to say."""
    return -(-now_ns // NS_PER_MINUTE) * NS_PER_MINUTE if now_ns > 0 else -1
