"""The day's volume, anchored at the newest bar; see anchored_volume.pxd."""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove

from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef enum:
    FIRST_CAPACITY = 8


cdef void init_volume(AnchoredVolume* volume) noexcept nogil:
    volume.end = -1
    volume.bar_shares = volume.bar_dollars = 0
    volume.shares = volume.dollars = 0
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
    if volume.head > volume.capacity // 2:
        memmove(volume.seconds, volume.seconds + volume.head, volume.count * sizeof(Second))
        volume.head = 0
        return 0
    capacity = 2 * volume.capacity if volume.capacity else FIRST_CAPACITY
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


cdef int anchor(AnchoredVolume* volume, int64_t end, double shares, double dollars) except -1 nogil:
    """A bar that ended at `end` says what there was until then; one older than the newest says nothing."""
    cdef int64_t i
    cdef Second* second
    if end < volume.end:
        return 0
    volume.bar_shares = shares
    volume.bar_dollars = dollars
    if end == volume.end:
        return 0
    volume.end = end
    while volume.count and volume.seconds[volume.head].second < end:
        volume.head += 1
        volume.count -= 1
    if volume.count == 0:
        volume.head = 0
    volume.shares = volume.dollars = 0
    for i in range(volume.head, volume.head + volume.count):
        second = &volume.seconds[i]
        volume.shares += second.shares
        volume.dollars += second.dollars
    return 0


cdef double shares_after(const AnchoredVolume* volume, int64_t end) noexcept nogil:
    """Shares of the trades kept from `end` on."""
    cdef double shares = 0
    cdef int64_t i
    for i in range(volume.head, volume.head + volume.count):
        if volume.seconds[i].second >= end:
            shares += volume.seconds[i].shares
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
