# The state of the market as columns, one row per symbol.
#
# Readers (filters, ranked lists, row encoder) see every field as a column of
# doubles indexed by symbol id: NaN is "absent", booleans are 0 and 1, enums the
# code of fields.py, times nanoseconds. Text fields are columns of codes into the
# text pool, 0 for "absent". Pointers hold until the next frame is applied.

from libc.stdint cimport int32_t, int64_t, uint32_t

cdef class MarketState:
    cdef readonly int32_t count               # rows, which is symbols
    cdef readonly int64_t now_ns              # newest event accepted or newest watermark
    cdef readonly int64_t window_mark_ns      # now rounded down to 10 s: windows change when it moves
    cdef readonly int session                 # code of the session of now, 0 before a trading day is known
    cdef double** columns                     # [field number][symbol id]; NULL for text fields
    cdef int32_t** text_columns               # [field number][symbol id]; NULL for others
    cdef uint32_t* revision                   # [symbol id], grows when a message or reference touches the row
    cdef int32_t* symbol_order                # [symbol id] -> place of its symbol in ascending order

    cpdef int apply(self, const unsigned char[::1] frame) except -1
    cpdef int refresh(self) except -1         # brings all derived columns to now
    cpdef int32_t text_code(self, str text)   # -1 when no row has it
    cpdef bytes encode_row(self, int32_t symbol_id)  # TickerRow without rank
