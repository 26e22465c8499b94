# What alert rules remember of each symbol: part of a market's state, so that a copy of it goes on with the same.
#
# A slot belongs to one word of a rule, or to one rule: a byte and some doubles per symbol, and some doubles
# for all of them. 0 and NaN are "nothing yet". Times are ns since the trading day began, which doubles hold exactly.
# All slots of a symbol are side by side, in the order of the slots: a watermark looks at few symbols, and at each
# with nearly all words.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from fastcore.wire cimport Cursor, Writer

cdef enum:
    MOST_NUMBERS = 16
    MOST_STATES = 4


cdef class Slot:
    cdef str key
    cdef int number_count
    cdef uint8_t* states            # [symbol id * state_stride] below MOST_STATES; NULL while it is in no memory
    cdef double* numbers            # [symbol id * number_stride + number]
    cdef Py_ssize_t state_stride
    cdef Py_ssize_t number_stride
    cdef double* others             # of no one symbol
    cdef Py_ssize_t other_count
    cdef Py_ssize_t other_room
    cdef int64_t event_count        # of a rule: its alerts of the day

    cdef int reserve_others(self, Py_ssize_t count) except -1
    cdef int write(self, Writer* writer) except -1
    cdef int read(self, Cursor* cursor) except -1


cdef class AlertMemory:
    cdef readonly bytes rules       # the last AlertRules message
    cdef uint64_t version           # grows with every one; nothing that decides what comes
    cdef readonly unsigned int sequence         # of the last alert of the epoch, 0 before the first
    cdef int64_t window_mark_ns     # of the last watermark, -1 while there are no rules
    cdef dict slots                 # key -> Slot, in the order of their places
    cdef uint8_t* states            # [symbol id][slot]
    cdef double* numbers            # [symbol id][number of a slot]
    cdef Py_ssize_t slot_count
    cdef Py_ssize_t number_count    # of all slots
    cdef int32_t room               # symbol ids there is room for

    cdef int set_rules(self, bytes message) except -1
    cdef int64_t count_of(self, str key) except -1
    cdef int take_slots(self, dict slots) except -1
    cdef int reserve(self, int32_t count) except -1
    cdef void forget_day(self) noexcept
    cdef int write(self, Writer* writer, int32_t count) except -1
    cdef int read(self, Cursor* cursor, int32_t count) except -1
    cdef void _bind(self) noexcept
    cdef void _place(self, int32_t first, int32_t end) noexcept
    cdef int _grow(self, int32_t old, int32_t room) except -1
    cdef int _write_numbers(self, Writer* writer, int32_t count) except -1
    cdef int _read_numbers(self, Cursor* cursor, int32_t count) except -1
