# Volume by time of day: means and standard deviations at the ends of the 192
# five-minute slots of each symbol, and their values around now.
#
# There are copies of the market in several processes, and baselines would be most of each. A mean of whole numbers is
# kept as their sum, and a standard deviation as the sum of squares that it is the root of, with the last bits of its
# rounding: that is about half, and every value is given back bit by bit. Where one would not be, such as NaN,
# the symbol's values of that kind are kept as they came.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t

from fastcore.wire cimport Cursor, Writer

cdef enum:
    SLOTS = 192
    BASELINE_KINDS = 3          # mean shares, mean trades, sample sd of trades
    LEAST_DAYS = 3
    SLOT_SECONDS = 300

ctypedef double* column_ptr

cdef struct Baselines:
    int32_t capacity
    uint8_t** blocks            # [symbol id]: encoded, see baselines.pyx; NULL without a baseline
    uint32_t* days              # [symbol id]
    # At the slot's begin and end, for each kind: NaN without a baseline. Slot -1: not filled.
    int32_t slot
    column_ptr[BASELINE_KINDS] begin
    column_ptr[BASELINE_KINDS] finish
    double* before              # mean shares at the begin of the slot before

# The straight line that a symbol's mean shares follow within a slot.
cdef struct SlotLine:
    double begin
    double finish

cdef int grow_baselines(Baselines* baselines, int32_t capacity) except -1
cdef void free_baselines(Baselines* baselines) noexcept
cdef void forget_baseline(Baselines* baselines, uint32_t symbol_id) noexcept
cdef void forget_baselines(Baselines* baselines) noexcept
cdef void move_baselines(Baselines* baselines, Baselines* earlier, int32_t count) noexcept nogil
# Takes `values` [kind * SLOTS + slot], means over so many days; then fill_symbol().
cdef int set_baseline(Baselines* baselines, uint32_t symbol_id, uint32_t days, const double* values) except -1
# The value that was set, of a symbol with a baseline.
cdef double slot_value(const Baselines* baselines, int32_t symbol_id, int kind, int slot) noexcept nogil
cdef void fill_slot(Baselines* baselines, int32_t slot) noexcept nogil
cdef void fill_symbol(Baselines* baselines, int32_t symbol_id) noexcept nogil
# Of slots 0 to 191; NaN without a baseline. The slot that is filled and the one before it cost nothing.
cdef SlotLine volume_line(const Baselines* baselines, int32_t symbol_id, int32_t slot) noexcept nogil
cdef int write_baseline(Writer* writer, const Baselines* baselines, int32_t symbol_id) except -1
cdef int read_baseline(Cursor* cursor, Baselines* baselines, int32_t symbol_id) except -1
