# The alert rules of a market: which of them are true at a watermark.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from fastcore.alert_memory cimport AlertMemory, Slot
from fastcore.alert_words cimport Looks, Word
from fastcore.changed_rows cimport ChangedRows
from fastcore.filters cimport Program
from fastcore.list_book cimport ListBook
from fastcore.market_state cimport MarketState


# Which words look at a row.
cdef enum Part:
    ALL = 0
    MOVING = 1          # those of enters and leaves, where it moved in their lists
    TIMED = 2           # those that need no touch


cdef class AlertEvent:
    cdef readonly unsigned int sequence
    cdef readonly str rule
    cdef readonly int32_t symbol_id
    cdef readonly str symbol
    cdef readonly int64_t time_ns
    cdef readonly object quality        # None when the rule has none, or the row has no value
    cdef readonly object quality_rank   # None for the first ones
    cdef readonly object level          # None without steps


cdef class Rule:
    cdef str name
    cdef int number                     # among the rules of its book
    cdef int64_t looked                 # the block of rows that it looked at last
    cdef Slot slot
    cdef Program when
    cdef Program rearm                  # None when it has none
    cdef Program where
    cdef Program quality                # None when it has none
    cdef list words                     # of `when`
    cdef list moves                     # words of enters and leaves, of `when` and `rearm`
    cdef Word steps                     # the first that has a level; None without one
    cdef uint32_t sessions              # bit i for code i, 0 for all
    cdef double cooldown_ns
    cdef bint is_once_a_day
    cdef double min_quality             # NaN for none

    cdef int look(self, const Looks* looks, int32_t first, int32_t n, uint32_t session, const int32_t* symbol_order,
                  list found) except -1
    cdef void rearm_where(self, const Looks* looks, int32_t first, int32_t n, bint is_move_only) noexcept
    cdef object _rank(self, double quality)
    cdef AlertEvent take(self, int32_t symbol_id, double quality, double level, double now)


cdef class AlertBook:
    cdef AlertMemory memory             # that the rules are bound to
    cdef uint64_t version               # of its rules
    cdef list rules
    cdef list rearmed                   # those that have a `rearm`
    cdef list words                     # each after those that it uses
    cdef list programs
    cdef list timed_programs            # those that are run over rows that were not touched
    cdef list text_programs             # those that compare texts
    cdef dict scans                     # key -> RankedList, those that words name
    cdef dict ignored                   # rules that are left out: name -> why
    cdef ChangedRows rows
    cdef ChangedRows timed              # rows of which only the words that need no touch can have anything new
    cdef uint8_t* flags                 # [symbol id] alert_words.IS_...
    cdef int32_t* ids                   # rows to look at: those of all words, then those that only moved
    cdef int32_t* timed_ids
    cdef int32_t room
    cdef int32_t common                 # how many of them are those of all words
    cdef bint is_settled                # every word has looked at every active row, and since then at each touched one
    cdef uint64_t place                 # end of the state's log of changes at the last look
    cdef int64_t blocks                 # of rows, so far
    cdef int64_t looks                  # rows looked at so far; nothing that decides what comes

    cdef list refresh(self, MarketState state, ListBook lists)
    cdef int _build(self, MarketState state, ListBook lists) except -1
    cdef Rule _rule(self, object compiled, AlertMemory memory, dict slots, dict words, dict scans, ListBook lists)
    cdef object _ranked(self, object lowered, dict scans, ListBook lists)
    cdef int _reserve(self, int32_t count) except -1
    cdef int _select(self, MarketState state, bint is_moved) except -1
    cdef int _bind(self, MarketState state) except -1
    cdef void _bind_block(self, MarketState state, Looks* looks, int32_t first, int32_t n) noexcept
    cdef int _look_at(self, MarketState state, Looks* looks, ChangedRows rows, int32_t first, int32_t end, Part part,
                      list found) except -1
    cdef int _look(self, MarketState state, Looks* looks, int32_t first, int32_t n, Part part, list found) except -1
