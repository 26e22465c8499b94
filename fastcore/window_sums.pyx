# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Sums of windows that move; see window_sums.pxd."""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport int32_t, int64_t, uint32_t

from fastcore.chains cimport (
    ChunkPool, Place, element, fetch_chunk, first_place, last_place, links_of, place_after, places_in,
)
from fastcore.memory cimport fetch_line
from fastcore.windows cimport (
    ALL_SUMMED, BUCKETS, NEVER, NEWEST_CLASS, NOTHING_SUMMED, ONE_MISSING, RANGE_WINDOWS, SHORT_WINDOWS, WINDOWS, Bucket, Window,
    bucket_before_newest, newest_bucket,
)

cdef enum:
    WIDTH = sizeof(Bucket)
    # Of the windows, those that have a largest trade.
    ONE_MINUTE = 0
    FIVE_MINUTES = 1

# The windows of highs and lows, and where each window stands among these, -1 for one that has none.
cdef int[RANGE_WINDOWS] RANGE_WINDOW
RANGE_WINDOW[:] = [1, 3, 4]
cdef int[WINDOWS] RANGE_OF
RANGE_OF[:] = [-1, 0, -1, 1, 2]
# How far before that of now a bucket is not in a window any more: a window of n minutes begins 6 n buckets before it.
cdef int[WINDOWS] LENGTH
LENGTH[:] = [7, 31, 61, 91, 181]
# class_of[d] of a bucket that is d buckets before that of now: the shortest window that it is in, WINDOWS for none.
cdef signed char[BUCKETS] class_of

# The buckets of a class, which are in no shorter window.
cdef struct ClassSums:
    Billionths[WINDOWS] volume
    Billionths[SHORT_WINDOWS] dollars
    double[WINDOWS + 1] price       # the newest of its class
    int64_t[WINDOWS + 1] price_time # -1 without one
    double[WINDOWS] high
    double[WINDOWS] low
    double[SHORT_WINDOWS] trades
    double[SHORT_WINDOWS] largest
    Place[WINDOWS] first
    int32_t[WINDOWS] first_number   # NEVER without a bucket


cdef int fill_classes() except -1:
    cdef int d, k
    for d in range(BUCKETS):
        k = 0
        while k < WINDOWS and d >= LENGTH[k]:
            k += 1
        class_of[d] = k
    if RANGE_WINDOW[0] != FIVE_MINUTES or LENGTH[ONE_MINUTE] != NEWEST_CLASS + 1 or LENGTH[WINDOWS - 1] > BUCKETS:
        raise AssertionError("expected windows that agree on which are of one and of five minutes, and what is kept")
    return 0


fill_classes()


# ---- from the beginning ----

cdef inline void add_bucket(ClassSums* sums, const Bucket* bucket, Place place, int64_t grid) noexcept nogil:
    cdef int64_t age = grid - bucket.number
    # Ahead of now only in bytes that no state has written.
    cdef int k = WINDOWS if age >= BUCKETS else class_of[age] if age >= 0 else 0
    if bucket.price_time > sums.price_time[k]:
        sums.price_time[k] = bucket.price_time
        sums.price[k] = bucket.price
    if k == WINDOWS:
        return
    if sums.first_number[k] == NEVER:
        sums.first_number[k] = bucket.number
        sums.first[k] = place
    sums.volume[k] += billionths(bucket.volume)
    sums.high[k] = max(sums.high[k], bucket.high)
    sums.low[k] = min(sums.low[k], bucket.low)
    if k < SHORT_WINDOWS:
        sums.dollars[k] += billionths(bucket.dollars)
        sums.trades[k] += bucket.trades
        sums.largest[k] = max(sums.largest[k], bucket.largest)


cdef void sum_classes(
    const ChunkPool* pool, const Window* window, int32_t count, int64_t grid, ClassSums* sums
) noexcept nogil:
    """Adds up the first `count` buckets by class."""
    cdef int k
    cdef int32_t i, run, left = count
    cdef const char* bucket
    cdef uint32_t after
    cdef Place place = first_place(&window.buckets)
    for k in range(WINDOWS + 1):
        sums.price[k] = 0
        sums.price_time[k] = -1
    for k in range(WINDOWS):
        sums.volume[k] = 0
        sums.high[k] = -INFINITY
        sums.low[k] = INFINITY
        sums.first_number[k] = NEVER
    for k in range(SHORT_WINDOWS):
        sums.dollars[k] = 0
        sums.trades[k] = sums.largest[k] = 0
    while left > 0:
        after = links_of(pool, place.chunk).after
        fetch_chunk(pool, after)
        run = min(left, places_in(place.chunk, WIDTH) - place.i)
        bucket = element(pool, WIDTH, place)
        left -= run
        for i in range(run):
            add_bucket(sums, <const Bucket*>bucket, place, grid)
            bucket += WIDTH
            place.i += 1
        place.chunk = after
        place.i = 0
    if window.before_time > sums.price_time[WINDOWS]:
        sums.price_time[WINDOWS] = window.before_time
        sums.price[WINDOWS] = window.before_price


