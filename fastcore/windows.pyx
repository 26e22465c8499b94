# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Sliding windows on a grid of 10 seconds; the way of most trades is inline in windows.pxd."""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memmove

from fastcore.memory cimport aligned_block
from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef enum:
    FIRST_CAPACITY = 4
    # With so many, a window that is full has an eighth in front of its buckets, and grows no more.
    MOST_CAPACITY = BUCKETS * 8 // 7 + 1

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
    window.buckets = NULL
    window.head = window.count = window.capacity = window.is_summed = 0
    window.before_price = 0
    window.before_time = -1


cdef void free_window(Window* window) noexcept nogil:
    free(window.buckets)
    init_window(window)


cdef void add_price_outside(Window* window, int64_t time_ns, double price) noexcept nogil:
    """A price older than every bucket."""
    if time_ns >= window.before_time:
        window.before_time = time_ns
        window.before_price = price


cdef int make_room(Window* window) except -1 nogil:
    """One more place behind the last bucket."""
    cdef int32_t capacity
    cdef Bucket* larger
    if window.head + window.count < window.capacity:
        return 0
    if window.head >= max(window.capacity // 8, 1):
        memmove(window.buckets, window.buckets + window.head, window.count * sizeof(Bucket))
        window.head = 0
        return 0
    capacity = min(max(window.capacity + window.capacity // 2, FIRST_CAPACITY), MOST_CAPACITY)
    larger = <Bucket*>aligned_block(capacity * sizeof(Bucket))
    if larger == NULL:
        with gil:
            raise MemoryError(f"no memory for {capacity} buckets")
    if window.count:
        memcpy(larger, window.buckets + window.head, window.count * sizeof(Bucket))
    free(window.buckets)
    window.buckets = larger
    window.head = 0
    window.capacity = capacity
    return 0


cdef Bucket* other_bucket(Window* window, int64_t number) except? NULL nogil:
    """A bucket that is not the newest, or a new one; NULL for one that is older than all that are kept."""
    cdef Bucket* first
    cdef Bucket* bucket
    cdef int64_t i
    window.is_summed = 0
    if window.count and number <= window.buckets[window.head + window.count - 1].number - BUCKETS:
        return NULL
    make_room(window)
    first = window.buckets + window.head
    i = window.count
    while i > 0 and first[i - 1].number > number:
        i -= 1
    if i > 0 and first[i - 1].number == number:
        return first + i - 1
    memmove(first + i + 1, first + i, (window.count - i) * sizeof(Bucket))
    bucket = first + i
    bucket.number = <int32_t>number
    bucket.trades = 0
    bucket.volume = bucket.dollars = bucket.largest = 0
    bucket.price = 0
    bucket.price_time = -1
    bucket.high = -INFINITY
    bucket.low = INFINITY
    window.count += 1
    while first[0].number <= number - BUCKETS:
        if first[0].price_time >= 0:
            add_price_outside(window, first[0].price_time, first[0].price)
        first += 1
        window.head += 1
        window.count -= 1
    return bucket


cdef void window_sums(const Window* window, int32_t count, int64_t now_number, WindowSums* sums) noexcept nogil:
    """Adds up the first `count` buckets by class, always in their order, so the sums are the same in every copy."""
    cdef int k
    cdef int64_t i, age
    cdef const Bucket* bucket
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
    for i in range(window.head, window.head + count):
        bucket = &window.buckets[i]
        age = now_number - bucket.number
        # Ahead of now only in bytes that no state has written.
        k = WINDOWS if age >= BUCKETS else class_of[age] if age >= 0 else 0
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
    if window.before_time > sums.price_time[WINDOWS]:
        sums.price_time[WINDOWS] = window.before_time
        sums.price[WINDOWS] = window.before_price


# ---- as bytes ----

cdef int write_window(Writer* writer, const Window* window) except -1:
    cdef int64_t count = window.count
    write_block(writer, &window.before_price, sizeof(double))
    write_block(writer, &window.before_time, sizeof(int64_t))
    write_block(writer, &count, sizeof(int64_t))
    write_block(writer, window.buckets + window.head, count * sizeof(Bucket))
    return 0


cdef int read_window(Cursor* cursor, Window* window) except -1:
    """ValueError when the bytes end early or are no buckets in order; `window`, fresh, can be freed in any case."""
    cdef int64_t count, i
    read_block(cursor, &window.before_price, sizeof(double))
    read_block(cursor, &window.before_time, sizeof(int64_t))
    read_block(cursor, &count, sizeof(int64_t))
    if not 0 <= count <= BUCKETS:
        raise ValueError(f"state: expected up to {BUCKETS} buckets in a window, was {count}")
    if count == 0:
        return 0
    window.buckets = <Bucket*>aligned_block(count * sizeof(Bucket))
    if window.buckets == NULL:
        raise MemoryError(f"no memory for {count} buckets")
    window.capacity = <int32_t>count
    read_block(cursor, window.buckets, count * sizeof(Bucket))
    for i in range(1, count):
        if window.buckets[i].number <= window.buckets[i - 1].number:
            raise ValueError("state: expected buckets in order, was another order")
    if window.buckets[0].number < 0 or window.buckets[count - 1].number > <int32_t>1 << 30:
        raise ValueError("state: expected buckets of times since 1970, was something else")
    window.count = <int32_t>count
    return 0
