# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Volume by time of day of every symbol, and the part of it that now needs.

An encoded baseline is a byte per kind, which is the bytes of each of its values, padded to HEADER; then the kinds in
their order. Of SPREAD_BYTES, the sums of squares come first, then the distances in units of the last place.
"""

from libc.math cimport rint, sqrt
from libc.stdint cimport int8_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memset

from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef double NAN = float("nan")
# Of 4 bytes.
cdef double LARGEST = 4294967295.0

cdef enum:
    HEADER = 8
    SPREAD_BYTES = 5
    VALUES = BASELINE_KINDS * SLOTS


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


cdef int width_of_means(const double* values, double days) noexcept nogil:
    """The bytes that each value needs: of its sum, where that gives it back."""
    cdef double total, largest = 0
    cdef int slot
    for slot in range(SLOTS):
        total = rint(values[slot] * days)
        # As whole numbers: -0.0 has none.
        if not (total >= 0 and total <= LARGEST) or bits_of(<uint32_t>total / days) != bits_of(values[slot]):
            return sizeof(double)
        largest = max(largest, total)
    return 2 if largest <= 65535 else 4


cdef int width_of_spreads(const double* values, double days) noexcept nogil:
    cdef double squares
    cdef int64_t distance
    cdef int slot
    for slot in range(SLOTS):
        squares = rint(values[slot] * values[slot] * days * (days - 1))
        if not (squares >= 0 and squares <= LARGEST):
            return sizeof(double)
        distance = bits_of(values[slot]) - bits_of(spread_of(<uint32_t>squares, 0, days))
        if distance < -128 or distance > 127:
            return sizeof(double)
    return SPREAD_BYTES


cdef void encode(uint8_t* at, int width, const double* values, double days) noexcept nogil:
    cdef double squares
    cdef int slot
    for slot in range(SLOTS):
        if width == 2:
            (<uint16_t*>at)[slot] = <uint16_t>rint(values[slot] * days)
        elif width == 4:
            (<uint32_t*>at)[slot] = <uint32_t>rint(values[slot] * days)
        elif width == SPREAD_BYTES:
            squares = rint(values[slot] * values[slot] * days * (days - 1))
            (<uint32_t*>at)[slot] = <uint32_t>squares
            (<int8_t*>(at + 4 * SLOTS))[slot] = <int8_t>(
                bits_of(values[slot]) - bits_of(spread_of(<uint32_t>squares, 0, days))
            )
        else:
            (<double*>at)[slot] = values[slot]


cdef int set_baseline(Baselines* baselines, uint32_t symbol_id, uint32_t days, const double* values) except -1:
    cdef int[BASELINE_KINDS] widths
    cdef size_t size = HEADER
    cdef uint8_t* block
    cdef uint8_t* at
    cdef int kind
    for kind in range(BASELINE_KINDS):
        if kind < 2:
            widths[kind] = width_of_means(values + kind * SLOTS, days)
        else:
            widths[kind] = width_of_spreads(values + kind * SLOTS, days)
        size += widths[kind] * SLOTS
    block = <uint8_t*>malloc(size)
    if block == NULL:
        raise MemoryError("no memory for a baseline")
    memset(block, 0, HEADER)
    at = block + HEADER
    for kind in range(BASELINE_KINDS):
        block[kind] = <uint8_t>widths[kind]
        encode(at, widths[kind], values + kind * SLOTS, days)
        at += widths[kind] * SLOTS
    free(baselines.blocks[symbol_id])
    baselines.blocks[symbol_id] = block
    baselines.days[symbol_id] = days
    return 0


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
    baselines.slot = slot
    for i in range(baselines.capacity):
        fill_symbol(baselines, i)


cdef int write_baseline(Writer* writer, const Baselines* baselines, int32_t symbol_id) except -1:
    cdef int64_t has_block = baselines.blocks[symbol_id] != NULL
    cdef double[VALUES] values
    cdef int i
    write_block(writer, &has_block, sizeof(int64_t))
    if has_block:
        for i in range(VALUES):
            values[i] = slot_value(baselines, symbol_id, i // SLOTS, i % SLOTS)
        write_block(writer, &baselines.days[symbol_id], sizeof(uint32_t))
        write_block(writer, values, sizeof(values))
    return 0


cdef int read_baseline(Cursor* cursor, Baselines* baselines, int32_t symbol_id) except -1:
    cdef int64_t has_block
    cdef double[VALUES] values
    cdef uint32_t days
    read_block(cursor, &has_block, sizeof(int64_t))
    if has_block:
        read_block(cursor, &days, sizeof(uint32_t))
        read_block(cursor, values, sizeof(values))
        set_baseline(baselines, <uint32_t>symbol_id, days, values)
    baselines.slot = -1
    return 0
