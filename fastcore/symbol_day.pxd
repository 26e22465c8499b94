# How each kind of message changes a symbol's day.

from libc.stdint cimport int32_t, int64_t, uint32_t

from fastcore.chains cimport ChunkPool
from fastcore.columns cimport BarSpans, LimitSpans, QuoteSpans, SnapshotSpans, TradeSpans
from fastcore.day_table cimport DayTable, StandInBars, SymbolDay
from fastcore.windows cimport Window

# Ask for a row's lines, and later for its window's, before they are needed.
cdef void fetch_day(const SymbolDay* row) noexcept nogil
cdef void fetch_window(const DayTable* table, int32_t i) noexcept nogil
# To be called after fetch_window(): asks for the buckets that leave the row's windows when `grid` is that of now.
cdef void fetch_buckets(const DayTable* table, int32_t i, int64_t grid) noexcept nogil
# Of the rows `i` to `count` that are gone through in order, those whose windows the bucket of now, `grid`, moves.
cdef void fetch_windows_ahead(const DayTable* table, int32_t i, int32_t count, int64_t grid) noexcept nogil
# Puts the ids of dirty rows into ascending order.
cdef void order_dirty(DayTable* table, int32_t count) noexcept nogil

cdef void init_bars(StandInBars* bars) noexcept nogil
cdef Window* new_window() except NULL nogil
cdef void init_day(SymbolDay* row) noexcept nogil
cdef void free_day(ChunkPool* pool, SymbolDay* row) noexcept nogil
# Lets go of what its windows hold, for a table that keeps none.
cdef void drop_windows(ChunkPool* pool, SymbolDay* row) noexcept nogil

# The ids of the spans must be below the number of rows, which is `symbols`.
cdef int apply_trades(DayTable* table, const TradeSpans* spans) except -1 nogil
cdef int apply_bars(DayTable* table, const BarSpans* spans) except -1 nogil
cdef int apply_quotes(DayTable* table, const QuoteSpans* spans) except -1 nogil
cdef int apply_limits(DayTable* table, const LimitSpans* spans) except -1 nogil
cdef int apply_snapshot(DayTable* table, const SnapshotSpans* spans, uint32_t symbols) except -1 nogil
