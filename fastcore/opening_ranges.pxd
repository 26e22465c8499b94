# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# High and low of the first minutes of the regular session. Apart from the rows: only the first hour changes them.
#
# All begin at the open, and what fixes one range fixes all shorter ones, so each lies within the next.

from libc.stdint cimport int64_t

cdef enum:
    RANGES = 5                  # of 1, 5, 15, 30 and 60 minutes

cdef struct HighLow:
    double high
    double low

cdef struct OpeningRange:
    HighLow[RANGES] minutes     # the shortest first; NaN without a trade
    int64_t bar_end             # of the symbol's newest bar, -1 without one; not kept up once all ranges are over
    int64_t unused              # so that no pair lies in two lines of the cache


cdef void init_range(OpeningRange* range_) noexcept nogil
# Ends of the ranges of a day that opens at `open_ns`.
cdef void find_range_ends(int64_t open_ns, int64_t* ends) noexcept nogil
# A bar of a symbol without trades: the newest one before it fixes the ranges as trades do. True if a range has changed.
cdef bint widen_by_bar(
    OpeningRange* range_, int64_t open_ns, const int64_t* ends, int64_t start_ns, int64_t end_ns, double high, double low
) noexcept nogil


cdef inline bint widen_by_trade(
    OpeningRange* range_, const int64_t* ends, int64_t newest_ns, int64_t time_ns, double price
) noexcept nogil:
    """A regular trade, from the open on; True if a range has changed.

    `newest_ns` is the time of the symbol's newest trade that set the price before it, which fixes the ranges that
    were over then.
    """
    cdef int64_t moment_ns = newest_ns if newest_ns > time_ns else time_ns
    cdef bint has_changed = False
    cdef int k = 0
    while k < RANGES and ends[k] <= moment_ns:
        k += 1
    # What lies within a range lies within those after it.
    while k < RANGES and not (range_.minutes[k].high >= price and range_.minutes[k].low <= price):
        if not (range_.minutes[k].high >= price):
            range_.minutes[k].high = price
        if not (range_.minutes[k].low <= price):
            range_.minutes[k].low = price
        has_changed = True
        k += 1
    return has_changed
