# Values that are the same in all rows: they move once a second, with all rows.

from libc.stdint cimport int32_t

from fastcore.day_table cimport DayTable

cdef void forget_scalars(DayTable* table) noexcept nogil
# Takes them at the mark; `spy` is the id of SPY, -1 without one.
cdef void take_scalars(DayTable* table, double** columns, int32_t spy) noexcept nogil
# Brings the columns of `room` rows to them; `shown` is what they have.
cdef void show_scalars(const DayTable* table, double** columns, double* shown, int32_t room) noexcept nogil
# Of rows `first` to `room`, which are new.
cdef void show_in_new_rows(double** columns, const double* shown, int32_t first, int32_t room) noexcept nogil
