# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The day's volume, anchored at the newest bar or snapshot; see anchored_volume.pxd."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memmove

from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef enum:
    FIRST_CAPACITY = 8

cdef int64_t NS = 1_000_000_000
cdef int64_t LAST_SECOND = (<int64_t>1 << 62) // NS
# Sums of the same may differ in their last digits.
cdef double MORE = 1 + 1e-9


cdef void init_volume(AnchoredVolume* volume) noexcept nogil:
    volume.end = -1
    volume.bar_shares = volume.bar_dollars = 0
    volume.shares = volume.dollars = 0
    volume.snapshot_until = no_snapshot()
    volume.snapshot_shares = volume.shares_after = 0
    volume.head = volume.count = volume.capacity = 0
    volume.seconds = NULL


cdef void free_volume(AnchoredVolume* volume) noexcept nogil:
    free(volume.seconds)
    init_volume(volume)


cdef int make_room(AnchoredVolume* volume) except -1 nogil:
    """One more place behind the last second."""
    cdef int64_t capacity
    cdef Second* larger
    if volume.head + volume.count < volume.capacity:
        return 0
    if volume.head >= max(volume.capacity // 4, 1):
        memmove(volume.seconds, volume.seconds + volume.head, volume.count * sizeof(Second))
        volume.head = 0
        return 0
    capacity = max(volume.capacity + volume.capacity // 2, FIRST_CAPACITY)
    larger = <Second*>realloc(volume.seconds, capacity * sizeof(Second))
    if larger == NULL:
        with gil:
            raise MemoryError(f"no memory for {capacity} seconds of trades")
    volume.seconds = larger
    volume.capacity = capacity
    return 0


cdef int add_second(AnchoredVolume* volume, int64_t second, double shares, double dollars) except -1 nogil:
    """Adds to a second that is not the last one kept, keeping their order."""
    cdef Second* first
    cdef Second* place
    cdef int64_t i
    make_room(volume)
    first = volume.seconds + volume.head
    i = volume.count
    while i > 0 and first[i - 1].second > second:
        i -= 1
    if i > 0 and first[i - 1].second == second:
        first[i - 1].shares += shares
        first[i - 1].dollars += dollars
        return 0
    memmove(first + i + 1, first + i, (volume.count - i) * sizeof(Second))
    place = first + i
    place.second = second
    place.shares = shares
    place.dollars = dollars
    volume.count += 1
    return 0


cdef inline void forget_first(AnchoredVolume* volume) noexcept nogil:
    volume.head += 1
    volume.count -= 1
    if volume.count == 0:
        volume.head = 0


cdef void add_up(AnchoredVolume* volume) noexcept nogil:
    """The sums of the seconds that are kept."""
    cdef const Second* second
    cdef int64_t i
    volume.shares = volume.dollars = 0
    for i in range(volume.head, volume.head + volume.count):
        second = &volume.seconds[i]
        volume.shares += second.shares
        volume.dollars += second.dollars


cdef void anchor(AnchoredVolume* volume, int64_t end, double shares, double dollars) noexcept nogil:
    """A bar that ended at `end` says what there was until then; one older than the newest says nothing."""
    if end < volume.end:
        return
    if volume.snapshot_until <= end * NS:
        volume.snapshot_until = no_snapshot()
        volume.snapshot_shares = volume.shares_after = 0
    volume.bar_shares = shares
    volume.bar_dollars = dollars
    if end == volume.end:
        return
    volume.end = end
    while volume.count and volume.seconds[volume.head].second < end:
        forget_first(volume)
    add_up(volume)


cdef inline bint is_newest(const AnchoredVolume* volume, int64_t until) noexcept nogil:
    """True if no newer bar or snapshot has come from the vendor."""
    return until >= volume.end * NS and (not is_told(volume) or until >= volume.snapshot_until)


cdef bint may_tell_more(const AnchoredVolume* volume, int64_t until, double shares) noexcept nogil:
    cdef double most = shares + shares_from(volume, until // NS)
    return is_newest(volume, until) and most > total_shares(volume) * MORE


cdef void tell_shares(AnchoredVolume* volume, int64_t until, double shares, double later) noexcept nogil:
    cdef double after
    settle(volume, until // NS - SETTLED_SECONDS)
    if not is_newest(volume, until):
        return
    after = volume.shares_after if until == volume.snapshot_until else shares_from(volume, (until + NS - 1) // NS) + later
    if shares + after > total_shares(volume) * MORE:
        volume.snapshot_until = until
        volume.snapshot_shares = shares
        volume.shares_after = after


cdef void settle(AnchoredVolume* volume, int64_t end) noexcept nogil:
    """Adds up what was traded before `end`, so that no more than minutes of trades are kept.

    A bar or a trade that comes still later, from before `end`, says nothing.
    """
    if volume.count == 0 or volume.seconds[volume.head].second >= end:
        return
    volume.end = end
    while volume.count and volume.seconds[volume.head].second < end:
        volume.bar_shares += volume.seconds[volume.head].shares
        volume.bar_dollars += volume.seconds[volume.head].dollars
        forget_first(volume)
    add_up(volume)


cdef double shares_from(const AnchoredVolume* volume, int64_t second) noexcept nogil:
    """Shares of the trades kept from a second on."""
    cdef double shares = 0
    cdef int64_t i = volume.head + volume.count - 1
    while i >= volume.head and volume.seconds[i].second >= second:
        shares += volume.seconds[i].shares
        i -= 1
    return shares


# ---- as bytes ----

cdef int write_volume(Writer* writer, const AnchoredVolume* volume) except -1:
    cdef AnchoredVolume plain = volume[0]
    plain.head = plain.capacity = 0
    plain.seconds = NULL
    write_block(writer, &plain, sizeof(AnchoredVolume))
    if volume.count:
        write_block(writer, volume.seconds + volume.head, volume.count * sizeof(Second))
    return 0


cdef int read_volume(Cursor* cursor, AnchoredVolume* volume) except -1:
    """ValueError when the bytes end early; `volume` is one that can be freed in any case."""
    init_volume(volume)
    cdef AnchoredVolume plain
    read_block(cursor, &plain, sizeof(AnchoredVolume))
    if plain.count < 0 or plain.count > (cursor.end - cursor.pos) // <int64_t>sizeof(Second):
        raise ValueError(f"state: expected {plain.count} seconds of trades, the bytes end before")
    if not (-1 <= plain.end <= LAST_SECOND and plain.snapshot_until >= 0):
        raise ValueError(f"state: expected a bar's end in seconds since 1970, was {plain.end}")
    plain.head = plain.capacity = 0
    plain.seconds = NULL
    if plain.count:
        plain.seconds = <Second*>malloc(plain.count * sizeof(Second))
        if plain.seconds == NULL:
            raise MemoryError(f"no memory for {plain.count} seconds of trades")
        plain.capacity = plain.count
        read_block(cursor, plain.seconds, plain.count * sizeof(Second))
    volume[0] = plain
    return 0
