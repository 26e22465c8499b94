# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Volume by time of day of every symbol, and the part of it that now needs."""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef double NAN = float("nan")


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
    baselines.blocks = <double**>larger
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


cdef double* baseline_block(Baselines* baselines, uint32_t symbol_id) except NULL:
    """The symbol's block, made when it has none; fill it, then fill_symbol()."""
    if baselines.blocks[symbol_id] == NULL:
        baselines.blocks[symbol_id] = <double*>calloc(BASELINE_KINDS * SLOTS, sizeof(double))
        if baselines.blocks[symbol_id] == NULL:
            raise MemoryError("no memory for a baseline")
    return baselines.blocks[symbol_id]


cdef void fill_symbol(Baselines* baselines, int32_t symbol_id) noexcept nogil:
    """Takes the symbol's values around the current slot from its block."""
    cdef int kind, slot = baselines.slot
    cdef const double* block = baselines.blocks[symbol_id]
    for kind in range(BASELINE_KINDS):
        if block == NULL or baselines.days[symbol_id] < LEAST_DAYS or slot < 0:
            baselines.begin[kind][symbol_id] = baselines.finish[kind][symbol_id] = NAN
        else:
            # Nothing has been traded at 04:00.
            baselines.begin[kind][symbol_id] = block[kind * SLOTS + slot - 1] if slot else 0
            baselines.finish[kind][symbol_id] = block[kind * SLOTS + slot]
    if block == NULL or baselines.days[symbol_id] < LEAST_DAYS or slot < 0:
        baselines.before[symbol_id] = NAN
    else:
        baselines.before[symbol_id] = block[slot - 2] if slot > 1 else 0


cdef SlotLine volume_line(const Baselines* baselines, int32_t symbol_id, int32_t slot) noexcept nogil:
    cdef SlotLine line
    cdef const double* block = baselines.blocks[symbol_id]
    line.begin = line.finish = NAN
    if slot == baselines.slot:
        line.begin = baselines.begin[0][symbol_id]
        line.finish = baselines.finish[0][symbol_id]
    elif slot == baselines.slot - 1:
        line.begin = baselines.before[symbol_id]
        line.finish = baselines.begin[0][symbol_id]
    elif block != NULL and baselines.days[symbol_id] >= LEAST_DAYS:
        # Nothing has been traded at 04:00.
        line.begin = block[slot - 1] if slot else 0
        line.finish = block[slot]
    return line


cdef void fill_slot(Baselines* baselines, int32_t slot) noexcept nogil:
    """Moves all symbols to another slot."""
    cdef int32_t i
    baselines.slot = slot
    for i in range(baselines.capacity):
        fill_symbol(baselines, i)


cdef int write_baseline(Writer* writer, const Baselines* baselines, int32_t symbol_id) except -1:
    cdef int64_t has_block = baselines.blocks[symbol_id] != NULL
    write_block(writer, &has_block, sizeof(int64_t))
    if has_block:
        write_block(writer, &baselines.days[symbol_id], sizeof(uint32_t))
        write_block(writer, baselines.blocks[symbol_id], BASELINE_KINDS * SLOTS * sizeof(double))
    return 0


cdef int read_baseline(Cursor* cursor, Baselines* baselines, int32_t symbol_id) except -1:
    cdef int64_t has_block
    read_block(cursor, &has_block, sizeof(int64_t))
    if has_block:
        read_block(cursor, &baselines.days[symbol_id], sizeof(uint32_t))
        read_block(cursor, baseline_block(baselines, symbol_id), BASELINE_KINDS * SLOTS * sizeof(double))
    baselines.slot = -1
    return 0