cdef void add_bars(ClassSums* sums, const ClassSums* bars) noexcept nogil:
    cdef int k
    for k in range(WINDOWS + 1):
        if bars.price_time[k] > sums.price_time[k]:
            sums.price_time[k] = bars.price_time[k]
            sums.price[k] = bars.price[k]
    for k in range(WINDOWS):
        sums.volume[k] += bars.volume[k]
        sums.high[k] = max(sums.high[k], bars.high[k])
        sums.low[k] = min(sums.low[k], bars.low[k])
        sums.first_number[k] = min(sums.first_number[k], bars.first_number[k])
    for k in range(SHORT_WINDOWS):
        sums.dollars[k] += bars.dollars[k]


cdef void sum_windows(
    const ChunkPool* pool, const Window* window, const Window* bars, bint without_newest, int64_t grid,
    OlderSums* older
) noexcept nogil:
    cdef ClassSums sums, of_bars
    cdef Billionths volume = 0, dollars = 0
    cdef double before = NAN, trades = 0, largest = 0, high = -INFINITY, low = INFINITY
    cdef int64_t before_time = -1
    cdef int32_t number = NEVER
    cdef Place begin
    cdef int w, k = 0, r
    sum_classes(pool, window, window.buckets.count - without_newest, grid, &sums)
    if bars != NULL:
        sum_classes(pool, bars, bars.buckets.count, grid, &of_bars)
        add_bars(&sums, &of_bars)
    # The last price before a window is the newest of the classes beyond it.
    for w in range(WINDOWS - 1, -1, -1):
        if sums.price_time[w + 1] > before_time:
            before_time = sums.price_time[w + 1]
            before = sums.price[w + 1]
        older.before[w] = before
    begin.chunk = 0
    begin.i = 0
    older.until = NEVER
    if without_newest:
        begin = last_place(&window.buckets, WIDTH)
        number = newest_bucket(window).number
        older.until = number + LENGTH[0]
    for w in range(WINDOWS):
        volume += sums.volume[w]
        older.volume[w] = volume
        if sums.first_number[w] != NEVER:
            begin = sums.first[w]
            number = sums.first_number[w]
            older.until = min(older.until, number + LENGTH[w])
        older.begin[w] = begin
        older.begin_number[w] = number
    for w in range(SHORT_WINDOWS):
        dollars += sums.dollars[w]
        trades += sums.trades[w]
        largest = max(largest, sums.largest[w])
        older.dollars[w] = dollars
        older.trades[w] = trades
        older.largest[w] = largest
    for r in range(RANGE_WINDOWS):
        while k <= RANGE_WINDOW[r]:
            high = max(high, sums.high[k])
            low = min(low, sums.low[k])
            k += 1
        older.high[r] = high
        older.low[r] = low


# ---- from what was added up before ----

cdef inline void add_newest(OlderSums* older, const Bucket* bucket) noexcept nogil:
    """A bucket that is newer than all in the sums, and in all windows or about to leave them."""
    cdef Billionths volume = billionths(bucket.volume), dollars = billionths(bucket.dollars)
    cdef int w, r
    for w in range(WINDOWS):
        older.volume[w] += volume
    for w in range(SHORT_WINDOWS):
        older.dollars[w] += dollars
        older.trades[w] += bucket.trades
        older.largest[w] = max(older.largest[w], bucket.largest)
    for r in range(RANGE_WINDOWS):
        older.high[r] = max(older.high[r], bucket.high)
        older.low[r] = min(older.low[r], bucket.low)


