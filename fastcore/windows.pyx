"""Sliding windows on a grid of 10 seconds; the kernels for trades are inline in windows.pxd."""

from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef extern from "stdlib.h" nogil:
    void* aligned_alloc(size_t alignment, size_t size)

cdef extern from *:
    """
    #define tradeul_lowest_bit(word) __builtin_ctzll(word)
    #define tradeul_count_bits(word) __builtin_popcountll(word)
    """
    int tradeul_lowest_bit(uint64_t word) noexcept nogil
    int tradeul_count_bits(uint64_t word) noexcept nogil

# class_of[d] of a bucket that is d buckets before the one of now: a window of n minutes
# begins 6 n buckets before it.
cdef signed char[BUCKETS] class_of


cdef int fill_classes() except -1:
    cdef int d
    for d in range(BUCKETS):
        class_of[d] = 0 if d <= 6 else 1 if d <= 30 else 2 if d <= 60 else 3 if d <= 90 else 4 if d <= 180 else 5
    return 0


fill_classes()


cdef Window* new_window() except NULL nogil:
    # Buckets say nothing until their bit is set, so their pages need not be there before.
    cdef Window* window = <Window*>aligned_alloc(64, sizeof(Window))
    if window == NULL:
        with gil:
            raise MemoryError("no memory for a window")
    memset(window.occupied, 0, sizeof(window.occupied))
    window.before_price = 0
    window.before_time = -1
    return window


cdef void add_price_outside(Window* window, int64_t time_ns, double price) noexcept nogil:
    """A price older than the ring."""
    if time_ns >= window.before_time:
        window.before_time = time_ns
        window.before_price = price


cdef void no_sums(WindowSums* sums) noexcept nogil:
    cdef int k
    for k in range(WINDOWS + 1):
        sums.volume[k] = 0
        sums.price[k] = 0
        sums.price_time[k] = -1


cdef void window_sums(const Window* window, int64_t now_number, WindowSums* sums) noexcept nogil:
    """Adds up the ring by class. Buckets are taken by place, so the sums are the same in every copy."""
    cdef int word, place, k
    cdef uint64_t left
    cdef int64_t age
    cdef const Bucket* bucket
    no_sums(sums)
    for word in range(WORDS):
        left = window.occupied[word]
        while left:
            place = word * 64 + tradeul_lowest_bit(left)
            left &= left - 1
            bucket = &window.buckets[place]
            age = now_number - bucket.number
            # Ahead of now only in bytes that no state has written.
            k = WINDOWS if age >= BUCKETS else class_of[age] if age >= 0 else 0
            sums.volume[k] += bucket.volume
            if bucket.price_time > sums.price_time[k]:
                sums.price_time[k] = bucket.price_time
                sums.price[k] = bucket.price
    if window.before_time > sums.price_time[WINDOWS]:
        sums.price_time[WINDOWS] = window.before_time
        sums.price[WINDOWS] = window.before_price


# ---- as bytes: the occupied buckets by place ----

cdef int write_window(Writer* writer, const Window* window) except -1:
    cdef int place
    write_block(writer, window.occupied, sizeof(window.occupied))
    write_block(writer, &window.before_price, sizeof(double))
    write_block(writer, &window.before_time, sizeof(int64_t))
    for place in range(BUCKETS):
        if window.occupied[place >> 6] >> (place & 63) & 1:
            write_block(writer, &window.buckets[place], sizeof(Bucket))
    return 0


cdef Window* read_window(Cursor* cursor) except NULL:
    """ValueError when the bytes end early or a bucket is in a place that is not its own."""
    cdef Window* window = new_window()
    cdef Bucket* bucket
    cdef int place
    try:
        read_block(cursor, window.occupied, sizeof(window.occupied))
        read_block(cursor, &window.before_price, sizeof(double))
        read_block(cursor, &window.before_time, sizeof(int64_t))
        for place in range(BUCKETS):
            if window.occupied[place >> 6] >> (place & 63) & 1:
                bucket = &window.buckets[place]
                read_block(cursor, bucket, sizeof(Bucket))
                if bucket.number < 0 or bucket.number % BUCKETS != place:
                    raise ValueError(f"state: expected a window's bucket of place {place}, was {bucket.number}")
    except BaseException:
        free(window)
        raise
    return window
