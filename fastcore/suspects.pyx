# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Prints that are held until something confirms them; the way of most trades is inline in suspects.pxd."""

from libc.math cimport isnan
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fastcore.columns cimport is_time
from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef enum:
    LEAST_RECENT = 3            # fewer say nothing

cdef int64_t NS = 1_000_000_000
cdef int64_t MINUTE_NS = 60 * NS
# How old what a print is compared with may be, and how long a print waits for a trade.
cdef int64_t RECENT_NS = 10 * MINUTE_NS
cdef int64_t WAIT_NS = 60 * NS
# The stream has a trade's time in milliseconds, the snapshot the same one in nanoseconds.
cdef int64_t SAME_NS = 1_000_000


cdef void init_recent(Recent* recent) noexcept nogil:
    cdef int i
    unsettle(recent)
    recent.newest = 0
    recent.held = NULL
    for i in range(RECENT):
        recent.prices[i].price = 0
        recent.prices[i].time = -1


cdef void free_recent(Recent* recent) noexcept nogil:
    free(recent.held)
    init_recent(recent)


# ---- what is expected ----

cdef inline double middle(const Recent* recent, int count) noexcept nogil:
    """The median of the newest `count` prices, 3 to 5; of four the mean of the two in the middle."""
    cdef double[RECENT] sorted
    cdef double price
    cdef int i, k
    for i in range(count):
        price = recent_price(recent, i).price
        k = i
        while k > 0 and sorted[k - 1] > price:
            sorted[k] = sorted[k - 1]
            k -= 1
        sorted[k] = price
    if count == 4:
        return (sorted[1] + sorted[2]) / 2
    return sorted[count // 2]


cdef bint expected_band(const Recent* recent, int64_t time_ns, double lower, double upper, Band* band) noexcept nogil:
    cdef int count = 0
    cdef double median
    while count < RECENT and recent_price(recent, count).time >= max(<int64_t>0, time_ns - RECENT_NS):
        count += 1
    if count < LEAST_RECENT:
        return False
    if lower < upper:
        band.low = lower
        band.high = upper
        band.above = band.below = (upper - lower) / 2
        return True
    median = middle(recent, count)
    band.low = band.high = median
    if median >= 3:
        band.above = band.below = 0.2 * median
    elif median >= 0.75:
        band.above = band.below = 0.5 * median
    else:
        band.above = median
        band.below = 0.75 * median
    return True


cdef void settle(Recent* recent, double price, double lower, double upper) noexcept nogil:
    """An interval so narrow that no price in it is suspect while all recent prices are in it, as this one is."""
    cdef double least = price, most = price, middle, half
    cdef int i
    unsettle(recent)
    if recent.held != NULL:
        for i in range(recent.held.count):
            if recent.held.prints[i].awaits_trade:
                return
    for i in range(RECENT):
        if recent.prices[i].time >= 0:
            least = min(least, recent.prices[i].price)
            most = max(most, recent.prices[i].price)
    middle = (least + most) / 2
    # Its ends are nearer to each other than the least tolerance of a median between them: with a tolerance of
    # f and ends of middle * (1 -+ h) that is so for h below f / (2 + f). The upper end is below 3 and 0.75 USD, too.
    half = middle * (0.09 if middle >= 2.5 else 0.19 if middle >= 0.59 else 0.27)
    if least < middle - half or most > middle + half:
        return
    recent.calm_low = middle - half
    recent.calm_high = middle + half
    if lower < upper:
        # Whether or not they are in force; a little less, since sums are rounded.
        half = 0.499 * (upper - lower)
        recent.calm_low = max(recent.calm_low, lower - half)
        recent.calm_high = min(recent.calm_high, upper + half)


# ---- what waits ----

cdef int hold(Recent* recent, int64_t time_ns, double price, uint64_t conditions, const Band* band) except -1 nogil:
    """The print waits; of more than there is room for the first to come waits no longer."""
    cdef HeldPrint* held
    if recent.held == NULL:
        recent.held = <HeldPrints*>malloc(sizeof(HeldPrints))
        if recent.held == NULL:
            with gil:
                raise MemoryError("no memory for the prints that wait to be confirmed")
        recent.held.count = 0
    if recent.held.count == MAX_HELD:
        take_out(recent.held, 0)
    held = &recent.held.prints[recent.held.count]
    recent.held.count += 1
    held.time = time_ns
    held.price = price
    held.side = 1 if price > band.high else -1
    held.reach = (band.above if held.side > 0 else band.below) / 4
    held.conditions = conditions
    held.awaits_trade = 1
    unsettle(recent)
    return 0


cdef inline void take_out(HeldPrints* held, int64_t place) noexcept nogil:
    cdef int64_t i
    held.count -= 1
    for i in range(place, held.count):
        held.prints[i] = held.prints[i + 1]


cdef int confirm_by_trade(Recent* recent, int64_t time_ns, double price, HeldPrint* confirmed) noexcept nogil:
    cdef int64_t i = 0
    cdef int count = 0
    cdef HeldPrint* held
    if recent.held == NULL:
        return 0
    while i < recent.held.count:
        held = &recent.held.prints[i]
        if held.awaits_trade and time_ns > held.time + WAIT_NS:
            held.awaits_trade = 0
        if held.awaits_trade and time_ns >= held.time and -held.reach <= price - held.price <= held.reach:
            confirmed[count] = held[0]
            count += 1
            take_out(recent.held, i)
        else:
            i += 1
    release(recent)
    return count


cdef int confirm_by_bar(
    Recent* recent, int64_t start_ns, double high, double low, HeldPrint* confirmed
) noexcept nogil:
    cdef int64_t i = 0
    cdef int count = 0
    cdef HeldPrint* held
    if recent.held == NULL:
        return 0
    while i < recent.held.count:
        held = &recent.held.prints[i]
        if held.time // MINUTE_NS == start_ns // MINUTE_NS and (
            high >= held.price if held.side > 0 else low <= held.price
        ):
            confirmed[count] = held[0]
            count += 1
            take_out(recent.held, i)
        else:
            i += 1
    if count:
        # What they set may lie anywhere.
        unsettle(recent)
    release(recent)
    return count


