# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The memory of the rows' values."""

from libc.math cimport NAN
from libc.stdint cimport int32_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastcore.day_table cimport CACHE_LINE
from fastcore.memory cimport ROOM, aligned_block, fetch_line, grow_block

from fastcore import fields

MOVING[:] = [
    F_VOLUME_TODAY, F_TRADES_TODAY, F_RVOL, F_RVOL_SLOT, F_VOLUME_RATIO, F_TRADES_Z_SCORE, F_VOL_1M, F_VOL_5M,
    F_AGE_SECONDS, F_SCORE, F_VOL_1M_RATIO, F_VOL_5M_RATIO,
]
SCALAR_FIELDS[:] = [F_MINUTES_SINCE_OPEN, F_SPY_CHANGE_PERCENT, F_SPY_CHG_5M, F_SPY_CHG_15M, F_SPY_CHG_30M]
# Fields whose values stand in the rows: doubles that stand nowhere else.
cdef list OF_ROWS = [
    number
    for number in [*(field.number for field in fields.FIELDS if field.kind != "text"), *range(F_COUNT, COLUMN_COUNT)]
    if number not in list(MOVING) and number not in list(SCALAR_FIELDS)
]

if [at(number) for number in OF_ROWS] != list(range(len(OF_ROWS))) or not ROW_STRIDE - 8 < len(OF_ROWS) <= ROW_STRIDE:
    raise ImportError("expected each value to have its place in a row: see at() in row_values.pxd")


cdef void init_values(RowValues* values) noexcept:
    cdef int k
    memset(values, 0, sizeof(RowValues))
    for k in range(SCALARS):
        values.scalars[k] = NAN
        values.columns[SCALAR_FIELDS[k]].values = &values.scalars[k]


cdef void free_values(RowValues* values) noexcept:
    free(values.rows)
    free(values.moving)


cdef int grow_values(RowValues* values, int32_t old, int32_t room) except -1:
    cdef size_t row = ROW_STRIDE * sizeof(double)
    cdef double* first
    cdef int field
    grow_block(&values.rows, old * row, room * row)
    first = <double*>values.rows
    for field in OF_ROWS:
        values.columns[field].values = first + at(field)
        values.columns[field].stride = ROW_STRIDE
    return grow_moving(values, old, room)


cdef void init_row(const RowValues* values, int32_t i) noexcept nogil:
    cdef double* row = row_of(values.columns, i)
    cdef int k
    for k in range(ROW_STRIDE):
        row[k] = NAN
    for k in range(MOVING_FIELDS):
        values.columns[MOVING[k]].values[i] = NAN


cdef int grow_moving(RowValues* values, int32_t old, int32_t room) except -1:
    """The columns in one block."""
    # A line more than whole pages, or one symbol's values would all compete for the same lines.
    cdef size_t page = min(<size_t>4096, ROOM * sizeof(double))
    cdef size_t width = (<size_t>room * sizeof(double) + page - 1) // page * page + CACHE_LINE
    cdef char* block = <char*>aligned_block(width * MOVING_FIELDS)
    cdef double* first
    cdef Column* column
    cdef int k
    if block == NULL:
        raise MemoryError(f"no memory for {room} rows")
    for k in range(MOVING_FIELDS):
        column = &values.columns[MOVING[k]]
        first = <double*>(block + width * k)
        if old:
            memcpy(first, column.values, old * sizeof(double))
        column.values = first
        column.stride = 1
    free(values.moving)
    values.moving = block
    return 0


# Not inline: compilers leave out what seems to do nothing.
cdef void fetch_row(const Column* columns, int32_t i) noexcept nogil:
    cdef const char* row = <const char*>row_of(columns, i)
    cdef int k
    for k in range(<int>(ROW_STRIDE * sizeof(double) // CACHE_LINE)):
        fetch_line(row + k * CACHE_LINE)
    for k in range(MOVING_FIELDS):
        fetch_line(columns[MOVING[k]].values + i)
