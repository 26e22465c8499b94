# The best rows of a list in order, kept in order as rows change: those that the list shows and
# some more, which move up when others leave. What is left out is no better than a bound.

from libc.stdint cimport int32_t, uint8_t

from fastcore.top_rows cimport LaterKeys

cdef enum:
    MOST_KEYS = 8


cdef class OrderedRows:
    cdef int32_t limit          # so many are needed while there are as many
    cdef int32_t room           # so many are kept at most
    cdef int width              # keys of a row, at least 1
    cdef int32_t count
    cdef int32_t* ids           # [rank - 1]
    cdef double* keys           # [rank - 1][key]
    cdef bint is_complete       # nothing is left out
    cdef double[MOST_KEYS] bound
    cdef int32_t bound_id
    cdef int32_t* next_ids
    cdef double* next_keys

    cdef void begin(self) noexcept nogil
    cdef void append(self, int32_t symbol_id, const double* keys, Py_ssize_t stride) noexcept nogil
    cdef void end(self, bint is_complete) noexcept nogil
    cdef void _set_bound(self) noexcept nogil
    cdef bint is_beyond(self, int32_t symbol_id, const double* keys, Py_ssize_t stride, const int32_t* symbol_order
                        ) noexcept nogil
    cdef bint change(self, const uint8_t* has_changed, const int32_t* ids, const LaterKeys* keys, const int32_t* order,
                     int32_t count, const int32_t* symbol_order) noexcept nogil
