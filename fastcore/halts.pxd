# Halts in the rows of a market: where words come from, and when they take effect.

from libc.stdint cimport int32_t, int64_t

from fastcore.columns cimport HaltSpans
from fastcore.day_table cimport DayTable, SymbolDay


# Brings a row that has words to the table's now; touches it when it is another.
cdef int settle_halt(DayTable* table, SymbolDay* row) except -1 nogil
# A LULD message of the row halts it, or lets it trade again.
cdef int limit_halt(DayTable* table, SymbolDay* row, int64_t time_ns, bint is_halt) except -1 nogil
# A trade that may set the price, of a row that has had words.
cdef int trade_halt(DayTable* table, SymbolDay* row, int64_t time_ns) except -1 nogil
# Brings the rows to now of which something takes effect, among the first `count`.
cdef int settle_due(DayTable* table, int32_t count) except -1 nogil

# ValueError unless ids are below `count` and each resumption comes after its halt.
cdef int check_halts(const HaltSpans* spans, int32_t count) except -1
# `codes`: of each row's reason.
cdef int apply_halts(DayTable* table, const HaltSpans* spans, const int32_t* codes) except -1 nogil