cdef inline void widen(
    const ChunkPool* pool, Place place, int32_t end, double* high, double* low, double* largest
) noexcept nogil:
    """Of the buckets from `place` on whose numbers are below `end`, which is the number of one that there is."""
    cdef const Bucket* bucket = <const Bucket*>element(pool, WIDTH, place)
    while bucket.number < end:
        high[0] = max(high[0], bucket.high)
        low[0] = min(low[0], bucket.low)
        largest[0] = max(largest[0], bucket.largest)
        place = place_after(pool, WIDTH, place)
        bucket = <const Bucket*>element(pool, WIDTH, place)


cdef void find_extremes(const ChunkPool* pool, OlderSums* older, int32_t newest, uint32_t left) noexcept nogil:
    """Of the windows whose bit is set in `left`: the bucket with an extreme has left them."""
    cdef double high = -INFINITY, low = INFINITY, largest = 0
    cdef int r
    if left & 1 << ONE_MINUTE:
        widen(pool, older.begin[ONE_MINUTE], newest, &high, &low, &largest)
        older.largest[ONE_MINUTE] = largest
    if left & 1 << FIVE_MINUTES:
        largest = 0
        older.high[0] = -INFINITY
        older.low[0] = INFINITY
        widen(pool, older.begin[FIVE_MINUTES], newest, &older.high[0], &older.low[0], &largest)
        older.largest[FIVE_MINUTES] = largest
    for r in range(1, RANGE_WINDOWS):
        if left & 1 << RANGE_WINDOW[r]:
            # What a longer window has more than the one before it, of which these are up to date.
            older.high[r] = older.high[r - 1]
            older.low[r] = older.low[r - 1]
            widen(
                pool, older.begin[RANGE_WINDOW[r]], older.begin_number[RANGE_WINDOW[r - 1]], &older.high[r],
                &older.low[r], &largest
            )


cdef inline void take_out(OlderSums* older, int w, const Bucket* bucket) noexcept nogil:
    """The first bucket of window w, but for the extremes."""
    older.volume[w] -= billionths(bucket.volume)
    if w < SHORT_WINDOWS:
        older.dollars[w] -= billionths(bucket.dollars)
        older.trades[w] -= bucket.trades
    # It is newer than all that have left before.
    if bucket.price_time >= 0:
        older.before[w] = bucket.price


cdef inline bint has_extreme(const OlderSums* older, int w, const Bucket* bucket) noexcept nogil:
    cdef int r = RANGE_OF[w]
    return (w < SHORT_WINDOWS and bucket.largest == older.largest[w]) or (
        r >= 0 and (bucket.high == older.high[r] or bucket.low == older.low[r])
    )


cdef void take_out_what_left(
    const ChunkPool* pool, const Window* window, int64_t grid, OlderSums* older
) noexcept nogil:
    cdef int32_t newest = newest_bucket(window).number
    cdef const Bucket* bucket
    cdef Place place
    cdef uint32_t left = 0
    cdef int w
    older.until = newest + LENGTH[0]
    for w in range(WINDOWS):
        if older.begin_number[w] != newest and older.begin_number[w] + LENGTH[w] <= grid:
            place = older.begin[w]
            bucket = <const Bucket*>element(pool, WIDTH, place)
            while bucket.number != newest and bucket.number + LENGTH[w] <= grid:
                left |= <uint32_t>has_extreme(older, w, bucket) << w
                take_out(older, w, bucket)
                place = place_after(pool, WIDTH, place)
                bucket = <const Bucket*>element(pool, WIDTH, place)
            older.begin[w] = place
            older.begin_number[w] = bucket.number
        if older.begin_number[w] != newest:
            older.until = min(older.until, older.begin_number[w] + LENGTH[w])
    if left:
        find_extremes(pool, older, newest, left)


cdef void update_older(const ChunkPool* pool, Window* window, int64_t grid, OlderSums* older) noexcept nogil:
    if window.summed == NOTHING_SUMMED or grid < older.number:
        sum_windows(pool, window, NULL, True, grid, older)
    else:
        if window.summed == ONE_MISSING:
            add_newest(older, bucket_before_newest(pool, window))
        take_out_what_left(pool, window, grid, older)
    older.number = grid
    window.summed = ALL_SUMMED


cdef void fetch_leaving(const ChunkPool* pool, const OlderSums* older) noexcept nogil:
    cdef const char* bucket
    cdef int w
    for w in range(WINDOWS):
        if older.begin[w].chunk:
            bucket = element(pool, WIDTH, older.begin[w])
            fetch_line(bucket)
            # The first one then, which mostly lies there.
            fetch_line(bucket + WIDTH)
