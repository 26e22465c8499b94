# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# The columns that follow from a symbol's day, its reference data, and now.

from libc.math cimport NAN
from libc.stdint cimport int32_t, int64_t

from fastcore.baselines cimport Baselines
from fastcore.day_table cimport DayTable, SymbolDay
from fastcore.derived_kernels cimport round6
from fastcore.row_values cimport Column
from fastcore.windows cimport SHORT_WINDOWS, Window

# A time as far as the columns need it.
cdef struct Moment:
    int64_t now_ns
    int64_t grid                # number of the 10-second bucket of now
    int32_t slot                # volume slot, 0 to 191
    double inside               # how much of the slot has passed, 0 to 1
    bint is_after_close
    # The same of the windows' marks.
    int32_t[SHORT_WINDOWS] mark_slot
    double[SHORT_WINDOWS] mark_inside


cdef inline double percent(double value, double base) noexcept nogil:
    """How far value is from base, in percent of it."""
    return round6(100 * (value - base) / base) if base != 0 else NAN


cdef Moment moment_of(const DayTable* table) noexcept nogil       # now
cdef Moment moment_at(const DayTable* table, int64_t time_ns) noexcept nogil
# Asks for the lines of a row's values and its baselines, before derive_row() and derive_row_from_now().
cdef void fetch_derived(const Column* columns, const Baselines* baselines, int32_t i) noexcept nogil
cdef void derive_row(Column* columns, const DayTable* table, int32_t i, const Moment* moment) noexcept nogil
cdef void derive_windows(Column* columns, const DayTable* table, int32_t i, const Moment* moment) noexcept nogil
cdef void derive_ranges(Column* columns, const DayTable* table, int32_t i) noexcept nogil
cdef const Window* bars_window(const SymbolDay* row) noexcept nogil
cdef void derive_from_now(
    Column* columns, const int64_t* updated_at, const Baselines* baselines, int32_t count, const Moment* moment
) noexcept nogil
cdef void derive_row_from_now(
    Column* columns, const int64_t* updated_at, const Baselines* baselines, int32_t i, const Moment* moment
) noexcept nogil
cdef double baseline_at(const Baselines* baselines, int kind, int32_t i, const Moment* moment) noexcept nogil
