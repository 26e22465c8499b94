# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The best rows of a list, in order while rows change."""

from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastcore.top_rows cimport LaterKeys


cdef inline bint _before(
    int32_t a, const double* a_keys, Py_ssize_t a_stride, int32_t b, const double* b_keys, Py_ssize_t b_stride,
    int width, const int32_t* symbol_order
) noexcept nogil:
    cdef int k
    for k in range(width):
        if a_keys[k * a_stride] != b_keys[k * b_stride]:
            return a_keys[k * a_stride] < b_keys[k * b_stride]
    return symbol_order[a] < symbol_order[b]


cdef class OrderedRows:
    """Of a list of `limit` rows, ordered by `key_count` keys and the symbol."""

    def __cinit__(self, int32_t limit, int key_count):
        self.limit = limit
        # What is kept beyond the limit is what can leave before all rows have to be looked at again.
        self.room = limit + limit // 2 + 32
        self.width = max(key_count, 1)
        self.ids = <int32_t*>malloc(self.room * sizeof(int32_t))
        self.keys = <double*>malloc(<size_t>self.room * self.width * sizeof(double))
        self.next_ids = <int32_t*>malloc(self.room * sizeof(int32_t))
        self.next_keys = <double*>malloc(<size_t>self.room * self.width * sizeof(double))
        if self.ids == NULL or self.keys == NULL or self.next_ids == NULL or self.next_keys == NULL:
            raise MemoryError(f"no memory for the order of {limit} rows")

    def __dealloc__(self):
        free(self.ids)
        free(self.keys)
        free(self.next_ids)
        free(self.next_keys)

    cdef void begin(self) noexcept nogil:
        """Forgets all rows; append() and end() follow."""
        self.count = 0

    cdef void append(self, int32_t symbol_id, const double* keys, Py_ssize_t stride) noexcept nogil:
        """The next row in order, if there is room."""
        cdef int k
        if self.count == self.room:
            return
        self.ids[self.count] = symbol_id
        for k in range(self.width):
            self.keys[self.count * self.width + k] = keys[k * stride]
        self.count += 1

    cdef void end(self, bint is_complete) noexcept nogil:
        self.is_complete = is_complete
        if not is_complete:
            self._set_bound()

    cdef void _set_bound(self) noexcept nogil:
        """Nothing is left out that is better than the last row."""
        self.bound_id = self.ids[self.count - 1]
        memcpy(self.bound, self.keys + (self.count - 1) * self.width, self.width * sizeof(double))

    cdef bint is_beyond(
        self, int32_t symbol_id, const double* keys, Py_ssize_t stride, const int32_t* symbol_order
    ) noexcept nogil:
        """Returns whether a row belongs to those that are left out."""
        if self.is_complete or keys[0] < self.bound[0]:
            return False
        return keys[0] > self.bound[0] or _before(
            self.bound_id, self.bound, 1, symbol_id, keys, stride, self.width, symbol_order
        )

    cdef bint change(
        self, const uint8_t* has_changed, const int32_t* ids, const LaterKeys* keys, const int32_t* order,
        int32_t count, const int32_t* symbol_order
    ) noexcept nogil:
        """Takes out the rows that have changed, and puts in those of them that belong here: ids[order[i]], in order.

        Returns False when too few are left, and which come next is not known.
        """
        cdef int32_t kept = 0, mine = 0, theirs = 0, row, width = self.width
        cdef const double* row_keys
        cdef Py_ssize_t stride
        cdef int k
        while kept < self.room:
            while mine < self.count and has_changed[self.ids[mine]]:
                mine += 1
            if theirs < count:
                row = order[theirs]
                if mine < self.count and _before(
                    self.ids[mine], self.keys + mine * width, 1, ids[row], keys.keys + row, keys.stride, width,
                    symbol_order,
                ):
                    self.next_ids[kept] = self.ids[mine]
                    row_keys = self.keys + mine * width
                    stride = 1
                    mine += 1
                else:
                    self.next_ids[kept] = ids[row]
                    row_keys = keys.keys + row
                    stride = keys.stride
                    theirs += 1
            elif mine < self.count:
                self.next_ids[kept] = self.ids[mine]
                row_keys = self.keys + mine * width
                stride = 1
                mine += 1
            else:
                break
            for k in range(width):
                self.next_keys[kept * width + k] = row_keys[k * stride]
            kept += 1
        while mine < self.count and has_changed[self.ids[mine]]:
            mine += 1
        self.ids, self.next_ids = self.next_ids, self.ids
        self.keys, self.next_keys = self.next_keys, self.keys
        row = self.count - mine + count - theirs
        self.count = kept
        if row > 0:
            # There was no room for the last ones.
            self.is_complete = False
            self._set_bound()
        return self.is_complete or kept >= self.limit
