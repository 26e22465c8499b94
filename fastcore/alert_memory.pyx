# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The memory of alert rules."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastcore.memory cimport ROOM, grow_array, grow_block
from fastcore.state_bytes cimport read_block, write_block
from fastcore.text_pool cimport read_bytes, read_text, write_text
from fastcore.wire cimport Cursor, Writer, reserve

from fastcore.alert_rules import read_rules

cdef enum:
    MOST_SLOTS = 4096
    MOST_OTHERS = 16777216
    ENTRY = 12                  # bytes of a number's place and the number
    AT_ONCE = 64                # symbols whose lines stay in the cache

cdef double NAN = float("nan")


cdef void fill(double* numbers, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        numbers[i] = NAN


cdef class Slot:
    """Nothing is remembered yet."""

    def __cinit__(self, str key, int number_count):
        if not 0 <= number_count <= MOST_NUMBERS:
            raise ValueError(f"expected at most {MOST_NUMBERS} numbers of a symbol, was {number_count}")
        self.key = key
        self.number_count = number_count

    def __dealloc__(self):
        free(self.others)

    cdef int reserve_others(self, Py_ssize_t count) except -1:
        cdef Py_ssize_t room = max(count, max(2 * self.other_room, <Py_ssize_t>16))
        if count > self.other_room:
            grow_array(<void**>&self.others, room, sizeof(double))
            self.other_room = room
        return 0

    cdef int write(self, Writer* writer) except -1:
        """Writes what is of no one symbol."""
        cdef int64_t others = self.other_count
        write_text(writer, self.key.encode())
        write_block(writer, &self.number_count, sizeof(int))
        write_block(writer, &self.event_count, sizeof(int64_t))
        write_block(writer, &others, sizeof(int64_t))
        if others:
            write_block(writer, self.others, others * sizeof(double))
        return 0

    cdef int read(self, Cursor* cursor) except -1:
        """Reads what write() wrote after the key and the number of numbers."""
        cdef int64_t others
        read_block(cursor, &self.event_count, sizeof(int64_t))
        if self.event_count < 0:
            raise ValueError(f"state: expected a number of alerts, was {self.event_count}")
        read_block(cursor, &others, sizeof(int64_t))
        if not 0 <= others <= (cursor.end - cursor.pos) // <int64_t>sizeof(double) or others > MOST_OTHERS:
            raise ValueError(f"state: expected {others} numbers of alerts, the bytes end before")
        self.reserve_others(others)
        if others:
            read_block(cursor, self.others, others * sizeof(double))
        self.other_count = others
        return 0


cdef class AlertMemory:
    """Of no rules."""

    def __cinit__(self):
        self.rules = b""
        self.slots = {}
        self.window_mark_ns = -1

    def __dealloc__(self):
        free(self.states)
        free(self.numbers)

    cdef int set_rules(self, bytes message) except -1:
        """Takes an encoded AlertRules; ValueError when it is none."""
        read_rules(message)
        self.rules = message
        self.version += 1
        return 0

    cdef int64_t count_of(self, str key) except -1:
        """Alerts of the day of the rule with that key."""
        cdef Slot slot = self.slots.get(key)
        return slot.event_count if slot is not None else 0

    cdef int take_slots(self, dict slots) except -1:
        """Remembers for these slots from now on; those that are here already keep what they have, the others go."""
        cdef dict before = self.slots
        cdef uint8_t* states = self.states
        cdef double* numbers = self.numbers
        cdef Slot slot
        cdef int32_t first, room = self.room
        if list(slots.values()) == list(before.values()):
            return 0
        self.slots = slots
        self.states = NULL
        self.numbers = NULL
        self.room = 0
        self.slot_count = len(slots)
        self.number_count = sum([(<Slot>slot).number_count for slot in slots.values()])
        try:
            self._grow(0, room)
            self.room = room
            for first in range(0, room, AT_ONCE):
                self._place(first, min(first + <int32_t>AT_ONCE, room))
        finally:
            for slot in before.values():
                slot.states = NULL
                slot.numbers = NULL
            free(states)
            free(numbers)
        self._bind()
        return 0

    cdef void _place(self, int32_t first, int32_t end) noexcept:
        """Copies what the slots still have in other places."""
        cdef uint8_t* state = self.states
        cdef double* number = self.numbers
        cdef Slot slot
        cdef int32_t i
        cdef int k
        for slot in self.slots.values():
            if slot.states != NULL:
                for i in range(first, end):
                    state[i * self.slot_count] = slot.states[i * slot.state_stride]
                    for k in range(slot.number_count):
                        number[i * self.number_count + k] = slot.numbers[i * slot.number_stride + k]
            state += 1
            number += slot.number_count

    cdef int reserve(self, int32_t count) except -1:
        """Room for so many symbols; of new ones nothing is remembered."""
        if count > self.room:
            self._grow(self.room, count + ROOM)
            self.room = count + ROOM
            self._bind()
        return 0

    cdef int _grow(self, int32_t old, int32_t room) except -1:
        cdef size_t states = <size_t>old * self.slot_count, all_states = <size_t>room * self.slot_count
        cdef size_t numbers = <size_t>old * self.number_count, all_numbers = <size_t>room * self.number_count
        if all_states:
            grow_block(<void**>&self.states, states, all_states)
            memset(self.states + states, 0, all_states - states)
        if all_numbers:
            grow_block(<void**>&self.numbers, numbers * sizeof(double), all_numbers * sizeof(double))
            fill(self.numbers + numbers, all_numbers - numbers)
        return 0

    cdef void _bind(self) noexcept:
        cdef uint8_t* state = self.states
        cdef double* number = self.numbers
        cdef Slot slot
        for slot in self.slots.values():
            slot.states = state
            slot.numbers = number
            slot.state_stride = self.slot_count
            slot.number_stride = self.number_count
            state += 1
            number += slot.number_count

    cdef void forget_day(self) noexcept:
        cdef Slot slot
        if self.room and self.slot_count:
            memset(self.states, 0, <size_t>self.room * self.slot_count)
            fill(self.numbers, self.room * self.number_count)
        for slot in self.slots.values():
            slot.other_count = 0
            slot.event_count = 0

    cdef int write(self, Writer* writer, int32_t count) except -1:
        cdef Slot slot
        cdef uint32_t sequence = self.sequence, slots = <uint32_t>len(self.slots)
        self.reserve(count)
        write_text(writer, self.rules)
        write_block(writer, &sequence, sizeof(uint32_t))
        write_block(writer, &self.window_mark_ns, sizeof(int64_t))
        write_block(writer, &slots, sizeof(uint32_t))
        for slot in self.slots.values():
            slot.write(writer)
        if count and slots:
            write_block(writer, self.states, <size_t>count * slots)
            self._write_numbers(writer, count)
        return 0

    cdef int _write_numbers(self, Writer* writer, int32_t count) except -1:
        """Of most symbols there are few: numbers are written with their places, each symbol's after how many it has."""
        cdef const double* numbers
        cdef unsigned char* pos
        cdef int32_t i, k, known, width = <int32_t>self.number_count
        for i in range(count):
            numbers = self.numbers + <Py_ssize_t>i * width
            known = 0
            reserve(writer, sizeof(int32_t) + <size_t>width * ENTRY)
            pos = writer.data + writer.size + sizeof(int32_t)
            for k in range(width):
                if numbers[k] == numbers[k]:
                    memcpy(pos, &k, sizeof(int32_t))
                    memcpy(pos + sizeof(int32_t), &numbers[k], sizeof(double))
                    pos += ENTRY
                    known += 1
            memcpy(writer.data + writer.size, &known, sizeof(int32_t))
            writer.size += sizeof(int32_t) + <size_t>known * ENTRY
        return 0

    cdef int read(self, Cursor* cursor, int32_t count) except -1:
        """Reads what write() wrote; the memory is a new one."""
        cdef Slot slot
        cdef uint32_t sequence, slots, k
        cdef int number_count
        cdef dict found = {}
        cdef Py_ssize_t i
        self.set_rules(read_bytes(cursor))
        read_block(cursor, &sequence, sizeof(uint32_t))
        self.sequence = sequence
        read_block(cursor, &self.window_mark_ns, sizeof(int64_t))
        read_block(cursor, &slots, sizeof(uint32_t))
        if slots > MOST_SLOTS:
            raise ValueError(f"state: expected at most {MOST_SLOTS} memories of alerts, was {slots}")
        for k in range(slots):
            key = read_text(cursor)
            if key in found:
                raise ValueError(f"state: expected the memory {key!r} of alerts once, was twice")
            read_block(cursor, &number_count, sizeof(int))
            slot = Slot(key, number_count)
            slot.read(cursor)
            found[key] = slot
        # Of each symbol there are at least its states and how many numbers it has.
        if slots and cursor.end - cursor.pos < count * (<int64_t>slots + <int64_t>sizeof(int32_t)):
            raise ValueError(f"state: expected the memory of {slots} words and rules of {count} symbols, "
                             f"was {cursor.end - cursor.pos} bytes")
        self.take_slots(found)
        if not count or not slots:
            return 0
        self.reserve(count)
        read_block(cursor, self.states, <size_t>count * slots)
        for i in range(<Py_ssize_t>count * slots):
            if self.states[i] >= MOST_STATES:
                raise ValueError(f"state: expected an alert's state below {MOST_STATES}, was {self.states[i]}")
        self._read_numbers(cursor, count)
        return 0

    cdef int _read_numbers(self, Cursor* cursor, int32_t count) except -1:
        cdef int32_t i, at, known, k, last
        for i in range(count):
            read_block(cursor, &known, sizeof(int32_t))
            if not 0 <= known <= self.number_count:
                raise ValueError(f"state: expected at most {self.number_count} numbers of alerts, was {known}")
            last = -1
            for at in range(known):
                read_block(cursor, &k, sizeof(int32_t))
                if not last < k < self.number_count:
                    raise ValueError(f"state: expected a place after {last} and below {self.number_count}, was {k}")
                read_block(cursor, &self.numbers[i * self.number_count + k], sizeof(double))
                last = k
        return 0
