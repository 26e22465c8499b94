# Frames about symbols and days rather than events: reference values, volume
# baselines, the trading day, additions to the symbol table.

from libc.stdint cimport int32_t, int64_t

from fastcore.baselines cimport Baselines
from fastcore.day_table cimport DayBounds, DayTable
from fastcore.row_values cimport Column
from fastcore.text_pool cimport TextPool
from fastcore.wire cimport Field, bytes_ptr

cdef enum:
    NUMBER_FIELDS = 26
    TEXT_FIELDS = 6
    HISTORY_FIELDS = 21
    DAY_BEFORE_FIELDS = 17

# Columns that reference frames fill, and those of them that are history: as seen from the day of the load the first
# DAY_BEFORE_FIELDS, which a new day makes absent, of many days the others, which a split does.
cdef int[NUMBER_FIELDS] NUMBER_COLUMNS
cdef int[TEXT_FIELDS] TEXT_COLUMNS
cdef int[HISTORY_FIELDS] HISTORY_COLUMNS

cdef struct Packed:
    bint is_given
    bytes_ptr data
    Py_ssize_t count

# Whose shares split since the trading day before: ids (uint32), or that they are unknown.
cdef struct Splits:
    Packed ids
    bint is_unknown

# The content of a TradingDay; `splits` points into the body. ValueError unless the sessions follow each other
# and the ids are below `count`. Its date and that of the next.
cdef tuple parse_trading_day(const Field* body, DayBounds* bounds, Splits* splits, int32_t count)

# The symbols that a SymbolTable adds to the `count` there are; ValueError when it does not go on from there.
cdef list parse_symbols(const Field* body, int32_t count)

# Each raises ValueError naming the column that is malformed, and touches the symbols named.
cdef int apply_reference(
    const Field* body, DayTable* table, Column* columns, int32_t** text_columns, TextPool pool, int32_t count
) except -1
cdef int apply_baselines(const Field* body, DayTable* table, Baselines* baselines, int32_t count) except -1
cdef int64_t parse_watermark(const Field* body) except -1

# The texts' codes of HaltBatch.reason, an array("i"), of a message whose columns have been read.
cdef parse_reasons(const Field* body, Py_ssize_t rows, TextPool pool)
