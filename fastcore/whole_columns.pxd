# Columns of all rows, as programs read them: of the fields that some program has wanted.

from libc.stdint cimport int32_t, uint8_t, uint64_t

from fastcore.change_log cimport ChangeLog
from fastcore.field_numbers cimport F_COUNT
from fastcore.row_values cimport Column

ctypedef double* column_ptr


cdef class WholeColumns:
    cdef column_ptr[F_COUNT] columns    # [field number][symbol id]; NULL for a text, or when nobody has wanted it
    cdef column_ptr[F_COUNT] copies     # those of them that are copies
    cdef uint64_t[F_COUNT] places       # in the log of changes: up to where a copy shows them
    cdef uint8_t[F_COUNT] wanted        # lowest bit: in this second; the next one: in the second before
    cdef uint64_t second_began          # log.second_began of this second
    cdef int32_t room                   # rows that a copy has room for

    # Room for so many rows; the copies there were are no longer.
    cdef void make_room(self, int32_t room) noexcept
    # Brings the columns of these fields to what the rows, `count` of them, show.
    cdef int bring(
        self, const Column* source, const ChangeLog* log, int32_t count, const int* fields, int field_count
    ) except -1
    # The same of the fields that are wanted again and again.
    cdef void follow(self, const Column* source, const ChangeLog* log, int32_t count) noexcept nogil
    cdef void _follow(self, const Column* source, const ChangeLog* log, int32_t count, int field) noexcept nogil
