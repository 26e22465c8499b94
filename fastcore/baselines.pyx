# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Volume by time of day of every symbol, and the part of it that now needs.

An encoded baseline is a byte per kind, which is the bytes of each of its values, padded to HEADER; then the kinds in
their order. Of SPREAD_BYTES, the sums of squares come first, then the distances in units of the last place.
"""

from libc.math cimport sqrt
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from fastcore.memory cimport fetch_line
from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef double NAN = float("nan")
# A double below 2**32 with this added has the nearest whole number in its lower half, and this in its upper one.
cdef double ROUNDING = 4503599627370496.0
cdef uint64_t ROUNDED_HIGH = 0x43300000

cdef enum:
    HEADER = 8
    SPREAD_BYTES = 5
    AHEAD = 8                   # symbols between a fetch and its use
    LONGEST = HEADER + BASELINE_KINDS * SLOTS * 8


cdef int grow_baselines(Baselines* baselines, int32_t capacity) except -1:
    """Room for so many symbols; new ones have no baseline."""
    cdef int kind, old = baselines.capacity
    cdef int32_t i
    cdef void* larger
    if capacity <= old:
        return 0
    larger = realloc(baselines.blocks, capacity * sizeof(column_ptr))
    if larger == NULL:
        raise MemoryError("no memory for baselines")
    baselines.blocks = <uint8_t**>larger
    larger = realloc(baselines.days, capacity * sizeof(uint32_t))
    if larger == NULL:
        raise MemoryError("no memory for baselines")
    baselines.days = <uint32_t*>larger
    for kind in range(BASELINE_KINDS):
        larger = realloc(baselines.begin[kind], capacity * sizeof(double))
        if larger == NULL:
            raise MemoryError("no memory for baselines")
        baselines.begin[kind] = <double*>larger
        larger = realloc(baselines.finish[kind], capacity * sizeof(double))
        if larger == NULL:
            raise MemoryError("no memory for baselines")
        baselines.finish[kind] = <double*>larger
        for i in range(old, capacity):
            baselines.begin[kind][i] = baselines.finish[kind][i] = NAN
    larger = realloc(baselines.before, capacity * sizeof(double))
    if larger == NULL:
        raise MemoryError("no memory for baselines")
    baselines.before = <double*>larger
    for i in range(old, capacity):
        baselines.before[i] = NAN
        baselines.blocks[i] = NULL
        baselines.days[i] = 0
    baselines.capacity = capacity
    return 0


cdef void free_baselines(Baselines* baselines) noexcept:
    cdef int kind
    forget_baselines(baselines)
    free(baselines.blocks)
    free(baselines.days)
    for kind in range(BASELINE_KINDS):
        free(baselines.begin[kind])
        free(baselines.finish[kind])
    free(baselines.before)
    memset(baselines, 0, sizeof(Baselines))


cdef void forget_baseline(Baselines* baselines, uint32_t symbol_id) noexcept:
    """The symbol has no baseline any more."""
    free(baselines.blocks[symbol_id])
    baselines.blocks[symbol_id] = NULL
    baselines.days[symbol_id] = 0
    baselines.slot = -1


cdef void forget_baselines(Baselines* baselines) noexcept:
    """Nobody has a baseline any more."""
    cdef int32_t i
    for i in range(baselines.capacity):
        forget_baseline(baselines, <uint32_t>i)


cdef void move_baselines(Baselines* baselines, Baselines* earlier, int32_t count) noexcept nogil:
    """The first `count` symbols get what they had in `earlier`, which is left without."""
    cdef int32_t i
    for i in range(count):
        free(baselines.blocks[i])
        baselines.blocks[i] = earlier.blocks[i]
        baselines.days[i] = earlier.days[i]
        earlier.blocks[i] = NULL
        earlier.days[i] = 0
    baselines.slot = earlier.slot = -1


cdef inline int64_t bits_of(double value) noexcept nogil:
    cdef int64_t bits
    memcpy(&bits, &value, sizeof(double))
    return bits


cdef inline double spread_of(uint32_t squares, int8_t last_bits, double days) noexcept nogil:
    """The sample standard deviation of whole numbers: days * the sum of squares less the square of the sum, under a
    root; and how far in units of the last place it was from that."""
    cdef double value = sqrt(squares / (days * (days - 1)))
    cdef int64_t bits = bits_of(value) + last_bits
    memcpy(&value, &bits, sizeof(double))
    return value


cdef int encode_means(uint8_t* at, const double* values, double days) noexcept nogil:
    """Writes them as the sums that they were made of and returns the bytes of each, or as they are when one would not
    be given back."""
    cdef uint32_t[SLOTS] sums
    cdef uint64_t bits, wrong = 0
    cdef uint32_t used = 0
    cdef double summed
    cdef int slot
    # Without branches, so that the compiler takes several at once.
    for slot in range(SLOTS):
        summed = values[slot] * days + ROUNDING
        bits = bits_of(summed)
        sums[slot] = <uint32_t>bits
        used |= sums[slot]
        # As bits: -0.0 is no sum's mean.
        wrong |= (bits >> 32) ^ ROUNDED_HIGH
        wrong |= bits_of((summed - ROUNDING) / days) ^ bits_of(values[slot])
    if wrong:
        memcpy(at, values, SLOTS * sizeof(double))
        return sizeof(double)
    if used <= 65535:
        for slot in range(SLOTS):
            (<uint16_t*>at)[slot] = <uint16_t>sums[slot]
        return sizeof(uint16_t)
    memcpy(at, sums, sizeof(sums))
    return sizeof(uint32_t)


cdef int encode_spreads(uint8_t* at, const double* values, double days) noexcept nogil:
    """Writes them as sums of squares and last bits, or as they are, and returns the bytes of each."""
    cdef uint32_t* squares = <uint32_t*>at
    cdef int8_t* last_bits = <int8_t*>(at + SLOTS * sizeof(uint32_t))
    cdef double freedom = days * (days - 1)
    cdef uint64_t bits, distance, wrong = 0
    cdef double summed
    cdef int slot
    for slot in range(SLOTS):
        summed = values[slot] * values[slot] * freedom + ROUNDING
        bits = bits_of(summed)
        distance = bits_of(values[slot]) - bits_of(sqrt((summed - ROUNDING) / freedom))
        squares[slot] = <uint32_t>bits
        last_bits[slot] = <int8_t>distance
        wrong |= (bits >> 32) ^ ROUNDED_HIGH
        wrong |= (distance + 128) >> 8
    if wrong:
        memcpy(at, values, SLOTS * sizeof(double))
        return sizeof(double)
    return SPREAD_BYTES


cdef int set_baseline(Baselines* baselines, uint32_t symbol_id, uint32_t days, const double* values) except -1:
    cdef uint8_t[LONGEST] encoded
    cdef uint8_t* at = encoded + HEADER
    cdef int kind
    memset(encoded, 0, HEADER)
    for kind in range(BASELINE_KINDS):
        if kind < 2:
            encoded[kind] = <uint8_t>encode_means(at, values + kind * SLOTS, days)
        else:
            encoded[kind] = <uint8_t>encode_spreads(at, values + kind * SLOTS, days)
        at += encoded[kind] * SLOTS
    return set_encoded(baselines, symbol_id, days, encoded, at - encoded)


cdef int set_encoded(
    Baselines* baselines, uint32_t symbol_id, uint32_t days, const uint8_t* encoded, size_t size
) except -1:
    cdef uint8_t* block = <uint8_t*>malloc(size)
    if block == NULL:
        raise MemoryError("no memory for a baseline")
    memcpy(block, encoded, size)
    free(baselines.blocks[symbol_id])
    baselines.blocks[symbol_id] = block
    baselines.days[symbol_id] = days
    return 0


cdef inline size_t size_of(const uint8_t* block) noexcept nogil:
    return HEADER + SLOTS * (<size_t>block[0] + block[1] + block[2])


cdef double slot_value(const Baselines* baselines, int32_t symbol_id, int kind, int slot) noexcept nogil:
    cdef const uint8_t* block = baselines.blocks[symbol_id]
    cdef const uint8_t* at = block + HEADER
    cdef double days = baselines.days[symbol_id]
    cdef int width = block[kind]
    if kind > 0:
        at += block[0] * SLOTS
    if kind > 1:
        at += block[1] * SLOTS
    if width == 2:
        return (<const uint16_t*>at)[slot] / days
    if width == 4:
        return (<const uint32_t*>at)[slot] / days
    if width == SPREAD_BYTES:
        return spread_of((<const uint32_t*>at)[slot], (<const int8_t*>(at + 4 * SLOTS))[slot], days)
    return (<const double*>at)[slot]


cdef void fill_symbol(Baselines* baselines, int32_t symbol_id) noexcept nogil:
    """Takes the symbol's values around the current slot from its block."""
    cdef int kind, slot = baselines.slot
    cdef bint is_known = baselines.blocks[symbol_id] != NULL and baselines.days[symbol_id] >= LEAST_DAYS and slot >= 0
    for kind in range(BASELINE_KINDS):
        if is_known:
            # Nothing has been traded at 04:00.
            baselines.begin[kind][symbol_id] = slot_value(baselines, symbol_id, kind, slot - 1) if slot else 0
            baselines.finish[kind][symbol_id] = slot_value(baselines, symbol_id, kind, slot)
        else:
            baselines.begin[kind][symbol_id] = baselines.finish[kind][symbol_id] = NAN
    if is_known:
        baselines.before[symbol_id] = slot_value(baselines, symbol_id, 0, slot - 2) if slot > 1 else 0
    else:
        baselines.before[symbol_id] = NAN


