# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A log of changed rows."""

from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport free, malloc


cdef int grow_log(ChangeLog* log, int32_t rows) except -1:
    """Room for so many rows to change twice; what has changed before is "everything"."""
    free(log.ids)
    log.ids = <int32_t*>malloc(2 * <size_t>rows * sizeof(int32_t))
    if log.ids == NULL:
        log.room = 0
        raise MemoryError(f"no memory for the changes of {rows} rows")
    log.room = 2 * <uint64_t>rows
    log.all_changed = next_place(log)
    return 0


cdef void free_log(ChangeLog* log) noexcept:
    free(log.ids)


cdef void note_rows(ChangeLog* log, const int32_t* ids, int32_t count) noexcept nogil:
    cdef int32_t k
    cdef uint64_t at = log.end % log.room
    for k in range(count):
        log.ids[at] = ids[k]
        at = at + 1 if at + 1 < log.room else 0
    log.end += <uint64_t>count
