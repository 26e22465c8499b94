# The state of the market as columns, one row per symbol.
#
# Readers see every field as a double: NaN is "absent", booleans are 0 and 1, enums the
# code of fields.py, times nanoseconds; row_values.pxd says where they stand, view() has
# them as columns for filters and orders. Text fields are columns of codes into the text
# pool, 0 for "absent". Pointers hold until the next frame is applied.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastcore.alert_memory cimport AlertMemory
from fastcore.baselines cimport Baselines
from fastcore.change_log cimport ChangeLog
from fastcore.day_table cimport DayTable
from fastcore.reference_frames cimport Splits
from fastcore.row_values cimport Column, RowValues
from fastcore.row_view cimport RowView
from fastcore.text_pool cimport TextPool
from fastcore.whole_columns cimport WholeColumns
from fastcore.wire cimport Cursor, Field, Writer

cdef class MarketState:
    cdef readonly int32_t count               # rows, which is symbols
    cdef readonly int64_t now_ns              # newest event accepted or newest watermark
    cdef readonly int64_t window_mark_ns      # rounded down to 10 s: windows change when it moves
    cdef readonly int session                 # code of the session of now, 0 before a trading day is known
    cdef Column* columns                      # [number of field_numbers.pxd]: where its values stand
    cdef int32_t** text_columns               # [field number][symbol id]; NULL for others
    cdef uint32_t* revision                   # [symbol id], grows when a message or reference touches the row
    cdef int32_t* symbol_order                # [symbol id] -> place of its symbol in ascending order

    cdef readonly str trading_date            # YYYY-MM-DD, empty before a trading day is known
    cdef readonly str next_trading_date       # the day after it, empty where the calendar ends
    cdef DayTable table
    cdef Baselines baselines
    cdef RowValues values
    cdef WholeColumns whole
    cdef int32_t capacity                     # rows there is room for
    cdef list names                           # [symbol id] -> symbol
    cdef list encoded_names                   # [symbol id] -> the same in UTF-8
    cdef dict ids                             # symbol -> symbol id
    cdef list ascending                       # symbols in ascending order
    cdef TextPool pool
    cdef AlertMemory alerts                   # what alert rules remember; alert_book.pyx
    cdef Writer scratch
    # What the derived columns were derived for.
    cdef bint is_all_dirty
    cdef bint derived_after_close
    cdef bint is_second_due                   # a second has begun that the columns do not show
    cdef int64_t derived_ns                   # now, when the rows touched since the last watermark were brought to it
    cdef int64_t derived_grid
    cdef int32_t spy                          # SPY's id, -1 without one
    cdef readonly int64_t derived_rows        # rows derived anew so far; nothing that decides what comes
    cdef ChangeLog changes

    cpdef int apply(self, const unsigned char[::1] frame) except -1
    cpdef int refresh(self) except -1         # brings all derived columns to the rows' moments
    # Brings the columns of these fields, of all rows, to the last refresh: what programs read in view().
    cdef int bring_columns(self, const int* field_numbers, int count) except -1
    cdef RowView view(self) noexcept nogil
    cdef int need_windows(self) except -1     # ValueError where there are none
    cdef int64_t moment_ns(self, int32_t symbol_id) noexcept nogil      # the time that a row's columns are of
    cpdef int32_t text_code(self, str text) except -2   # -1 when no row has had it
    cpdef int32_t symbol_id(self, str symbol) except -2 # -1 when there is none
    cpdef bytes encode_row(self, int32_t symbol_id)     # TickerRow without rank, as of the last refresh

    cdef int _grow(self, int32_t count) except -1
    cdef int _add_rows(self, int32_t count) except -1
    cdef int _add_symbols(self, list symbols) except -1
    cdef int _put_in_order(self, int32_t symbol_id) except -1
    cdef int _apply_body(self, const Field* body) except -1
    cdef int _apply_batch(self, const Field* body) except -1
    cdef int _apply_halts(self, const Field* body) except -1
    cdef int _begin_day(self, const Field* body) except -1
    cdef int _forget_day(self, const Splits* splits) except -1
    cdef void _forget_history(self, uint32_t symbol_id) noexcept
    cdef void _take_now(self) noexcept
    cdef void _take_mark(self) noexcept nogil
    cdef void _begin_second(self) noexcept nogil
    cdef void _derive_rows(self, const int32_t* ids, int32_t count) noexcept nogil
    cdef int _read_moment(self, Cursor* cursor, int32_t i) except -1
    cdef int _write_head(self, Writer* writer) except -1
    cdef int _write_row(self, Writer* writer, int32_t i, bint with_baselines) except -1
    cdef int write(self, Writer* writer, bint with_baselines) except -1
    cdef int _read(self, Cursor* cursor) except -1
    cdef int _read_columns(self, Cursor* cursor) except -1
