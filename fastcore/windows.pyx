# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Sliding windows on a grid of 10 seconds; the way of most trades is inline in windows.pxd."""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t

from fastcore.chains cimport (
    ChunkPool, Place, append, drop_first, element, first_place, free_chain, init_chain, insert_after, last_place,
    place_after, place_before, read_chain, write_chain,
)
from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef enum:
    WIDTH = sizeof(Bucket)


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
        # Not after a pause: what has been added up could be among the buckets that are dropped. No more than a minute
        # after the newest, which was not ahead of now, less than number - BUCKETS is older than every window.
        window.summed = (
            ONE_MISSING if window.summed == ALL_SUMMED and number <= newest.number + NEWEST_CLASS else NOTHING_SUMMED
        )
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
    cdef int32_t before = -1, first = 0
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
        if i == 0:
            first = bucket.number
            if window.before_time >= 0 and grid_of(window.before_time) >= first:
                raise ValueError("state: expected a price from before a window's buckets, was a later one")
        if bucket.number - first >= BUCKETS:
            raise ValueError(f"state: expected buckets of {BUCKETS} times ten seconds at most, was more")
        if bucket.price_time != -1 and grid_of(bucket.price_time) != bucket.number:
            raise ValueError("state: expected prices of a bucket's own ten seconds, was another time")
        before = bucket.number
        place = place_after(pool, WIDTH, place)
    return 0
