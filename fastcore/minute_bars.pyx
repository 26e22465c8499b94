# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""One-minute bars: the vendor's as they come, and for minutes without one those made from the trades."""

from libc.math cimport isnan, rint
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc

from fastcore.columns cimport BarSpans, TradeSpans, check_ids, check_times, parse_bars, parse_trades
from fastcore.day_table cimport DayBounds
from fastcore.derived_kernels cimport round6
from fastcore.market_state cimport MarketState
from fastcore.memory cimport ROOM
from fastcore.reference_frames cimport parse_watermark
from fastcore.trade_rules cimport COND_FORM_T, COND_OFFICIAL, RuleMasks
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_LENGTH, Cursor, Field, cursor_of, load_f64, load_i64, load_u32, load_u64, next_field,
    raise_wire_error,
)

from typing import NamedTuple

cdef enum:
    # The bodies of Frame that matter here.
    TRADES = 9
    BARS = 10
    WATERMARK = 13
    MINUTE_SPAN = 2

cdef double NAN = float("nan")
cdef int64_t NS = 1_000_000_000
cdef int64_t MINUTE_NS = 60 * NS
# The vendor's bars come some 2 s after their end.
cdef int64_t WAIT_NS = 10 * NS


class Bar(NamedTuple):
    """A minute's bar; see minute_bars.pyi."""

    symbol_id: int
    start_ns: int
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float | None
    trades: int | None
    is_made: bool


