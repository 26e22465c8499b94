# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Market-wide values; docs/semantics.md, "The market", has the definitions."""

from libc.math cimport NAN, isnan
from libc.stdint cimport int32_t

from fastcore.day_table cimport SCALARS, DayTable, SymbolDay
from fastcore.derived cimport bars_window, percent
from fastcore.derived_kernels cimport round6
from fastcore.field_numbers cimport F_PREV_CLOSE
from fastcore.row_values cimport Column, value_of
from fastcore.window_sums cimport OlderSums, sum_windows
from fastcore.windows cimport grid_of

# Of the windows of windows.pxd, those of 5, 15 and 30 minutes.
cdef int[SCALARS] WINDOW
WINDOW[:] = [-1, -1, 1, 3, 4]


cdef void forget_scalars(DayTable* table) noexcept nogil:
    cdef int k
    for k in range(SCALARS):
        table.scalars[k] = NAN


cdef void take_scalars(DayTable* table, const Column* columns, int32_t spy) noexcept nogil:
    cdef const SymbolDay* row
    cdef OlderSums sums
    cdef int k
    forget_scalars(table)
    if table.day.end and table.mark_ns >= table.day.open:
        table.scalars[0] = round6(<double>(table.mark_ns - table.day.open) / 60e9)
    if spy < 0 or not table.rows[spy].any_message:
        return
    row = &table.rows[spy]
    table.scalars[1] = percent(row.price, value_of(columns, F_PREV_CLOSE, spy))
    sum_windows(&table.chunks, &row.window, bars_window(row), False, grid_of(table.mark_ns), &sums)
    for k in range(2, SCALARS):
        table.scalars[k] = percent(row.price, sums.before[WINDOW[k]])
    for k in range(1, SCALARS):
        # One kind of NaN: they are part of the state's bytes.
        if isnan(table.scalars[k]):
            table.scalars[k] = NAN
