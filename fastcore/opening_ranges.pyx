# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Opening ranges; docs/semantics.md, "Opening range", has the definition."""

from libc.stdint cimport int64_t

cdef double NAN = float("nan")
cdef int64_t MINUTE_NS = 60_000_000_000
cdef int[RANGES] MINUTES
MINUTES[:] = [1, 5, 15, 30, 60]


cdef void init_range(OpeningRange* range_) noexcept nogil:
    cdef int k
    for k in range(RANGES):
        range_.high[k] = range_.low[k] = NAN
    range_.bar_end = -1


cdef int64_t range_end(int64_t open_ns, int k) noexcept nogil:
    return open_ns + MINUTES[k] * MINUTE_NS


cdef int64_t last_range_end(int64_t open_ns) noexcept nogil:
    return range_end(open_ns, RANGES - 1)


cdef inline bint widen(OpeningRange* range_, int k, double high, double low) noexcept nogil:
    # Written so that NaN, which is "none yet", gives way.
    cdef bint is_wider = not (range_.high[k] >= high and range_.low[k] <= low)
    if not (range_.high[k] >= high):
        range_.high[k] = high
    if not (range_.low[k] <= low):
        range_.low[k] = low
    return is_wider


cdef bint widen_by_trade(
    OpeningRange* range_, int64_t open_ns, int64_t newest_ns, int64_t time_ns, double price
) noexcept nogil:
    cdef int k
    cdef int64_t end_ns
    cdef bint has_changed = False
    for k in range(RANGES):
        end_ns = range_end(open_ns, k)
        if time_ns < end_ns and newest_ns < end_ns and widen(range_, k, price, price):
            has_changed = True
    return has_changed


cdef bint widen_by_bar(
    OpeningRange* range_, int64_t open_ns, int64_t start_ns, int64_t end_ns, double high, double low
) noexcept nogil:
    cdef int k
    cdef bint has_changed = False
    if start_ns < open_ns:
        return False
    for k in range(RANGES):
        if end_ns <= range_end(open_ns, k) and range_.bar_end <= range_end(open_ns, k):
            has_changed = widen(range_, k, high, low) or has_changed
    return has_changed