cdef class MinuteBars:
    """Gathers the one-minute bars of a stream that `state` follows.

    Only minutes from `whole_from_ns` on are made from trades; -1 stands for the
    first that begins after what is seen first. Not for several threads at once.
    """

    def __init__(self, MarketState state not None, int64_t whole_from_ns=-1):
        self.state = state
        self.whole_from_ns = whole_from_ns
        self.swept_second = -1

    def __dealloc__(self):
        free(self.minutes)
        free(self.newest)
        free(self.ready)

    def __reduce__(self):
        raise TypeError("MinuteBars cannot be pickled")

    def apply(self, const unsigned char[::1] frame not None):
        """Takes the next encoded Frame, after the state has. ValueError for one that cannot be read."""
        cdef Cursor cursor = cursor_of(&frame[0] if frame.shape[0] else NULL, frame.shape[0])
        cdef Field field
        cdef TradeSpans trades
        cdef BarSpans bars
        cdef int status = next_field(&cursor, &field)
        while status == WIRE_FIELD:
            if field.wire_type == WIRE_LENGTH and field.number == TRADES:
                parse_trades(field.data, field.length, &trades)
                check_ids(trades.symbol_id, trades.rows, self.state.count)
                check_times(trades.time_ns, trades.rows, b"TradeBatch.time_ns")
                self._apply_trades(&trades)
            elif field.wire_type == WIRE_LENGTH and field.number == BARS:
                parse_bars(field.data, field.length, &bars)
                check_ids(bars.symbol_id, bars.rows, self.state.count)
                check_times(bars.start_ns, bars.rows, b"BarBatch.start_ns")
                check_times(bars.end_ns, bars.rows, b"BarBatch.end_ns")
                self._apply_bars(&bars)
            elif field.wire_type == WIRE_LENGTH and field.number == WATERMARK:
                self._advance(parse_watermark(&field))
                if self.now_ns // NS != self.swept_second:
                    self._sweep(WAIT_NS)
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"Frame")
        return 0

    def take(self):
        """The bars given out since the last take, in order: of two of a minute the later holds."""
        cdef Py_ssize_t i
        cdef MinuteBar* bar
        bars = []
        for i in range(self.ready_count):
            bar = &self.ready[i]
            bars.append(Bar(
                bar.symbol_id, bar.start_ns, bar.open, bar.high, bar.low, bar.close, bar.volume,
                None if isnan(bar.vwap) else bar.vwap, None if isnan(bar.trades) else int(bar.trades),
                bar.is_made != 0,
            ))
        self.ready_count = 0
        return bars

    # ---- minutes ----

    cdef int _grow(self, int32_t count) except -1:
        """Room for `count` symbols; new ones hold nothing."""
        cdef int32_t i, room = max(count, 2 * self.capacity)
        cdef void* larger
        if count <= self.capacity:
            return 0
        larger = realloc(self.minutes, <size_t>room * HELD * sizeof(Minute))
        if larger == NULL:
            raise MemoryError(f"no memory for the minutes of {room} symbols")
        self.minutes = <Minute*>larger
        larger = realloc(self.newest, <size_t>room * sizeof(int64_t))
        if larger == NULL:
            raise MemoryError(f"no memory for the minutes of {room} symbols")
        self.newest = <int64_t*>larger
        for i in range(self.capacity * HELD, room * HELD):
            self.minutes[i].number = -1
        for i in range(self.capacity, room):
            self.newest[i] = -1
        self.capacity = room
        return 0

    cdef void _advance(self, int64_t time_ns) noexcept:
        """Now; the first decides from when on minutes are whole, when nothing else has."""
        if time_ns > self.now_ns:
            self.now_ns = time_ns
        if self.whole_from_ns < 0:
            self.whole_from_ns = (time_ns + MINUTE_NS - 1) // MINUTE_NS * MINUTE_NS

    cdef Minute* _minute(self, uint32_t symbol_id, int64_t number) except? NULL:
        """The symbol's minute, begun when it is new; NULL when it is no longer held."""
        cdef Minute* minute = &self.minutes[<size_t>symbol_id * HELD + <size_t>(number % HELD)]
        if number > self.newest[symbol_id]:
            self.newest[symbol_id] = number
        elif number <= self.newest[symbol_id] - HELD:
            return NULL
        if minute.number != number:
            self._settle(symbol_id, minute)
            minute.number = number
            minute.open_time = minute.close_time = -1
            minute.open = minute.close = minute.high = minute.low = NAN
            minute.shares = minute.dollars = 0
            minute.trades = 0
            minute.has_bar = minute.is_new = 0
        return minute

    cdef int _apply_trades(self, const TradeSpans* spans) except -1:
        cdef const DayBounds* day = &self.state.table.day
        cdef const RuleMasks* rules = &self.state.table.rules
        cdef Py_ssize_t i
        cdef uint32_t symbol_id
        cdef int64_t time_ns
        cdef uint64_t conditions, judged
        cdef double price, size
        cdef Minute* minute
        self._grow(self.state.count)
        for i in range(spans.rows):
            symbol_id = load_u32(spans.symbol_id, i)
            time_ns = load_i64(spans.time_ns, i)
            conditions = load_u64(spans.conditions, i)
            self._advance(time_ns)
            if time_ns < self.whole_from_ns or conditions & COND_OFFICIAL():
                continue
            minute = self._minute(symbol_id, time_ns // MINUTE_NS)
            if minute == NULL:
                self.late_trades += 1
                continue
            if minute.has_bar:
                continue
            # As in symbol_day.pyx: Form T counts outside regular hours.
            judged = conditions if (time_ns >= day.open and time_ns < day.close) else conditions & ~COND_FORM_T()
            price = load_f64(spans.price, i)
            minute.is_new = 1
            if not judged & rules.forbids_last:
                if minute.open_time < 0 or time_ns < minute.open_time:
                    minute.open = price
                    minute.open_time = time_ns
                if time_ns >= minute.close_time:
                    minute.close = price
                    minute.close_time = time_ns
            if not judged & rules.forbids_high_low:
                if not minute.high >= price:
                    minute.high = price
                if not minute.low <= price:
                    minute.low = price
            if not conditions & rules.forbids_volume:
                size = load_f64(spans.size, i)
                minute.shares += size
                minute.dollars += price * size
                minute.trades += 1
        return 0

    cdef int _apply_bars(self, const BarSpans* spans) except -1:
        cdef Py_ssize_t i
        cdef int64_t start
        cdef double average
        cdef MinuteBar bar
        cdef Minute* minute
        self._grow(self.state.count)
        for i in range(spans.rows):
            self._advance(load_i64(spans.end_ns, i))
        if spans.span != MINUTE_SPAN:
            return 0
        for i in range(spans.rows):
            start = load_i64(spans.start_ns, i)
            if start % MINUTE_NS:
                self.odd_bars += 1
                continue
            bar.symbol_id = load_u32(spans.symbol_id, i)
            minute = self._minute(bar.symbol_id, start // MINUTE_NS)
            if minute != NULL:
                minute.has_bar = 1
            average = load_f64(spans.average_size, i)
            bar.is_made = 0
            bar.start_ns = start
            bar.open = load_f64(spans.open, i)
            bar.high = load_f64(spans.high, i)
            bar.low = load_f64(spans.low, i)
            bar.close = load_f64(spans.close, i)
            bar.volume = load_f64(spans.volume, i)
            bar.vwap = load_f64(spans.vwap, i)
            if bar.vwap == 0:
                bar.vwap = NAN
            bar.trades = rint(bar.volume / average) if average > 0 else NAN
            self._give_out(&bar)
        return 0

    # ---- giving out ----

    cdef int _sweep(self, int64_t wait_ns) except -1:
        """Gives out the minutes that have waited long enough."""
        cdef int64_t last = (self.now_ns - wait_ns) // MINUTE_NS
        cdef Py_ssize_t i
        self.swept_second = self.now_ns // NS
        for i in range(<Py_ssize_t>self.capacity * HELD):
            if self.minutes[i].is_new and self.minutes[i].number < last:
                self._settle(<uint32_t>(i // HELD), &self.minutes[i])
        return 0

    cdef int _settle(self, uint32_t symbol_id, Minute* minute) except -1:
        """Gives out the minute's bar as its trades make it, if there is anything new to tell."""
        cdef MinuteBar bar
        if minute.number < 0 or minute.has_bar or not minute.is_new:
            return 0
        minute.is_new = 0
        # A bar needs all four prices and shares, as the vendor's do.
        if isnan(minute.open) or isnan(minute.high) or not minute.shares > 0:
            return 0
        bar.symbol_id = symbol_id
        bar.is_made = 1
        bar.start_ns = minute.number * MINUTE_NS
        bar.open = minute.open
        bar.close = minute.close
        # Some conditions set the last price and not the range.
        bar.high = max(minute.high, minute.open, minute.close)
        bar.low = min(minute.low, minute.open, minute.close)
        bar.volume = minute.shares
        bar.vwap = round6(minute.dollars / minute.shares)
        bar.trades = <double>minute.trades
        return self._give_out(&bar)

    cdef int _give_out(self, const MinuteBar* bar) except -1:
        cdef Py_ssize_t room
        cdef void* larger
        if self.ready_count == self.ready_room:
            room = max(<Py_ssize_t>ROOM, 2 * self.ready_room)
            larger = realloc(self.ready, room * sizeof(MinuteBar))
            if larger == NULL:
                raise MemoryError(f"no memory for {room} bars")
            self.ready = <MinuteBar*>larger
            self.ready_room = room
        self.ready[self.ready_count] = bar[0]
        self.ready_count += 1
        return 0
