# One-minute bars of all symbols: the vendor's, and those made from trades where
# the vendor sends none.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from fastcore.columns cimport BarSpans, TradeSpans
from fastcore.market_state cimport MarketState

cdef enum:
    HELD = 4                    # minutes of a symbol that trades may still add to

# The trades of one minute of one symbol.
cdef struct Minute:
    int64_t number              # since 1970 UTC; -1 none
    int64_t open_time           # of the price-setting trades
    int64_t close_time
    double open
    double close
    double high                 # NaN before the first trade that may set it
    double low
    double shares               # volume-eligible
    double dollars
    int64_t trades              # volume-eligible
    uint8_t has_bar             # the vendor's has come
    uint8_t is_new              # trades have come that no bar given out has

cdef struct MinuteBar:
    uint32_t symbol_id
    uint8_t is_made
    int64_t start_ns
    double open
    double high
    double low
    double close
    double volume
    double vwap                 # NaN absent
    double trades               # NaN absent

cdef class MinuteBars:
    cdef readonly int64_t now_ns            # newest event or watermark seen here
    cdef readonly int64_t whole_from_ns     # minutes before it are not made; -1: from the next one on
    cdef readonly uint64_t late_trades      # trades older than what is held
    cdef readonly uint64_t odd_bars         # vendor's minute bars that begin within a minute
    cdef MarketState state
    cdef Minute* minutes                    # [symbol id * HELD + minute % HELD]
    cdef int64_t* newest                    # [symbol id], the newest minute seen
    cdef int32_t capacity
    cdef int64_t swept_second
    cdef MinuteBar* ready
    cdef readonly Py_ssize_t ready_count   # bars to be taken
    cdef Py_ssize_t ready_room

    cdef int _grow(self, int32_t count) except -1
    cdef void _advance(self, int64_t time_ns) noexcept
    cdef Minute* _minute(self, uint32_t symbol_id, int64_t number) except? NULL
    cdef int _apply_trades(self, const TradeSpans* spans) except -1
    cdef int _apply_bars(self, const BarSpans* spans) except -1
    cdef int _sweep(self, int64_t wait_ns) except -1
    cdef int _settle(self, uint32_t symbol_id, Minute* minute) except -1
    cdef int _give_out(self, const MinuteBar* bar) except -1
