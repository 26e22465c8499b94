# High and low of the first minutes of the regular session. Apart from the rows: only the first hour changes them.

from libc.stdint cimport int64_t

cdef enum:
    RANGES = 5                  # of 1, 5, 15, 30 and 60 minutes

cdef struct OpeningRange:
    double[RANGES] high
    double[RANGES] low
    int64_t bar_end             # of the symbol's newest bar, -1 without one; not kept up once all ranges are over


cdef void init_range(OpeningRange* range_) noexcept nogil
# Ends of the ranges of a day that opens at `open_ns`, and of the longest.
cdef int64_t range_end(int64_t open_ns, int k) noexcept nogil
cdef int64_t last_range_end(int64_t open_ns) noexcept nogil
# A regular trade, from the open on. `newest_ns`: the time of the symbol's newest trade that set the price before it, which
# fixes the ranges that were over then. True if a range has changed.
cdef bint widen_by_trade(
    OpeningRange* range_, int64_t open_ns, int64_t newest_ns, int64_t time_ns, double price
) noexcept nogil
# A bar of a symbol without trades: the newest one before it fixes the ranges in the same way.
cdef bint widen_by_bar(
    OpeningRange* range_, int64_t open_ns, int64_t start_ns, int64_t end_ns, double high, double low
) noexcept nogil
