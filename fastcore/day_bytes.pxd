# A symbol's day in the state's own bytes.

from libc.stdint cimport int64_t

from fastcore.chains cimport ChunkPool
from fastcore.day_table cimport SymbolDay
from fastcore.wire cimport Cursor, Writer

cdef int write_day(Writer* writer, const ChunkPool* pool, const SymbolDay* row) except -1
# ValueError when it cannot be read; `row`, fresh from init_day, can be freed in any case. `codes`: of texts.
cdef int read_day(Cursor* cursor, ChunkPool* pool, SymbolDay* row, int64_t codes) except -1
