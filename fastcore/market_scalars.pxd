# Values that are the same in all rows: they move once a second, with all rows.

from libc.stdint cimport int32_t

from fastcore.day_table cimport DayTable
from fastcore.row_values cimport Column

cdef void forget_scalars(DayTable* table) noexcept nogil
# Takes them at the mark; `spy` is the id of SPY, -1 without one.
cdef void take_scalars(DayTable* table, const Column* columns, int32_t spy) noexcept nogil
