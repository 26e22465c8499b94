# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Shares, dollars, trades and prices of the last half hour on a grid of 10 seconds.
#
# A window at mark(n) = now rounded down to 10 s, minus n minutes, begins at a
# bucket's edge, so buckets are all that has to be kept. There is one for each
# 10 seconds with a trade, in order; what is more than 191 behind the newest is
# older than every mark, and only its last price still counts.

from libc.stdint cimport int32_t, int64_t, uint32_t

from fastcore.chains cimport Chain, ChunkPool, Place, element, last_place, place_before
from fastcore.wire cimport Cursor, Writer

cdef enum:
    BUCKETS = 192               # from the oldest kept to the newest, at least 181
    WINDOWS = 5                 # 1, 5, 10, 15 and 30 minutes
    SHORT_WINDOWS = 2           # 1 and 5 minutes: of dollars, trades and the largest print
    RANGE_WINDOWS = 3           # 5, 15 and 30 minutes: of highs and lows
    NEWEST_CLASS = 6            # buckets of the last minute are so many before that of now, at most
    NEVER = 2147483647          # no bucket of now
    GRID_NS = 1_000_000_000     # times 10, see grid_of: enums hold 32 bits

# What the OlderSums of a window (window_sums.pxd) hold.
cdef enum:
    NOTHING_SUMMED = 0
    ALL_SUMMED = 1              # all buckets but the newest, none of which has changed since
    # All but the newest and the one before it, which was the newest when they were added up and is at most a minute
    # older than the newest is now.
    ONE_MISSING = 2

# One line of the cache, in which a trade changes all that it changes of its window.
cdef struct Bucket:
    int32_t number              # time / 10 s
    uint32_t trades             # volume-eligible
    double volume
    double dollars
    double largest              # shares of the largest trade; 0 without one
    double price                # the newest price in it
    int64_t price_time          # -1 without one
    double high                 # of the prices in it; -inf without one
    double low                  # inf without one

cdef struct Window:
    Chain buckets               # ascending
    int64_t summed              # one of the values above
    double before_price         # the newest price older than the buckets
    int64_t before_time         # -1 without one


cdef inline int64_t grid_of(int64_t time_ns) noexcept nogil:
    """The number of the 10-second bucket; times are after 1970."""
    return time_ns // (10 * <int64_t>GRID_NS)


cdef void init_window(Window* window) noexcept nogil
cdef void free_window(ChunkPool* pool, Window* window) noexcept nogil
cdef Bucket* other_bucket(ChunkPool* pool, Window* window, int64_t number) except? NULL nogil
cdef void add_price_outside(Window* window, int64_t time_ns, double price) noexcept nogil


cdef inline Bucket* newest_bucket(const Window* window) noexcept nogil:
    """NULL without one."""
    return <Bucket*>window.buckets.newest


cdef inline const Bucket* bucket_before_newest(const ChunkPool* pool, const Window* window) noexcept nogil:
    """Of a window of two buckets or more."""
    cdef Place newest = last_place(&window.buckets, sizeof(Bucket))
    return <const Bucket*>element(pool, sizeof(Bucket), place_before(pool, sizeof(Bucket), newest))


cdef inline Bucket* bucket_at(ChunkPool* pool, Window* window, int64_t number) except? NULL nogil:
    """The bucket, which is made where there is none; NULL for one that is older than all that are kept."""
    cdef Bucket* newest = newest_bucket(window)
    if newest != NULL and newest.number == number:
        return newest
    return other_bucket(pool, window, number)


cdef inline void take_prices(Bucket* bucket, int64_t time_ns, double price, double high, double low) noexcept nogil:
    if time_ns >= bucket.price_time:
        bucket.price = price
        bucket.price_time = time_ns
    # Chosen, not branched to: which one it is cannot be foreseen.
    bucket.high = high if high > bucket.high else bucket.high
    bucket.low = low if low < bucket.low else bucket.low


cdef inline int window_add(
    ChunkPool* pool, Window* window, int64_t time_ns, double size, double dollars, bint has_volume, bint sets_price,
    double price
) except -1 nogil:
    """A trade; late ones go where they belong."""
    cdef Bucket* bucket = bucket_at(pool, window, grid_of(time_ns))
    if bucket == NULL:
        if sets_price:
            add_price_outside(window, time_ns, price)
        return 0
    if has_volume:
        bucket.volume += size
        bucket.dollars += dollars
        bucket.trades += 1
        bucket.largest = size if size > bucket.largest else bucket.largest
    if sets_price:
        take_prices(bucket, time_ns, price, price, price)
    return 0


cdef inline int window_add_bar(
    ChunkPool* pool, Window* window, int64_t time_ns, double volume, double dollars, double close, double high,
    double low
) except -1 nogil:
    """A bar that stands in for trades, the number and sizes of which are not known."""
    cdef Bucket* bucket = bucket_at(pool, window, grid_of(time_ns))
    if bucket == NULL:
        add_price_outside(window, time_ns, close)
        return 0
    bucket.volume += volume
    bucket.dollars += dollars
    take_prices(bucket, time_ns, close, high, low)
    return 0


cdef int write_window(Writer* writer, const ChunkPool* pool, const Window* window) except -1
cdef int read_window(Cursor* cursor, ChunkPool* pool, Window* window) except -1
