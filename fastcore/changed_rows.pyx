# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Changed rows side by side; a column is copied when the first program wants it."""

from libc.stdint cimport int32_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

from fastcore.change_log cimport NO_ROW, ON_SYMBOLS, ChangeLog
from fastcore.field_numbers cimport F_COUNT
from fastcore.filters cimport Program
from fastcore.market_state cimport MarketState
from fastcore.memory cimport ROOM
from fastcore.row_values cimport value_of


cdef class ChangedRows:
    """Empty until take()."""

    def __cinit__(self):
        self.view.columns = self.columns
        self.view.text_columns = self.text_columns

    def __dealloc__(self):
        self._free()

    cdef void _free(self) noexcept:
        cdef int field
        free(self.ids)
        free(self.has)
        free(self.symbol_order)
        for field in range(F_COUNT):
            free(self.columns[field])
            free(self.text_columns[field])
            self.columns[field] = NULL
            self.text_columns[field] = NULL
            self.gathered[field] = 0
        self.ids = self.symbol_order = NULL
        self.has = NULL
        self.room = self.count = 0
        self.order_gathered = 0

    cdef int take(self, MarketState state, uint64_t begin) except -1:
        """The rows that have changed since `begin`, which the log must still hold."""
        cdef const ChangeLog* log = &state.changes
        cdef uint64_t at
        cdef int32_t i
        if self.serial and self.begin == begin and self.end == log.end and self.room >= state.count:
            return 0
        self._make_room(state)
        for i in range(self.count):
            self.has[self.ids[i]] = 0
        self.count = 0
        for at in range(begin, log.end):
            i = log.ids[at % log.room]
            if i != NO_ROW and not self.has[i]:
                self.has[i] = 1
                self.ids[self.count] = i
                self.count += 1
        self.view.ids = self.ids
        self.begin = begin
        self.end = log.end
        self.serial += 1
        return 0

    cdef int _make_room(self, MarketState state) except -1:
        if self.room >= state.count:
            return 0
        self._free()
        self.ids = <int32_t*>malloc((<size_t>state.count + ROOM) * sizeof(int32_t))
        self.has = <uint8_t*>calloc(<size_t>state.count + ROOM, 1)
        if self.ids == NULL or self.has == NULL:
            self._free()
            raise MemoryError(f"no memory for the changes of {state.count} rows")
        self.room = state.count + ROOM
        return 0

    cdef int take_ids(self, MarketState state, const int32_t* ids, int32_t count) except -1:
        """Takes these rows, each of them once."""
        self._make_room(state)
        if count:
            memcpy(self.ids, ids, <size_t>count * sizeof(int32_t))
        self.count = count
        self.view.ids = self.ids
        self.serial += 1
        return 0

    cdef int gather(self, MarketState state, Program program) except -1:
        """Copies the columns that the program reads."""
        cdef int k, field
        cdef int32_t i
        cdef double* column
        cdef int32_t* codes
        for k in range(program.column_count):
            field = program.reads[k]
            if self.gathered[field] == self.serial:
                continue
            if state.columns[field].values != NULL:
                if self.columns[field] == NULL:
                    self.columns[field] = <double*>malloc(<size_t>self.room * sizeof(double))
                column = self.columns[field]
                if column == NULL:
                    raise MemoryError(f"no memory for a column of {self.room} rows")
                for i in range(self.count):
                    column[i] = value_of(state.columns, field, self.ids[i])
            else:
                if self.text_columns[field] == NULL:
                    self.text_columns[field] = <int32_t*>malloc(<size_t>self.room * sizeof(int32_t))
                codes = self.text_columns[field]
                if codes == NULL:
                    raise MemoryError(f"no memory for a column of {self.room} rows")
                for i in range(self.count):
                    codes[i] = state.text_columns[field][self.ids[i]]
            self.gathered[field] = self.serial
        if program.depends & ON_SYMBOLS and self.order_gathered != self.serial:
            if self.symbol_order == NULL:
                self.symbol_order = <int32_t*>malloc(<size_t>self.room * sizeof(int32_t))
            if self.symbol_order == NULL:
                raise MemoryError(f"no memory for a column of {self.room} rows")
            for i in range(self.count):
                self.symbol_order[i] = state.symbol_order[self.ids[i]]
            self.view.symbol_order = self.symbol_order
            self.order_gathered = self.serial
        return 0
