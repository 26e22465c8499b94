# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Sliding windows on a grid of 10 seconds; the way of most trades is inline in windows.pxd."""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint32_t

from fastcore.chains cimport (
    ChunkPool, Place, append, drop_first, element, fetch_chunk, first_place, free_chain, init_chain, insert_after,
    last_place, links_of, place_after, places_in, place_before, read_chain, write_chain,
)
from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef enum:
    WIDTH = sizeof(Bucket)

# class_of[d] of a bucket that is d buckets before the one of now: a window of n minutes
# begins 6 n buckets before it.
cdef signed char[BUCKETS] class_of
# By class, how far before that of now a bucket is not of it any more.
cdef int[WINDOWS] class_ends


cdef int fill_classes() except -1:
    cdef int d
    for d in range(BUCKETS - 1, -1, -1):
        class_of[d] = 0 if d <= NEWEST_CLASS else 1 if d <= 30 else 2 if d <= 60 else 3 if d <= 90 else 4 if d <= 180 else 5
        if class_of[d] < WINDOWS and class_of[d] != class_of[d + 1]:
            class_ends[class_of[d]] = d + 1
    return 0


fill_classes()


cdef void init_window(Window* window) noexcept nogil:
    init_chain(&window.buckets)
    window.summed = NOTHING_SUMMED
    window.before_price = 0
    window.before_time = -1


cdef void free_window(ChunkPool* pool, Window* window) noexcept nogil:
    free_chain(pool, &window.buckets)
    init_window(window)


cdef void add_price_outside(Window* window, int64_t time_ns, double price) noexcept nogil:
    """A price older than every bucket."""
    if time_ns >= window.before_time:
        window.before_time = time_ns
        window.before_price = price


cdef Bucket* other_bucket(ChunkPool* pool, Window* window, int64_t number) except? NULL nogil:
    """A bucket that is not the newest, or a new one; NULL for one that is older than all that are kept."""
    cdef const Bucket* newest = newest_bucket(window)
    cdef const Bucket* first
    cdef Bucket* bucket
    cdef Place place
    cdef int32_t older
    if newest == NULL or number > newest.number:
        bucket = <Bucket*>append(pool, &window.buckets, WIDTH)
        window.summed = ONE_MISSING if window.summed == ALL_SUMMED else NOTHING_SUMMED
    else:
        window.summed = NOTHING_SUMMED
        if number <= newest.number - BUCKETS:
            return NULL
        place = last_place(&window.buckets, WIDTH)
        older = window.buckets.count
        while older and (<const Bucket*>element(pool, WIDTH, place)).number > number:
            place = place_before(pool, WIDTH, place)
            older -= 1
        if older:
            bucket = <Bucket*>element(pool, WIDTH, place)
            if bucket.number == number:
                return bucket
        bucket = <Bucket*>insert_after(pool, &window.buckets, WIDTH, place)
    bucket.number = <int32_t>number
    bucket.trades = 0
    bucket.volume = bucket.dollars = bucket.largest = 0
    bucket.price = 0
    bucket.price_time = -1
    bucket.high = -INFINITY
    bucket.low = INFINITY
    first = <const Bucket*>element(pool, WIDTH, first_place(&window.buckets))
    while first.number <= number - BUCKETS:
        if first.price_time >= 0:
            add_price_outside(window, first.price_time, first.price)
        drop_first(pool, &window.buckets, WIDTH)
        first = <const Bucket*>element(pool, WIDTH, first_place(&window.buckets))
    return bucket


cdef inline void add_bucket(WindowSums* sums, const Bucket* bucket, int64_t now_number) noexcept nogil:
    cdef int64_t age = now_number - bucket.number
    # Ahead of now only in bytes that no state has written.
    cdef int k = WINDOWS if age >= BUCKETS else class_of[age] if age >= 0 else 0
    sums.volume[k] += bucket.volume
    if bucket.price_time > sums.price_time[k]:
        sums.price_time[k] = bucket.price_time
        sums.price[k] = bucket.price
    if k < WINDOWS:
        sums.until = min(sums.until, bucket.number + class_ends[k])
        sums.high[k] = max(sums.high[k], bucket.high)
        sums.low[k] = min(sums.low[k], bucket.low)
    if k < SHORT_WINDOWS:
        sums.dollars[k] += bucket.dollars
        sums.trades[k] += bucket.trades
        sums.largest[k] = max(sums.largest[k], bucket.largest)


cdef void window_sums(
    const ChunkPool* pool, const Window* window, int32_t count, int64_t now_number, WindowSums* sums
) noexcept nogil:
    """Adds up the first `count` buckets by class, always in their order, so the sums are the same in every copy."""
    cdef int k
    cdef int32_t i, run, left = count
    cdef uint32_t after
    cdef const Bucket* bucket
    cdef Place place = first_place(&window.buckets)
    sums.until = NEVER
    for k in range(WINDOWS + 1):
        sums.volume[k] = 0
        sums.price[k] = 0
        sums.price_time[k] = -1
    for k in range(WINDOWS):
        sums.high[k] = -INFINITY
        sums.low[k] = INFINITY
    for k in range(SHORT_WINDOWS):
        sums.dollars[k] = sums.trades[k] = sums.largest[k] = 0
    while left > 0:
        after = links_of(pool, place.chunk).after
        fetch_chunk(pool, after)
        run = min(left, places_in(place.chunk, WIDTH) - place.i)
        bucket = <const Bucket*>element(pool, WIDTH, place)
        left -= run
        place.chunk = after
        place.i = 0
        for i in range(run):
            add_bucket(sums, bucket + i, now_number)
    if window.before_time > sums.price_time[WINDOWS]:
        sums.price_time[WINDOWS] = window.before_time
        sums.price[WINDOWS] = window.before_price


# ---- as bytes ----

cdef int write_window(Writer* writer, const ChunkPool* pool, const Window* window) except -1:
    cdef int64_t count = window.buckets.count
    write_block(writer, &window.before_price, sizeof(double))
    write_block(writer, &window.before_time, sizeof(int64_t))
    write_block(writer, &count, sizeof(int64_t))
    write_chain(writer, pool, &window.buckets, WIDTH)
    return 0


cdef int read_window(Cursor* cursor, ChunkPool* pool, Window* window) except -1:
    """ValueError when the bytes end early or are no buckets in order; `window`, fresh, can be freed in any case."""
    cdef int64_t count, i
    cdef int32_t before = -1
    cdef const Bucket* bucket
    cdef Place place
    read_block(cursor, &window.before_price, sizeof(double))
    read_block(cursor, &window.before_time, sizeof(int64_t))
    read_block(cursor, &count, sizeof(int64_t))
    if not 0 <= count <= BUCKETS:
        raise ValueError(f"state: expected up to {BUCKETS} buckets in a window, was {count}")
    read_chain(cursor, pool, &window.buckets, WIDTH, <int32_t>count)
    place = first_place(&window.buckets)
    for i in range(count):
        bucket = <const Bucket*>element(pool, WIDTH, place)
        if bucket.number < 0 or bucket.number > <int32_t>1 << 30:
            raise ValueError("state: expected buckets of times since 1970, was something else")
        if bucket.number <= before:
            raise ValueError("state: expected buckets in order, was another order")
        before = bucket.number
        place = place_after(pool, WIDTH, place)
    return 0
