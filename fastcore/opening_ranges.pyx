# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Opening ranges; docs/semantics.md, "Opening range", has the definition. The way of trades is inline in the pxd file."""

from libc.stdint cimport int64_t

cdef double NAN = float("nan")
cdef int64_t MINUTE_NS = 60_000_000_000
cdef int[RANGES] MINUTES
MINUTES[:] = [1, 5, 15, 30, 60]


cdef void init_range(OpeningRange* range_) noexcept nogil:
    cdef int k
    for k in range(RANGES):
        range_.minutes[k].high = range_.minutes[k].low = NAN
    range_.bar_end = -1
    range_.unused = 0


cdef void find_range_ends(int64_t open_ns, int64_t* ends) noexcept nogil:
    cdef int k
    for k in range(RANGES):
        ends[k] = open_ns + MINUTES[k] * MINUTE_NS


cdef inline bint widen(HighLow* minutes, double high, double low) noexcept nogil:
    # Written so that NaN, which is "none yet", gives way.
    cdef bint is_wider = not (minutes.high >= high and minutes.low <= low)
    if not (minutes.high >= high):
        minutes.high = high
    if not (minutes.low <= low):
        minutes.low = low
    return is_wider


cdef bint widen_by_bar(
    OpeningRange* range_, int64_t open_ns, const int64_t* ends, int64_t start_ns, int64_t end_ns, double high, double low
) noexcept nogil:
    cdef int k
    cdef bint has_changed = False
    if start_ns < open_ns:
        return False
    for k in range(RANGES):
        if end_ns <= ends[k] and range_.bar_end <= ends[k]:
            has_changed = widen(&range_.minutes[k], high, low) or has_changed
    return has_changed
