# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# The day's shares and dollars of a symbol. docs/semantics.md, "The vendor's
# snapshot", has the definitions.
#
# Both are those of the newest bar that has them, and of the trades at or after
# that bar's end. A snapshot that is newer and reports more shares replaces
# the bar, for the shares alone: it is exact to the nanosecond, and says nothing
# of dollars. A bar that ends later takes its place.
#
# Bars and snapshots come seconds after the time that they describe, when trades
# behind it have been counted already. So trades are kept by second until a bar
# covers them; bars end on whole seconds. However late a bar comes, the sums are
# exact. What of a snapshot's own second came after it, recent_trades.pxd knows.

from libc.stdint cimport INT64_MAX, int64_t

from fastcore.chains cimport Chain, ChunkPool, append
from fastcore.wire cimport Cursor, Writer

cdef enum:
    # Bars may be sent again for a quarter of an hour. What a snapshot finds to be older than this is settled.
    SETTLED_SECONDS = 1_200

cdef struct Second:
    int64_t second              # since 1970 UTC
    double shares
    double dollars

# What a trade touches comes last: in a symbol's row it fills a line of the cache.
cdef struct AnchoredVolume:
    double bar_shares
    double bar_dollars
    double snapshot_shares      # shares that the newest snapshot reports
    int64_t end                 # second at which the newest bar ended; -1 without one
    double shares               # of the trades at or after `end`
    double dollars
    int64_t snapshot_until      # first ns that the newest snapshot does not cover; no_snapshot() when a bar is newer
    double shares_after         # of the trades at or after `snapshot_until`
    Chain seconds               # those that are kept, ascending


cdef inline int64_t no_snapshot() noexcept nogil:
    """Later than every trade."""
    return INT64_MAX


cdef void init_volume(AnchoredVolume* volume) noexcept nogil
cdef void free_volume(ChunkPool* pool, AnchoredVolume* volume) noexcept nogil
cdef int add_second(
    ChunkPool* pool, AnchoredVolume* volume, int64_t second, double shares, double dollars
) except -1 nogil
# Sets the sums before `end`, in seconds, to those of a bar.
cdef void anchor(
    ChunkPool* pool, AnchoredVolume* volume, int64_t end, double shares, double dollars
) noexcept nogil
# Sets the shares before `until`, in ns, to those of a snapshot. `later`: the shares traded from there to the end of its
# second, which need not be known when may_tell_more() says no.
cdef bint may_tell_more(
    const ChunkPool* pool, const AnchoredVolume* volume, int64_t until, double shares
) noexcept nogil
cdef void tell_shares(
    ChunkPool* pool, AnchoredVolume* volume, int64_t until, double shares, double later
) noexcept nogil


cdef inline Second* newest_second(const AnchoredVolume* volume) noexcept nogil:
    """NULL without one."""
    return <Second*>volume.seconds.newest


cdef inline int add_trade(
    ChunkPool* pool, AnchoredVolume* volume, int64_t time_ns, double shares, double dollars
) except -1 nogil:
    """One trade; nothing when the newest bar covers it."""
    cdef Second* newest = newest_second(volume)
    cdef int64_t second = time_ns // 1_000_000_000
    if second < volume.end:
        return 0
    volume.shares += shares
    volume.dollars += dollars
    if time_ns >= volume.snapshot_until:
        volume.shares_after += shares
    if newest != NULL and newest.second >= second:
        if newest.second > second:
            return add_second(pool, volume, second, shares, dollars)
        newest.shares += shares
        newest.dollars += dollars
        return 0
    newest = <Second*>append(pool, &volume.seconds, sizeof(Second))
    newest.second = second
    newest.shares = shares
    newest.dollars = dollars
    return 0


cdef inline bint is_told(const AnchoredVolume* volume) noexcept nogil:
    """True while the shares are those of a snapshot and of the trades after it."""
    return volume.snapshot_until != no_snapshot()


cdef inline double priced_shares(const AnchoredVolume* volume) noexcept nogil:
    """The shares whose dollars are known."""
    return volume.shares if volume.end < 0 else volume.bar_shares + volume.shares


cdef inline double total_shares(const AnchoredVolume* volume) noexcept nogil:
    return volume.snapshot_shares + volume.shares_after if is_told(volume) else priced_shares(volume)


cdef inline double total_dollars(const AnchoredVolume* volume) noexcept nogil:
    return volume.dollars if volume.end < 0 else volume.bar_dollars + volume.dollars


cdef int write_volume(Writer* writer, const ChunkPool* pool, const AnchoredVolume* volume) except -1
cdef int read_volume(Cursor* cursor, ChunkPool* pool, AnchoredVolume* volume) except -1
