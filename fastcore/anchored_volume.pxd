# The day's shares and dollars of a symbol: those of the newest bar that says
# them, and of the trades at or after that bar's end.
#
# A bar comes seconds after its end, when trades behind it have been counted
# already. So trades are kept by second until a bar covers them; bars end on
# whole seconds. However late a bar comes, the sums are exact.

from libc.stdint cimport int32_t, int64_t

from fastcore.wire cimport Cursor, Writer

cdef struct Second:
    int64_t second              # since 1970 UTC
    double shares
    double dollars

cdef struct AnchoredVolume:
    int64_t end                 # second at which the newest bar ended; -1 without one
    double bar_shares
    double bar_dollars          # NaN when not known
    double shares               # of the trades at or after `end`
    double dollars
    int64_t head                # seconds[head .. head + count) are kept, ascending
    int64_t count
    int64_t capacity
    Second* seconds


cdef void init_volume(AnchoredVolume* volume) noexcept nogil
cdef void free_volume(AnchoredVolume* volume) noexcept nogil
cdef int add_second(AnchoredVolume* volume, int64_t second, double shares, double dollars) except -1 nogil
cdef int anchor(AnchoredVolume* volume, int64_t end, double shares, double dollars) except -1 nogil
cdef double shares_after(const AnchoredVolume* volume, int64_t end) noexcept nogil


cdef inline int add_trade(AnchoredVolume* volume, int64_t second, double shares, double dollars) except -1 nogil:
    """One trade; nothing when the newest bar covers it."""
    cdef Second* last
    if second < volume.end:
        return 0
    volume.shares += shares
    volume.dollars += dollars
    if volume.count:
        last = &volume.seconds[volume.head + volume.count - 1]
        if last.second == second:
            last.shares += shares
            last.dollars += dollars
            return 0
        if last.second < second and volume.head + volume.count < volume.capacity:
            last[1].second = second
            last[1].shares = shares
            last[1].dollars = dollars
            volume.count += 1
            return 0
    return add_second(volume, second, shares, dollars)


cdef inline double total_shares(const AnchoredVolume* volume) noexcept nogil:
    return volume.shares if volume.end < 0 else volume.bar_shares + volume.shares


cdef inline double total_dollars(const AnchoredVolume* volume) noexcept nogil:
    return volume.dollars if volume.end < 0 else volume.bar_dollars + volume.dollars


cdef int write_volume(Writer* writer, const AnchoredVolume* volume) except -1
cdef int read_volume(Cursor* cursor, AnchoredVolume* volume) except -1
