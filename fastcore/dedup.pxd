# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Which trades have been seen lately.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

cdef enum:
    SEGMENTS = 256

cdef struct Segment:
    uint64_t* slots             # 0 is empty
    uint32_t capacity
    uint32_t used

cdef struct Generation:
    Segment[SEGMENTS] segments
    int64_t used


cdef inline uint64_t mix64(uint64_t x) noexcept nogil:
    """Spreads every bit of x over all 64 (the finaliser of splitmix64, a bijection)."""
    x ^= x >> 30
    x *= 0xBF58476D1CE4E5B9u
    x ^= x >> 27
    x *= 0x94D049BB133111EBu
    return x ^ (x >> 31)


cdef inline uint64_t day_mark(int64_t day_ns) noexcept nogil:
    """Keeps the identities of one day apart from those of others; `day_ns` is any time that names the day."""
    return mix64(<uint64_t>day_ns)


cdef inline uint64_t identity(uint64_t trade_key, uint32_t symbol_id, uint64_t day) noexcept nogil:
    """The mixed identity of a symbol's trade on the day of a day_mark(); never 0."""
    cdef uint64_t mixed = mix64(trade_key ^ mix64((<uint64_t>symbol_id + 1) ^ day))
    return mixed if mixed else 1


cdef inline uint64_t hash_trade(int64_t exchange, int64_t trf, const char* text, Py_ssize_t length) noexcept nogil:
    """Returns the trade_key() of a trade id given as UTF-8 bytes."""
    cdef uint64_t mixed
    cdef Py_ssize_t i
    if length == 0:
        return 0
    mixed = mix64(mix64(<uint64_t>exchange + 0x9E3779B97F4A7C15u) + <uint64_t>trf)
    for i in range(length):     # FNV-1a
        mixed = (mixed ^ <unsigned char>text[i]) * 0x100000001B3u
    mixed = mix64(mixed)
    return mixed if mixed else 1


cdef class RecentTrades:
    cdef readonly int64_t max_remembered
    cdef Generation* current
    cdef Generation* previous

    cdef int _room(self, Segment* segment) except -1 nogil
    cdef void _rotate(self) noexcept nogil
    cdef void forget(self) noexcept nogil
    cdef int seen(self, uint64_t identity) except -1 nogil
    cdef void prefetch(self, uint64_t identity) noexcept nogil

cpdef uint64_t trade_key(int64_t exchange, int64_t trf, str trade_id) except? 0
