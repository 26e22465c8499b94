# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Recognition of duplicate trades: a set of 64-bit identities that forgets the oldest."""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdlib cimport calloc, free
from libc.string cimport memset

cdef extern from *:
    """
    #if defined(__GNUC__)
    #define tradeul_prefetch(address) __builtin_prefetch(address)
    #else
    #define tradeul_prefetch(address) ((void)(address))
    #endif
    """
    void tradeul_prefetch(const void* address) noexcept nogil

# Two 64-bit identities are equal by chance with a probability of about
# n**2 / 2**65: 33 million remembered and 100 million a day make 2e-4 a day.


cdef inline uint32_t place(uint64_t identity, uint32_t capacity) noexcept nogil:
    """The identity's own slot: its bits 24 to 55 scaled to the capacity.

    Scaling keeps the order of identities, so a segment that grows is copied almost in sequence.
    """
    return <uint32_t>((((identity >> 24) & 0xFFFFFFFFu) * capacity) >> 32)


cdef inline int put(Segment* segment, uint64_t identity) noexcept nogil:
    """1 when it was there already, else 0 with it put in; there must be an empty slot."""
    cdef uint32_t i = place(identity, segment.capacity)
    while segment.slots[i]:
        if segment.slots[i] == identity:
            return 1
        i += 1
        if i == segment.capacity:
            i = 0
    segment.slots[i] = identity
    segment.used += 1
    return 0


cdef inline bint holds(const Segment* segment, uint64_t identity) noexcept nogil:
    if segment.capacity == 0:
        return False
    cdef uint32_t i = place(identity, segment.capacity)
    while segment.slots[i]:
        if segment.slots[i] == identity:
            return True
        i += 1
        if i == segment.capacity:
            i = 0
    return False


cdef void empty(Generation* generation) noexcept nogil:
    cdef int i
    for i in range(SEGMENTS):
        free(generation.segments[i].slots)
    memset(generation, 0, sizeof(Generation))


cdef void release(Generation* generation) noexcept nogil:
    if generation == NULL:
        return
    empty(generation)
    free(generation)


cdef class RecentTrades:
    """Identities in two generations of at most `max_remembered` each.

    A full current generation becomes the previous one, and what that held is forgotten: so
    between `max_remembered` and twice as many of the newest are known. Each generation is 256
    open-addressing tables that grow on their own, by half, at three quarters full: starting
    costs 16 KB, and growing never stops the stream for longer than one small table takes.
    ValueError when max_remembered is not 1 to 2**31.
    """

    def __cinit__(self, int64_t max_remembered=2**24):
        if not 1 <= max_remembered <= 2**31:
            raise ValueError(f"max_remembered: expected 1 to {2**31}, was {max_remembered}")
        self.max_remembered = max_remembered
        self.current = <Generation*>calloc(1, sizeof(Generation))
        self.previous = <Generation*>calloc(1, sizeof(Generation))
        if self.current == NULL or self.previous == NULL:
            raise MemoryError("no memory to recognise duplicates")

    def __dealloc__(self):
        release(self.current)
        release(self.previous)

    def __len__(self):
        return self.current.used + self.previous.used

    def __reduce__(self):
        raise TypeError("RecentTrades cannot be pickled")

    @property
    def nbytes(self):
        """Bytes of all tables."""
        cdef int64_t size = 2 * sizeof(Generation)
        cdef int i
        for i in range(SEGMENTS):
            size += 8 * (<int64_t>self.current.segments[i].capacity + self.previous.segments[i].capacity)
        return size

    cdef int _room(self, Segment* segment) except -1 nogil:
        """Makes sure that three quarters are the most that is used after one more."""
        cdef uint32_t capacity = segment.capacity + segment.capacity // 2 if segment.capacity else 8
        cdef Segment larger
        cdef uint32_t i
        if (<uint64_t>segment.used + 1) * 4 <= <uint64_t>segment.capacity * 3:
            return 0
        larger.slots = <uint64_t*>calloc(capacity, 8)
        if larger.slots == NULL:
            with gil:
                raise MemoryError(f"no memory to recognise duplicates: {capacity} slots")
        larger.capacity = capacity
        larger.used = 0
        for i in range(segment.capacity):
            if segment.slots[i]:
                put(&larger, segment.slots[i])
        free(segment.slots)
        segment[0] = larger
        return 0

    cdef void _rotate(self) noexcept nogil:
        """Needs no memory: a rotation that failed would have to be made up for."""
        cdef Generation* emptied = self.previous
        empty(emptied)
        self.previous = self.current
        self.current = emptied

    cdef void forget(self) noexcept nogil:
        """Knows nothing any more, and gives its memory back."""
        empty(self.current)
        empty(self.previous)

    cdef void prefetch(self, uint64_t identity) noexcept nogil:
        """Fetches what `seen` will look at: a table is larger than the caches."""
        cdef const Segment* segment = &self.current.segments[identity >> 56]
        if segment.capacity:
            tradeul_prefetch(segment.slots + place(identity, segment.capacity))
        segment = &self.previous.segments[identity >> 56]
        if segment.capacity:
            tradeul_prefetch(segment.slots + place(identity, segment.capacity))

    cdef int seen(self, uint64_t identity) except -1 nogil:
        """1 when the identity is known, else 0 and from now on it is."""
        cdef Segment* segment
        if holds(&self.previous.segments[identity >> 56], identity):
            return 1
        segment = &self.current.segments[identity >> 56]
        self._room(segment)
        if put(segment, identity):
            return 1
        self.current.used += 1
        if self.current.used == self.max_remembered:
            self._rotate()
        return 0

    def add(self, uint32_t symbol_id, uint64_t trade_key, int64_t day_ns=0):
        """True if this trade is new on the day that `day_ns` names; key 0 is no identity and always new."""
        if trade_key == 0:
            return True
        return self.seen(identity(trade_key, symbol_id, day_mark(day_ns))) == 0


cpdef uint64_t trade_key(int64_t exchange, int64_t trf, str trade_id) except? 0:
    """The identity of a trade as 64 bits: a hash of exchange, trade reporting facility (0 for none) and trade id.

    The same in every process and on every machine. 0, which is no identity, for the empty id or None.
    """
    cdef Py_ssize_t length = 0
    cdef const char* text
    if trade_id is None:
        return 0
    text = PyUnicode_AsUTF8AndSize(trade_id, &length)
    return hash_trade(exchange, trf, text, length)
