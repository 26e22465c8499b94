# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Copies of the rows' fields as columns.

To copy a field of all rows takes as long as much of a watermark. What is wanted in every second, which is what the
built-in lists read, is therefore copied row by row as rows change, while they are still in the cache.
"""

from libc.math cimport NAN
from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport free, malloc

from fastcore.change_log cimport NO_ROW, ChangeLog, depends_of, is_all_changed
from fastcore.row_values cimport Column


cdef class WholeColumns:

    def __dealloc__(self):
        self.make_room(0)

    cdef void make_room(self, int32_t room) noexcept:
        cdef int field
        for field in range(F_COUNT):
            free(self.copies[field])
            self.copies[field] = self.columns[field] = NULL
            self.places[field] = self.wanted[field] = 0
        self.room = room

    cdef int bring(
        self, const Column* source, const ChangeLog* log, int32_t count, const int* fields, int field_count
    ) except -1:
        cdef int32_t i
        cdef int k, field
        for k in range(field_count):
            field = fields[k]
            if source[field].values == NULL:
                continue
            if source[field].stride == 1:
                self.columns[field] = source[field].values
                continue
            if self.copies[field] == NULL:
                self.copies[field] = <double*>malloc(<size_t>self.room * sizeof(double))
                if self.copies[field] == NULL:
                    raise MemoryError(f"no memory for a column of {self.room} rows")
                for i in range(self.room):
                    self.copies[field][i] = NAN
                self.columns[field] = self.copies[field]
            self.wanted[field] |= 1
            self._follow(source, log, count, field)
        return 0

    cdef void follow(self, const Column* source, const ChangeLog* log, int32_t count) noexcept nogil:
        cdef bint is_next_second = log.second_began != self.second_began
        cdef int field
        self.second_began = log.second_began
        for field in range(F_COUNT):
            if self.wanted[field]:
                self._follow(source, log, count, field)
                if is_next_second:
                    self.wanted[field] = (self.wanted[field] & 1) << 1

    cdef void _follow(self, const Column* source, const ChangeLog* log, int32_t count, int field) noexcept nogil:
        cdef const double* values = source[field].values
        cdef Py_ssize_t stride = source[field].stride, i
        cdef double* copy = self.copies[field]
        cdef uint64_t place = self.places[field], at = place % log.room
        self.places[field] = log.end
        if is_all_changed(log, place, depends_of(field)) or 2 * (log.end - place) > <uint64_t>count:
            for i in range(count):
                copy[i] = values[i * stride]
            return
        while place < log.end:
            i = log.ids[at]
            if i != NO_ROW:
                copy[i] = values[i * stride]
            at = at + 1 if at + 1 < log.room else 0
            place += 1
