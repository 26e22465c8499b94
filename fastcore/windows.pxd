# Shares and prices of the last half hour on a grid of 10 seconds.
#
# A window at mark(n) = now rounded down to 10 s, minus n minutes, begins at a
# bucket's edge, so buckets are all that has to be kept: 181 of them are in the
# longest window, and what leaves the ring is older than every mark.

from libc.stdint cimport int64_t, uint64_t

from fastcore.wire cimport Cursor, Writer

cdef enum:
    BUCKETS = 192               # 3 x 64, at least 181
    WORDS = 3
    WINDOWS = 5                 # 1, 5, 10, 15 and 30 minutes
    GRID_NS = 1_000_000_000     # times 10, see grid_of: enums hold 32 bits

cdef struct Bucket:
    int64_t number              # time / 10 s
    double volume
    double price                # the newest price in it; NaN without one
    int64_t price_time

cdef struct Window:
    uint64_t[WORDS] occupied
    double before_price         # the newest price that has left the ring
    int64_t before_time
    int64_t[3] unused           # buckets begin with a line of the cache
    Bucket[BUCKETS] buckets

# What the windows hold at one moment: class 0 is the last minute, 1 from there
# to five minutes ago and so on, class 5 what is older than half an hour.
cdef struct WindowSums:
    double[WINDOWS + 1] volume
    double[WINDOWS + 1] price       # the newest of its class
    int64_t[WINDOWS + 1] price_time # -1 without one


cdef inline int64_t grid_of(int64_t time_ns) noexcept nogil:
    """The number of the 10-second bucket; times are after 1970."""
    return time_ns // (10 * <int64_t>GRID_NS)


cdef Window* new_window() except NULL nogil
cdef void add_price_outside(Window* window, int64_t time_ns, double price) noexcept nogil


cdef inline Bucket* bucket_at(Window* window, int64_t number) noexcept nogil:
    """The bucket of that number, made when it is new; NULL when it has left the ring."""
    cdef int place = <int>(number % BUCKETS)
    cdef Bucket* bucket = &window.buckets[place]
    cdef uint64_t bit = <uint64_t>1 << (place & 63)
    if window.occupied[place >> 6] & bit:
        if bucket.number == number:
            return bucket
        if bucket.number > number:
            return NULL
        if bucket.price_time >= 0:
            add_price_outside(window, bucket.price_time, bucket.price)
    window.occupied[place >> 6] |= bit
    bucket.number = number
    bucket.volume = 0
    bucket.price = 0
    bucket.price_time = -1
    return bucket


cdef inline void window_add(
    Window* window, int64_t time_ns, double volume, bint sets_price, double price
) noexcept nogil:
    """Shares (0 for none) and, if it sets one, a price; late ones go where they belong."""
    cdef Bucket* bucket = bucket_at(window, grid_of(time_ns))
    if bucket == NULL:
        if sets_price:
            add_price_outside(window, time_ns, price)
        return
    bucket.volume += volume
    if sets_price and time_ns >= bucket.price_time:
        bucket.price = price
        bucket.price_time = time_ns


cdef void window_sums(const Window* window, int64_t now_number, WindowSums* sums) noexcept nogil
cdef void no_sums(WindowSums* sums) noexcept nogil
cdef int write_window(Writer* writer, const Window* window) except -1
cdef Window* read_window(Cursor* cursor) except NULL