cdef SlotLine volume_line(const Baselines* baselines, int32_t symbol_id, int32_t slot) noexcept nogil:
    cdef SlotLine line
    line.begin = line.finish = NAN
    if slot == baselines.slot:
        line.begin = baselines.begin[0][symbol_id]
        line.finish = baselines.finish[0][symbol_id]
    elif slot == baselines.slot - 1:
        line.begin = baselines.before[symbol_id]
        line.finish = baselines.begin[0][symbol_id]
    elif baselines.blocks[symbol_id] != NULL and baselines.days[symbol_id] >= LEAST_DAYS:
        # Nothing has been traded at 04:00.
        line.begin = slot_value(baselines, symbol_id, 0, slot - 1) if slot else 0
        line.finish = slot_value(baselines, symbol_id, 0, slot)
    return line


cdef void fill_slot(Baselines* baselines, int32_t slot) noexcept nogil:
    """Moves all symbols to another slot."""
    cdef int32_t i
    if baselines.slot >= 0 and slot == baselines.slot + 1:
        move_to_next_slot(baselines)
        return
    baselines.slot = slot
    for i in range(baselines.capacity):
        fill_symbol(baselines, i)


cdef void move_to_next_slot(Baselines* baselines) noexcept nogil:
    """The same in less time: what was at the end of a slot is at the begin of the next one."""
    cdef double* finish = baselines.before
    cdef const uint8_t* block
    cdef int kind
    cdef int32_t i, ahead
    baselines.slot += 1
    baselines.before = baselines.begin[0]
    for kind in range(BASELINE_KINDS):
        if kind > 0:
            finish = baselines.begin[kind]
        baselines.begin[kind] = baselines.finish[kind]
        baselines.finish[kind] = finish
    for i in range(baselines.capacity):
        # A block's header is there when it says which lines of it to fetch.
        ahead = min(i + 2 * AHEAD, baselines.capacity - 1)
        if baselines.blocks[ahead] != NULL:
            fetch_line(baselines.blocks[ahead])
        block = baselines.blocks[min(i + AHEAD, baselines.capacity - 1)]
        if block != NULL:
            fetch_line(block + HEADER + block[0] * baselines.slot)
            fetch_line(block + HEADER + block[0] * SLOTS + block[1] * baselines.slot)
            fetch_line(block + HEADER + (block[0] + block[1]) * SLOTS + (block[2] & ~1) * baselines.slot)
        if baselines.blocks[i] != NULL and baselines.days[i] >= LEAST_DAYS:
            for kind in range(BASELINE_KINDS):
                baselines.finish[kind][i] = slot_value(baselines, i, kind, baselines.slot)
        else:
            for kind in range(BASELINE_KINDS):
                baselines.finish[kind][i] = NAN


