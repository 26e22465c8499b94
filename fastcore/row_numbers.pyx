# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Some numbers of the rows of encoded list messages, read where they are: nothing else is decoded."""

from libc.math cimport NAN, isnan
from libc.stdint cimport int32_t, int64_t, uint32_t

from fastcore.fields import BY_NAME
from fastcore.list_messages cimport Action
from fastcore.list_numbers cimport *
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_FIXED64, WIRE_LENGTH, WIRE_VARINT, Cursor, Field, cursor_of, enter, field_f64,
    next_field, raise_wire_error,
)

cdef enum:
    MOST_NUMBERS = 16
    # google.protobuf.Timestamp.
    SECONDS = 1
    NANOS = 2
    NS_PER_SECOND = 1_000_000_000


# Nanoseconds of so many seconds fit 64 bits.
cdef int64_t MOST_SECONDS = 9_000_000_000


cdef str _text(const Field* field):
    return (<const char*>field.data)[:field.length].decode()


cdef int64_t _time_ns(Cursor cursor) except? -1:
    """A Timestamp in ns since 1970 UTC."""
    cdef Field field
    cdef int64_t seconds = 0, nanos = 0
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.wire_type == WIRE_VARINT and field.number == SECONDS:
            seconds = <int64_t>field.value
        elif field.wire_type == WIRE_VARINT and field.number == NANOS:
            nanos = <int32_t>field.value
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"Timestamp")
    if not (-MOST_SECONDS <= seconds <= MOST_SECONDS and 0 <= nanos < NS_PER_SECOND):
        raise ValueError(f"expected a time at most {MOST_SECONDS} s from 1970, was {seconds} s {nanos} ns")
    return seconds * NS_PER_SECOND + nanos


cdef class RowNumbers:
    """Reads the number fields `names` of rows; ValueError for a field that is none, or twice, or more than 16."""

    cdef unsigned char[ROW_NUMBERS] places      # by field number: 1 and more, 0 for one that is not wanted
    cdef int count

    def __init__(self, names):
        cdef int number
        self.count = 0
        for number in range(ROW_NUMBERS):
            self.places[number] = 0
        for name in names:
            field = BY_NAME.get(name)
            if field is None or field.kind != "number" or field.number == ROW_RANK:
                raise ValueError(f"expected the name of a number in a row, was {name!r}")
            if self.places[<int>field.number]:
                raise ValueError(f"expected each name once, was {name!r} twice")
            if self.count == MOST_NUMBERS:
                raise ValueError(f"limit reached: {MOST_NUMBERS} numbers")
            self.count += 1
            self.places[<int>field.number] = self.count

    cdef tuple _row(self, Cursor cursor):
        """A TickerRow as (symbol, rank, then its numbers in the order of their names, None where absent)."""
        cdef Field field
        cdef Field symbol
        cdef double[MOST_NUMBERS] numbers
        cdef uint32_t rank = 0
        cdef int i
        cdef int status = next_field(&cursor, &field)
        symbol.data = NULL
        symbol.length = 0
        for i in range(self.count):
            numbers[i] = NAN
        while status == WIRE_FIELD:
            if field.wire_type == WIRE_FIXED64:
                if field.number < ROW_NUMBERS and self.places[field.number]:
                    numbers[self.places[field.number] - 1] = field_f64(&field)
            elif field.wire_type == WIRE_LENGTH:
                if field.number == SYMBOL:
                    symbol = field
            elif field.wire_type == WIRE_VARINT and field.number == ROW_RANK:
                rank = <uint32_t>field.value
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"TickerRow")
        return (_text(&symbol), rank, *[None if isnan(numbers[i]) else numbers[i] for i in range(self.count)])

    cdef int _add_entry(self, list rows, Cursor cursor) except -1:
        """Appends the row of a ListChange that is an entry."""
        cdef Field field
        cdef Cursor row = cursor_of(NULL, 0)
        cdef int32_t action = 0
        cdef int status = next_field(&cursor, &field)
        while status == WIRE_FIELD:
            if field.number == ACTION and field.wire_type == WIRE_VARINT:
                action = <int32_t>field.value
            elif field.number == DATA and field.wire_type == WIRE_LENGTH:
                row = enter(&field)
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"ListChange")
        if action == Action.ADD:
            rows.append(self._row(row))
        return 0

    def entries(self, const unsigned char[::1] list_delta not None):
        """The rows that enter a list with an encoded ListDelta: the list's name, the time in ns since 1970 UTC, and of
        each row (symbol, rank, then its numbers, None where absent). ValueError when the bytes are no ListDelta.
        """
        return self._read(list_delta, DELTAS, DELTA_TIMESTAMP)

    def rows(self, const unsigned char[::1] ranked_list not None):
        """The same of all rows of an encoded RankedList."""
        return self._read(ranked_list, RANKED_ROWS, RANKED_TIMESTAMP)

    cdef tuple _read(self, const unsigned char[::1] message, uint32_t parts, uint32_t timestamp):
        cdef Cursor cursor
        cdef Field field
        cdef str name = ""
        cdef int64_t time_ns = 0
        cdef list rows = []
        cdef int status = WIRE_END
        if message.shape[0]:
            cursor = cursor_of(&message[0], message.shape[0])
            status = next_field(&cursor, &field)
        while status == WIRE_FIELD:
            if field.wire_type == WIRE_LENGTH:
                if field.number == parts:
                    if parts == DELTAS:
                        self._add_entry(rows, enter(&field))
                    else:
                        rows.append(self._row(enter(&field)))
                elif field.number == LIST_NAME:
                    name = _text(&field)
                elif field.number == timestamp:
                    time_ns = _time_ns(enter(&field))
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"list message")
        return name, time_ns, rows
