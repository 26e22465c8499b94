# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Where the doubles of the rows stand.
#
# A row's values stand side by side: to derive or to encode a row takes a dozen lines of the cache, where it would
# take a hundred if each field had a column. What follows now in all rows at once, and what that is worked out from,
# does have columns, and what is the same in all rows stands once. Programs read columns alone; whole_columns.pyx
# makes those that they want of all rows, changed_rows.pyx those of some.

from libc.stdint cimport int32_t

from fastcore.day_table cimport SCALARS
from fastcore.field_numbers cimport *

cdef enum:
    ROW_STRIDE = 104            # doubles from one row to the next, in whole lines of the cache
    MOVING_FIELDS = 12

# A field's values: that of symbol i is values[i * stride].
cdef struct Column:
    double* values              # NULL for a text
    Py_ssize_t stride           # ROW_STRIDE, 1 for a moving field, 0 for what is the same in all rows

cdef struct RowValues:
    Column[COLUMN_COUNT] columns
    double[SCALARS] scalars     # what is the same in all rows, as they show it
    void* rows
    void* moving

# Fields that derive_from_now() reads or writes, of all rows at once.
cdef int[MOVING_FIELDS] MOVING
# Fields that are the same in all rows.
cdef int[SCALARS] SCALAR_FIELDS

cdef void init_values(RowValues* values) noexcept
cdef void free_values(RowValues* values) noexcept
# From room for `old` rows to room for more; init_row() is to follow for each new one, before it is used.
cdef int grow_values(RowValues* values, int32_t old, int32_t room) except -1
cdef void init_row(const RowValues* values, int32_t i) noexcept nogil
# Asks for the lines of a row's values before they are needed.
cdef void fetch_row(const Column* columns, int32_t i) noexcept nogil


cdef inline double value_of(const Column* columns, int field, int32_t i) noexcept nogil:
    return columns[field].values[i * columns[field].stride]


cdef inline void put_value(const Column* columns, int field, int32_t i, double value) noexcept nogil:
    columns[field].values[i * columns[field].stride] = value


cdef inline double* row_of(const Column* columns, int32_t i) noexcept nogil:
    """The values of a row, each at its at()."""
    return columns[F_IS_ETF].values + i * <Py_ssize_t>ROW_STRIDE


cdef inline int at(int field) noexcept nogil:
    """A field's place in a row: its number, less those of the fields below it that stand elsewhere.

    For the numbers of fields that do stand in rows; the compiler works it out.
    """
    return (
        field - F_IS_ETF
        - (field > F_VOLUME_TODAY) - (field > F_TRADES_TODAY) - (field > F_RVOL) - (field > F_RVOL_SLOT)
        - (field > F_VOLUME_RATIO) - (field > F_TRADES_Z_SCORE) - (field > F_VOL_1M) - (field > F_VOL_5M)
        - (field > F_AGE_SECONDS) - (field > F_SCORE) - (field > F_SECURITY_TYPE) - (field > F_LIST_DATE)
        - (field > F_HALT_REASON) - (field > F_MINUTES_SINCE_OPEN) - (field > F_VOL_1M_RATIO)
        - (field > F_VOL_5M_RATIO) - (field > F_SPY_CHANGE_PERCENT) - (field > F_SPY_CHG_5M)
        - (field > F_SPY_CHG_15M) - (field > F_SPY_CHG_30M)
        # No field has this number.
        - (field > 100)
    )