cdef int write_baseline(Writer* writer, const Baselines* baselines, int32_t symbol_id) except -1:
    """As it is kept, with its days after the header; a header of zeros for none."""
    cdef const uint8_t* block = baselines.blocks[symbol_id]
    cdef uint64_t none = 0
    if block == NULL:
        write_block(writer, &none, HEADER)
        return 0
    write_block(writer, block, HEADER)
    write_block(writer, &baselines.days[symbol_id], sizeof(uint32_t))
    write_block(writer, block + HEADER, size_of(block) - HEADER)
    return 0


cdef int read_baseline(Cursor* cursor, Baselines* baselines, int32_t symbol_id) except -1:
    cdef uint8_t[LONGEST] encoded
    cdef uint32_t days
    cdef int kind, width
    baselines.slot = -1
    read_block(cursor, encoded, HEADER)
    if encoded[0] == 0:
        return 0
    for kind in range(BASELINE_KINDS):
        width = encoded[kind]
        if width != sizeof(double) and (width != SPREAD_BYTES if kind == 2 else width != 2 and width != 4):
            raise ValueError(f"state: expected a baseline whose values of kind {kind} have 2, 4, 5 or 8 bytes, was {width}")
    read_block(cursor, &days, sizeof(uint32_t))
    read_block(cursor, encoded + HEADER, size_of(encoded) - HEADER)
    set_encoded(baselines, <uint32_t>symbol_id, days, encoded, size_of(encoded))
    return 0