cdef bint still_waits(const Recent* recent, int64_t time_ns, double price) noexcept nogil:
    cdef int64_t i
    cdef const HeldPrint* held
    if recent.held == NULL:
        return False
    for i in range(recent.held.count):
        held = &recent.held.prints[i]
        if held.price == price and -SAME_NS < time_ns - held.time < SAME_NS:
            return True
    return False


cdef inline void release(Recent* recent) noexcept nogil:
    if recent.held.count == 0:
        free(recent.held)
        recent.held = NULL


# ---- as bytes ----

cdef int write_recent(Writer* writer, const Recent* recent) except -1:
    cdef int64_t count = recent.held.count if recent.held != NULL else 0
    cdef int k
    # The newest first, wherever the ring begins.
    for k in range(RECENT):
        write_block(writer, recent_price(recent, k), sizeof(RecentPrice))
    write_block(writer, &count, sizeof(int64_t))
    if count:
        write_block(writer, recent.held.prints, count * sizeof(HeldPrint))
    return 0


cdef int read_recent(Cursor* cursor, Recent* recent) except -1:
    cdef int64_t count, i
    cdef HeldPrint* held
    recent.newest = RECENT - 1
    for i in range(RECENT - 1, -1, -1):
        read_block(cursor, &recent.prices[i], sizeof(RecentPrice))
        if recent.prices[i].time != -1 and not is_time(recent.prices[i].time):
            raise ValueError(f"state: expected times of recent prices, was {recent.prices[i].time}")
        if i < RECENT - 1 and recent.prices[i].time > recent.prices[i + 1].time:
            raise ValueError("state: expected the newest prices first, was another order")
    read_block(cursor, &count, sizeof(int64_t))
    if not 0 <= count <= MAX_HELD:
        raise ValueError(f"state: expected at most {MAX_HELD} prints that wait, was {count}")
    if count == 0:
        return 0
    recent.held = <HeldPrints*>malloc(sizeof(HeldPrints))
    if recent.held == NULL:
        raise MemoryError("no memory for the prints that wait to be confirmed")
    recent.held.count = 0
    read_block(cursor, recent.held.prints, count * sizeof(HeldPrint))
    for i in range(count):
        held = &recent.held.prints[i]
        if not is_time(held.time) or held.side not in (-1, 1) or held.awaits_trade not in (0, 1):
            raise ValueError(f"state: expected a print that waits, was one of time {held.time}, side {held.side}")
    recent.held.count = count
    return 0
