"""The copy of the market that analytics keeps: no I/O, no clock, no waiting.

It needs no lists: it holds a MarketState alone, without windows, and brings
derived columns to now only when a request needs them.
"""

import math
from array import array
from collections import deque
from datetime import UTC, datetime, time, timedelta
from typing import Final

from fastcore.market import state_of
from fastcore.market_state import MarketState
from fastcore.measures import Measures, measures, shown, slot_of_now, volume_curve, volumes_today
from fastcore.minute_bars import MinuteBars
from services.analytics.bar_queue import BarQueue, Mark
from services.kit.rpc.frames import Frame
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import NEW_YORK, NS_PER_MINUTE
from services.kit.runtime.errors import NOT_READY, UNKNOWN_SYMBOL
from services.market.dates import iso_date
from services.market.symbols import spellings

# The day's volume slots.
SLOTS: Final = 192
SLOT: Final = timedelta(minutes=5)
FIRST_SLOT: Final = time(4)
# Bars that are made wait 10 s beyond their minute: the one before this may still be open.
OPEN_MINUTES: Final = 2
# Frames that wait while what was missed is read again.
MAX_WAITING_BYTES: Final = 64 * 1024 * 1024


class AnalyticsCore:
    """The state, its minute bars, and the volumes at the ends of the day's slots.

    Before the first snapshot, or the first frame of an epoch, there is no state,
    and every request raises NOT_READY.
    """

    def __init__(self, bars: BarQueue) -> None:
        self.queue = bars
        # The last frame applied; None when a snapshot is needed.
        self.position: Position | None = None
        # Grows with every other state.
        self.generation = 0
        # By slot that has ended: volume_today by symbol id, NaN absent.
        self.slot_volumes: dict[int, array[float]] = {}
        self.slot = 0
        self._state: MarketState | None = None
        self._bars: MinuteBars | None = None
        self._symbols: list[str] = []
        # (start of a minute, the position before its first event), the newest last.
        self._minutes: deque[tuple[int, Position]] = deque(maxlen=OPEN_MINUTES + 1)
        self._date = ""
        self._waiting: list[bytes] | None = None
        self._waiting_bytes = 0
        # Knows the trades of the minutes that were open when frames began to wait.
        self._bars_before: MinuteBars | None = None
        self._is_marking = True

    @property
    def is_loaded(self) -> bool:
        return self._state is not None

    @property
    def state(self) -> MarketState:
        """The state; raises NOT_READY while there is none."""
        if self._state is None:
            raise NOT_READY.error("the market's state is not here yet: the sequencer has not sent it")
        return self._state

    # --- the copy of the market

    def apply(self, frame: Frame) -> None:
        """Applies the next frame; raises ValueError when it cannot be applied."""
        if frame.begins_market:
            self._begin(MarketState(keeps_windows=False))
        state, before = self.state, self.position
        state.apply(frame.encoded)
        self.position = frame.position
        if self._waiting is None:
            self._feed_bars(frame.encoded, before)
        else:
            self._keep_waiting(bytes(frame.encoded))
        self._follow_slot(state)

    def load(self, data: bytes, position: Position) -> None:
        """Replaces the state by that of a snapshot of the market; raises ValueError when it cannot be read."""
        self._begin(state_of(data, keeps_windows=False))
        self.position = position

    def forget(self) -> None:
        """Drops the position, so that a snapshot comes next; answers continue from what there is."""
        self.position = None

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
        """Keeps the volumes of a slot when it ends."""
        if state.trading_date != self._date:
            self._date = state.trading_date
            self.slot_volumes.clear()
            self.slot = slot_of_now(state)
        elif (slot := slot_of_now(state)) != self.slot:
            # Before the day's first event the slot is that of no time.
            if slot == self.slot + 1:
                self.slot_volumes[self.slot] = volumes_today(state)
            self.slot = slot

    # --- bars that were missed while no process stored them

    def begin_catch_up(self, whole_from_ns: int) -> None:
        """Lets frames wait until end_catch_up; older ones come by replay(), whose minutes are whole from there on."""
        if self._waiting is None:
            self._waiting = []
            self._waiting_bytes = 0
            self._bars_before = self._bars
        self.collect_bars()
        # No position counts as stored while something before it is missing.
        self.queue.mark = None
        self._bars = MinuteBars(self.state, whole_from_ns)

    def replay(self, frame: memoryview) -> None:
        """Takes the bars of a frame from before the state was taken; raises ValueError when it cannot be read."""
        assert self._bars is not None, "begin_catch_up() first"
        self._bars.apply(frame)

    def end_catch_up(self, is_whole: bool) -> None:
        """Takes the frames that waited, after what was missed; where that is lost, after the bars of before."""
        self.collect_bars()
        if not is_whole and self._waiting is not None:
            self._bars = self._bars_before
        self._bars_before = None
        waiting, self._waiting = self._waiting, None
        for frame in waiting or ():
            self._feed_bars(frame, None)

    def give_up_catch_up(self) -> None:
        """Ends the catch-up without what was missed. Nothing counts as stored any more: the next process reads it."""
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

    # --- answers

    @property
    def symbols(self) -> list[str]:
        """All symbols, by id."""
        if len(self._symbols) != self.state.count:
            self._symbols = self.state.symbols
        return self._symbols

    def symbol_id(self, symbol: str) -> int:
        """Returns a symbol's id; raises INVALID_SYMBOL, UNKNOWN_SYMBOL."""
        state = self.state
        for spelling in spellings(symbol):
            if (symbol_id := state.symbol_id(spelling)) >= 0:
                return symbol_id
        raise UNKNOWN_SYMBOL.error(f"the market has no symbol {symbol!r}", symbol=symbol)

    def measures(self, symbol_id: int) -> Measures:
        """A symbol's measures as of now."""
        return measures(self.state, symbol_id)

    def usual_volumes(self, symbol_id: int) -> list[float]:
        """The mean cumulative volumes at the ends of all slots; empty when there is no mean."""
        return volume_curve(self.state, symbol_id)

    def slot_volume(self, slot: int, symbol_id: int) -> float | None:
        """Today's cumulative volume at the end of a slot; None while it has not ended, or its end was not seen."""
        volumes = self.slot_volumes.get(slot)
        if volumes is None or symbol_id >= len(volumes) or math.isnan(volumes[symbol_id]):
            return None
        return shown(volumes[symbol_id])

    @property
    def day_start(self) -> datetime:
        """The beginning of the first slot of the trading day; raises NOT_READY before one is known."""
        day = iso_date(self.state.trading_date)
        if day is None:
            raise NOT_READY.error("no trading day is known yet")
        return datetime.combine(day, FIRST_SLOT, NEW_YORK).astimezone(UTC)

    def collect_bars(self) -> None:
        """Moves the finished bars to the queue, with the mark that holds once they are stored."""
        if self._bars is None or self._state is None:
            return
        for bar in self._bars.take():
            self.queue.put(self.symbols[bar.symbol_id], bar)
        if self.position is not None and self._waiting is None and self._is_marking:
            self.queue.mark = self._mark(self.position)

    def _mark(self, position: Position) -> Mark:
        assert self._bars is not None, "minute bars go with a state"
        if len(self._minutes) > OPEN_MINUTES:
            start, before = self._minutes[0]
            if start >= self._bars.whole_from_ns:
                return Mark(position, before, start)
        return Mark(position, None, 0)


def _next_minute(now_ns: int) -> int:
    """Returns the start of the first minute after now; -1 where the first event has to say it."""
    return -(-now_ns // NS_PER_MINUTE) * NS_PER_MINUTE if now_ns > 0 else -1
