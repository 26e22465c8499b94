# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The memory of alert rules."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from fastcore.memory cimport grow_array, grow_zeroed
from fastcore.state_bytes cimport read_block, write_block
from fastcore.text_pool cimport read_bytes, read_text, write_text
from fastcore.wire cimport Cursor, Writer, reserve

from fastcore.alert_rules import read_rules

cdef enum:
    LEAST_ROOM = 64
    MOST_SLOTS = 4096
    MOST_OTHERS = 16777216
    ENTRY = 12                  # bytes of an id and a number

cdef double NAN = float("nan")


cdef class Slot:
    """Nothing is remembered yet."""

    def __cinit__(self, str key, int number_count):
        if not 0 <= number_count <= MOST_NUMBERS:
            raise ValueError(f"expected at most {MOST_NUMBERS} numbers of a symbol, was {number_count}")
        self.key = key
        self.number_count = number_count

    def __dealloc__(self):
        cdef int k
        free(self.states)
        free(self.others)
        for k in range(self.number_count):
            free(self.numbers[k])

    cdef int reserve(self, int32_t count) except -1:
        """Room for so many symbols; of new ones nothing is remembered."""
        cdef int32_t i, room = max(count, max(2 * self.room, <int32_t>LEAST_ROOM))
        cdef int k
        if count <= self.room:
            return 0
        for k in range(self.number_count):
            grow_array(<void**>&self.numbers[k], room, sizeof(double))
            for i in range(self.room, room):
                self.numbers[k][i] = NAN
        grow_zeroed(<void**>&self.states, self.room, room)
        self.room = room
        return 0

    cdef int reserve_others(self, Py_ssize_t count) except -1:
        cdef Py_ssize_t room = max(count, max(2 * self.other_room, <Py_ssize_t>16))
        if count > self.other_room:
            grow_array(<void**>&self.others, room, sizeof(double))
            self.other_room = room
        return 0

    cdef void forget(self) noexcept nogil:
        cdef int32_t i
        cdef int k
        for k in range(self.number_count):
            for i in range(self.room):
                self.numbers[k][i] = NAN
        if self.room:
            memset(self.states, 0, self.room)
        self.other_count = 0
        self.event_count = 0

    cdef int write(self, Writer* writer, int32_t count) except -1:
        """Of most symbols there is nothing: numbers are written with their symbols' ids."""
        cdef int32_t i, known
        cdef int64_t others = self.other_count
        cdef unsigned char* pos
        cdef int k
        self.reserve(count)
        write_text(writer, self.key.encode())
        write_block(writer, &self.number_count, sizeof(int))
        if count:
            write_block(writer, self.states, count)
        for k in range(self.number_count):
            known = 0
            for i in range(count):
                known += self.numbers[k][i] == self.numbers[k][i]
            write_block(writer, &known, sizeof(int32_t))
            reserve(writer, <size_t>known * ENTRY)
            pos = writer.data + writer.size
            for i in range(count):
                if self.numbers[k][i] == self.numbers[k][i]:
                    memcpy(pos, &i, sizeof(int32_t))
                    memcpy(pos + sizeof(int32_t), &self.numbers[k][i], sizeof(double))
                    pos += ENTRY
            writer.size += <size_t>known * ENTRY
        write_block(writer, &self.event_count, sizeof(int64_t))
        write_block(writer, &others, sizeof(int64_t))
        if others:
            write_block(writer, self.others, others * sizeof(double))
        return 0

    cdef int read(self, Cursor* cursor, int32_t count) except -1:
        """Reads what write() wrote after the key and the number of numbers."""
        cdef int32_t i, at, known, last
        cdef int64_t others
        cdef int k
        self.reserve(count)
        if count:
            read_block(cursor, self.states, count)
        for i in range(count):
            if self.states[i] >= MOST_STATES:
                raise ValueError(f"state: expected an alert's state below {MOST_STATES}, was {self.states[i]}")
        for k in range(self.number_count):
            read_block(cursor, &known, sizeof(int32_t))
            if not 0 <= known <= count:
                raise ValueError(f"state: expected an alert's numbers of {count} symbols, was {known}")
            last = -1
            for at in range(known):
                read_block(cursor, &i, sizeof(int32_t))
                if not last < i < count:
                    raise ValueError(f"state: expected an id after {last} and below {count}, was {i}")
                read_block(cursor, &self.numbers[k][i], sizeof(double))
                last = i
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

    cdef void forget_day(self) noexcept:
        cdef Slot slot
        for slot in self.slots.values():
            slot.forget()

    cdef int write(self, Writer* writer, int32_t count) except -1:
        cdef Slot slot
        cdef uint32_t sequence = self.sequence, slots = <uint32_t>len(self.slots)
        write_text(writer, self.rules)
        write_block(writer, &sequence, sizeof(uint32_t))
        write_block(writer, &self.window_mark_ns, sizeof(int64_t))
        write_block(writer, &slots, sizeof(uint32_t))
        for slot in self.slots.values():
            slot.write(writer, count)
        return 0

    cdef int read(self, Cursor* cursor, int32_t count) except -1:
        cdef Slot slot
        cdef uint32_t sequence, slots, k
        cdef int number_count
        self.set_rules(read_bytes(cursor))
        read_block(cursor, &sequence, sizeof(uint32_t))
        self.sequence = sequence
        read_block(cursor, &self.window_mark_ns, sizeof(int64_t))
        read_block(cursor, &slots, sizeof(uint32_t))
        if slots > MOST_SLOTS:
            raise ValueError(f"state: expected at most {MOST_SLOTS} memories of alerts, was {slots}")
        self.slots = {}
        for k in range(slots):
            key = read_text(cursor)
            read_block(cursor, &number_count, sizeof(int))
            slot = Slot(key, number_count)
            slot.read(cursor, count)
            self.slots[key] = slot
        return 0
