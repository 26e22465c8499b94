# One row of the state as an encoded TickerRow, and as a dict for Python.

from libc.stdint cimport int32_t

from fastcore.day_table cimport SymbolDay
from fastcore.row_values cimport Column
from fastcore.text_pool cimport TextPool
from fastcore.wire cimport Writer

# Without rank; begins with the symbol. `writer` is scratch.
cdef bytes encoded_row(
    Writer* writer, bytes symbol, const Column* columns, int32_t** text_columns, TextPool pool, const SymbolDay* day,
    int32_t i
)
cdef dict row_dict(
    str symbol, const Column* columns, int32_t** text_columns, TextPool pool, const SymbolDay* day, int32_t i, names
)
