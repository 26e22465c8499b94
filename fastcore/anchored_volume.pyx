# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The day's volume, anchored at the newest bar or snapshot; see anchored_volume.pxd."""

from libc.stdint cimport int32_t, int64_t

from fastcore.chains cimport (
    ChunkPool, Place, drop_first, element, first_place, free_chain, init_chain, insert_after, last_place, place_after,
    place_before, read_chain, write_chain,
)
from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef enum:
    WIDTH = sizeof(Second)

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
    init_chain(&volume.seconds)


cdef void free_volume(ChunkPool* pool, AnchoredVolume* volume) noexcept nogil:
    free_chain(pool, &volume.seconds)
    init_volume(volume)


cdef int add_second(
    ChunkPool* pool, AnchoredVolume* volume, int64_t second, double shares, double dollars
) except -1 nogil:
    """Adds to a second that is older than the newest one kept, keeping their order."""
    cdef Place place = last_place(&volume.seconds, WIDTH)
    cdef int32_t older = volume.seconds.count
    cdef Second* kept
    while older and (<const Second*>element(pool, WIDTH, place)).second > second:
        place = place_before(pool, WIDTH, place)
        older -= 1
    if older:
        kept = <Second*>element(pool, WIDTH, place)
        if kept.second == second:
            kept.shares += shares
            kept.dollars += dollars
            return 0
    kept = <Second*>insert_after(pool, &volume.seconds, WIDTH, place)
    kept.second = second
    kept.shares = shares
    kept.dollars = dollars
    return 0


cdef inline const Second* first_second(const ChunkPool* pool, const AnchoredVolume* volume) noexcept nogil:
    """NULL without one."""
    if volume.seconds.count == 0:
        return NULL
    return <const Second*>element(pool, WIDTH, first_place(&volume.seconds))


cdef void add_up(const ChunkPool* pool, AnchoredVolume* volume) noexcept nogil:
    """The sums of the seconds that are kept."""
    cdef Place place = first_place(&volume.seconds)
    cdef const Second* second
    cdef int32_t i
    volume.shares = volume.dollars = 0
    for i in range(volume.seconds.count):
        second = <const Second*>element(pool, WIDTH, place)
        volume.shares += second.shares
        volume.dollars += second.dollars
        place = place_after(pool, WIDTH, place)


cdef void anchor(
    ChunkPool* pool, AnchoredVolume* volume, int64_t end, double shares, double dollars
) noexcept nogil:
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
    forget_before(pool, volume, end)
    add_up(pool, volume)


cdef inline void forget_before(ChunkPool* pool, AnchoredVolume* volume, int64_t end) noexcept nogil:
    """The seconds before `end` are kept no longer."""
    cdef const Second* first = first_second(pool, volume)
    while first != NULL and first.second < end:
        drop_first(pool, &volume.seconds, WIDTH)
        first = first_second(pool, volume)


cdef inline bint is_newest(const AnchoredVolume* volume, int64_t until) noexcept nogil:
    """True if no newer bar or snapshot has come from the vendor."""
    return until >= volume.end * NS and (not is_told(volume) or until >= volume.snapshot_until)


cdef bint may_tell_more(
    const ChunkPool* pool, const AnchoredVolume* volume, int64_t until, double shares
) noexcept nogil:
    cdef double most = shares + shares_from(pool, volume, until // NS)
    return is_newest(volume, until) and most > total_shares(volume) * MORE


cdef void tell_shares(
    ChunkPool* pool, AnchoredVolume* volume, int64_t until, double shares, double later
) noexcept nogil:
    cdef double after
    settle(pool, volume, until // NS - SETTLED_SECONDS)
    if not is_newest(volume, until):
        return
    if until == volume.snapshot_until:
        after = volume.shares_after
    else:
        after = shares_from(pool, volume, (until + NS - 1) // NS) + later
    if shares + after > total_shares(volume) * MORE:
        volume.snapshot_until = until
        volume.snapshot_shares = shares
        volume.shares_after = after


cdef void settle(ChunkPool* pool, AnchoredVolume* volume, int64_t end) noexcept nogil:
    """Adds up what was traded before `end`, so that no more than minutes of trades are kept.

    A bar or a trade that comes still later, from before `end`, says nothing.
    """
    cdef const Second* first = first_second(pool, volume)
    if first == NULL or first.second >= end:
        return
    volume.end = end
    while first != NULL and first.second < end:
        volume.bar_shares += first.shares
        volume.bar_dollars += first.dollars
        drop_first(pool, &volume.seconds, WIDTH)
        first = first_second(pool, volume)
    add_up(pool, volume)


cdef double shares_from(const ChunkPool* pool, const AnchoredVolume* volume, int64_t second) noexcept nogil:
    """Shares of the trades kept from a second on."""
    cdef double shares = 0
    cdef Place place = last_place(&volume.seconds, WIDTH)
    cdef const Second* kept
    cdef int32_t i
    for i in range(volume.seconds.count):
        kept = <const Second*>element(pool, WIDTH, place)
        if kept.second < second:
            break
        shares += kept.shares
        place = place_before(pool, WIDTH, place)
    return shares


# ---- as bytes ----

cdef int write_volume(Writer* writer, const ChunkPool* pool, const AnchoredVolume* volume) except -1:
    cdef AnchoredVolume plain = volume[0]
    # Where its seconds are is no part of the state; how many there are is.
    init_chain(&plain.seconds)
    plain.seconds.count = volume.seconds.count
    write_block(writer, &plain, sizeof(AnchoredVolume))
    write_chain(writer, pool, &volume.seconds, WIDTH)
    return 0


cdef int read_volume(Cursor* cursor, ChunkPool* pool, AnchoredVolume* volume) except -1:
    """ValueError when the bytes end early or are no seconds in order; `volume` can be freed in any case."""
    cdef AnchoredVolume plain
    cdef Place place
    cdef const Second* second
    cdef int64_t before = -1
    cdef int32_t count, i
    init_volume(volume)
    read_block(cursor, &plain, sizeof(AnchoredVolume))
    count = plain.seconds.count
    if count < 0 or count > (cursor.end - cursor.pos) // <int64_t>WIDTH:
        raise ValueError(f"state: expected {count} seconds of trades, the bytes end before")
    if not (-1 <= plain.end <= LAST_SECOND and plain.snapshot_until >= 0):
        raise ValueError(f"state: expected a bar's end in seconds since 1970, was {plain.end}")
    init_chain(&plain.seconds)
    volume[0] = plain
    read_chain(cursor, pool, &volume.seconds, WIDTH, count)
    place = first_place(&volume.seconds)
    for i in range(count):
        second = <const Second*>element(pool, WIDTH, place)
        if second.second <= before or second.second > LAST_SECOND:
            raise ValueError("state: expected seconds since 1970 in order, was something else")
        before = second.second
        place = place_after(pool, WIDTH, place)
    return 0
