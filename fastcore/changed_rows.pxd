# The rows of a state that have changed since a place in its log, their columns side by side,
# so that a program runs over them alone.

from libc.stdint cimport int32_t, uint8_t, uint64_t

from fastcore.field_numbers cimport F_COUNT
from fastcore.filters cimport Program
from fastcore.market_state cimport MarketState
from fastcore.row_view cimport RowView

ctypedef double* column_ptr
ctypedef int32_t* codes_ptr


cdef class ChangedRows:
    cdef int32_t count
    cdef int32_t* ids
    cdef uint8_t* has               # [symbol id] whether the row is one of these
    cdef RowView view
    cdef uint64_t serial            # another one for every other set of rows
    cdef uint64_t begin
    cdef uint64_t end
    cdef int32_t room               # symbol ids there is room for
    cdef column_ptr[F_COUNT] columns
    cdef codes_ptr[F_COUNT] text_columns
    cdef int32_t* symbol_order
    cdef uint64_t[F_COUNT] gathered     # serial of the rows that are in the column
    cdef uint64_t order_gathered

    cdef void _free(self) noexcept
    cdef int _make_room(self, MarketState state) except -1
    cdef int take(self, MarketState state, uint64_t begin) except -1
    # These rows, whatever has changed of them.
    cdef int take_ids(self, MarketState state, const int32_t* ids, int32_t count) except -1
    cdef int gather(self, MarketState state, Program program) except -1
