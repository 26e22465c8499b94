# The words of alert rules, evaluated over blocks of rows, each with its memory of every symbol.

from libc.stdint cimport int32_t, uint8_t

from fastcore.alert_memory cimport Slot
from fastcore.filters cimport BLOCK, Program
from fastcore.ranked_list cimport RankedList
from fastcore.row_view cimport RowView

# Of the rows that are looked at, by symbol id.
cdef enum:
    IS_LOOKED_AT = 1
    IS_TOUCHED = 2

# The rows that a watermark looks at, and of one block of them what words share.
cdef struct Looks:
    const RowView* rows         # side by side
    const int32_t* ids          # [row] -> symbol id
    double now                  # ns since the trading day began
    double[BLOCK] highs         # of a block: the prices since the last watermark, NaN of rows that were not touched
    double[BLOCK] lows
    uint8_t[BLOCK] before       # and what a word remembers, fetched and to be put back
    uint8_t[BLOCK] after
    double[BLOCK] remembered


cdef class Word:
    cdef int kind
    cdef double[2] numbers
    cdef bint looks_at_price
    cdef Program first          # its conditions; None when it has none
    cdef Program second
    cdef Program values         # its values in the first registers; None when it has none
    cdef Slot slot
    cdef list uses              # words that its conditions use
    cdef list rules             # whose `when` has it
    cdef bint is_moving         # it is enters or leaves, or uses one of them
    cdef bint needs_touch       # a second look at a row that has not been touched finds and changes nothing
    cdef RankedList ranked      # the list or scan of enters and leaves; None for others
    cdef uint8_t* moves         # [symbol id] 1 left, 2 came into the list
    cdef int32_t move_room
    cdef list moved             # symbol ids
    cdef uint8_t[BLOCK] mask    # where it is true in the block that was looked at last
    cdef double[BLOCK] level    # of steps: the level reached
    cdef bint is_any            # whether it is true anywhere in that block

    cdef bint _needs_touch(self) noexcept
    cdef int compare(self, int32_t count) except -1
    cdef void skip(self) noexcept
    cdef void look(self, Looks* looks, int32_t first, int32_t n) noexcept
    cdef bint _change(self, Looks* looks, const int32_t* ids, int32_t n, bint is_rise) noexcept
    cdef bint _cross(self, Looks* looks, const int32_t* ids, int32_t n) noexcept
    cdef bint _grow(self, const int32_t* ids, int32_t n) noexcept
    cdef bint _step(self, Looks* looks, const int32_t* ids, int32_t n) noexcept
    cdef bint _hold(self, const int32_t* ids, int32_t n, double now) noexcept
    cdef bint _follow(self, const int32_t* ids, int32_t n, double now) noexcept
    cdef bint _count(self, const int32_t* ids, int32_t n, double now) noexcept
    cdef bint _move(self, const int32_t* ids, int32_t n) noexcept
    cdef void _fetch_states(self, Looks* looks, const int32_t* ids, int32_t n) noexcept
    cdef void _put_states(self, const Looks* looks, const int32_t* ids, int32_t n) noexcept

# Numbers that a word of this kind remembers of each symbol.
cdef int numbers_of(object lowered) except -1
