# Filters and orders, compiled: what is evaluated over the columns of a state.
#
# Both are made once from text and then used on any state. `bind` (with the GIL)
# looks up the state's codes of the texts in it; call it after every applied frame
# and before evaluating; it costs nothing where there are no texts. `evaluate` and
# its kin need no GIL. An object has one scratch area: one thread at a time.
#
# Pickled, they are texts and programs: a process that gets one has nothing left to compile.
#
# A row matches when the filter is true for it: a comparison with something
# absent is neither true nor false, under NOT too.

from libc.stdint cimport int32_t, uint8_t

from fastcore.field_numbers cimport F_COUNT
from fastcore.market_state cimport MarketState
from fastcore.row_view cimport RowView

cdef enum:
    BLOCK = 512                 # rows at a time, so that what is in between stays in the first cache
    MOST_EVENTS = 8             # words of an alert rule

# A Step of filter_program.py.
cdef struct Instruction:
    int op
    int target                  # register of values or of masks
    int left                    # operand: a register, or minus the number of a field's column
    int right                   # likewise
    int relation
    int combine                 # how a mask joins what is in `target`
    double constant
    int first                   # the constants of IN: [first, first + length)
    int length

ctypedef const uint8_t* mask_ptr


cdef class Program:
    cdef Instruction* instructions
    cdef int length
    cdef double* values         # registers of values, a block each
    cdef uint8_t* masks         # registers of masks, a block each
    cdef double* numbers        # constants of IN
    cdef int32_t* codes         # codes or symbol ids of the texts, -1 for none, in this state
    cdef int loose_mask         # register of what a condition makes before it joins its target
    cdef tuple texts            # (text, whether it is a symbol)
    cdef int[F_COUNT] reads     # numbers of the fields whose columns it reads
    cdef int column_count       # of them
    cdef int depends            # change_log.Depends
    cdef int event_count        # instructions that read one of `events`
    cdef mask_ptr[MOST_EVENTS] events   # of an alert rule's words: where they are true in the block that is run

    cdef int bind(self, MarketState state) except -1
    cdef int bind_whole(self, MarketState state) except -1
    cdef void _read(self, int field) noexcept
    # Runs over n (at most BLOCK) rows: [first, first + n), or picks[first, first + n) unless NULL.
    cdef void run(self, const RowView* rows, const int32_t* picks, int32_t first, int32_t n) noexcept nogil
    cdef void run_value(
        self, const Instruction* step, const RowView* rows, const int32_t* picks, int32_t first, int32_t n
    ) noexcept nogil
    cdef void run_mask(self, const Instruction* step, const RowView* rows, int32_t first, int32_t n) noexcept nogil

cdef class Filter:
    cdef readonly str text
    cdef readonly int cost      # steps that a row takes, each value of a list in it counted as one
    cdef object parsed          # the tree, _NOT_PARSED after unpickling until it is wanted
    cdef object lowered         # filter_program.Lowered, of which the program is made
    cdef Program program

    cdef int bind(self, MarketState state) except -1
    cdef int bind_whole(self, MarketState state) except -1
    # match[i] = 1 where row i matches, else 0, for the rows [0, n).
    cdef void evaluate(self, const RowView* rows, uint8_t* match, int32_t n) noexcept nogil
    # match[i] &= whether row i matches: base filter first, then the rest on the same bytes.
    cdef void narrow(self, const RowView* rows, uint8_t* match, int32_t n) noexcept nogil

cdef class Order:
    cdef readonly str text
    cdef readonly int cost      # as a filter's
    cdef object parsed          # as a filter's
    cdef object lowered         # likewise
    cdef tuple directions       # [key] whether it is descending
    cdef readonly int key_count # 0 for an empty order: by symbol alone
    cdef bint is_by_symbol      # the first key is the symbol
    cdef Program program
    cdef uint8_t* descending    # [key]

    cdef int bind(self, MarketState state) except -1
    cdef int bind_whole(self, MarketState state) except -1
    # keys[k * count + i] = key k of row picks[i] (of row i when picks is NULL), made so that
    # the smaller is the better: descending ones negated, absent +inf. Never NaN.
    # Equal keys are decided by state.symbol_order, ascending; that is the caller's to do.
    cdef void evaluate(self, const RowView* rows, const int32_t* picks, int32_t count, double* keys) noexcept nogil

cpdef Filter compile_filter(str text)
cpdef Order compile_order(str text)
# Matches what all of them match.
cpdef Filter all_of(object filters)
