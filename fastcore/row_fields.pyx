# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""List messages with some fields of their rows: the encoded bytes are copied, and nothing is decoded.

`kept` has a byte for each field number of TickerRow, below 128, which is not 0 where the field is kept. Fields keep
their order, so that what is kept is encoded as if the others had never been set.
"""

from libc.stdint cimport uint32_t

from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_LENGTH, Cursor, Field, Writer, bytes_ptr, cursor_of, enter, next_field,
    raise_wire_error, write_length_field, write_raw, writer_bytes, writer_free, writer_init,
)

cdef enum:
    NUMBERS = 128
    ROWS = 4                        # RankedList.rows
    DELTAS = 5                      # ListDelta.deltas
    DATA = 6                        # ListChange.data


cdef int _copy_row(Writer* out, Cursor cursor, const unsigned char[::1] kept) except -1:
    """Appends the kept fields of a TickerRow."""
    cdef Field field
    cdef bytes_ptr begin = cursor.pos
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number < NUMBERS and kept[field.number]:
            write_raw(out, begin, cursor.pos - begin)
        begin = cursor.pos
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"TickerRow")
    return 0


cdef int _copy_change(Writer* out, Writer* row, Cursor cursor, const unsigned char[::1] kept) except -1:
    """Appends a ListChange; `row` is room for its row."""
    cdef Field field
    cdef bytes_ptr begin = cursor.pos
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number == DATA and field.wire_type == WIRE_LENGTH:
            row.size = 0
            _copy_row(row, enter(&field), kept)
            write_length_field(out, DATA, row.data, row.size)
        else:
            write_raw(out, begin, cursor.pos - begin)
        begin = cursor.pos
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"ListChange")
    return 0


cdef bytes _copy_list(const unsigned char[::1] message, const unsigned char[::1] kept, uint32_t nested, const char* what):
    """A copy of the RankedList or ListDelta `what`, whose rows are in the fields `nested`."""
    cdef Writer out, part, row
    cdef Cursor cursor
    cdef Field field
    cdef bytes_ptr begin
    cdef int status
    if kept.shape[0] != NUMBERS:
        raise ValueError(f"expected {NUMBERS} bytes, was {kept.shape[0]}")
    if message.shape[0] == 0:
        return b""
    writer_init(&out, message.shape[0] // 4)
    writer_init(&part, 1024)
    writer_init(&row, 1024)
    try:
        cursor = cursor_of(&message[0], message.shape[0])
        begin = cursor.pos
        status = next_field(&cursor, &field)
        while status == WIRE_FIELD:
            if field.number == nested and field.wire_type == WIRE_LENGTH:
                part.size = 0
                if nested == ROWS:
                    _copy_row(&part, enter(&field), kept)
                else:
                    _copy_change(&part, &row, enter(&field), kept)
                write_length_field(&out, nested, part.data, part.size)
            else:
                write_raw(&out, begin, cursor.pos - begin)
            begin = cursor.pos
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, what)
        return writer_bytes(&out)
    finally:
        writer_free(&out)
        writer_free(&part)
        writer_free(&row)


def select_ranked_list(const unsigned char[::1] message not None, const unsigned char[::1] kept not None):
    """Returns an encoded RankedList whose rows have the kept fields only; ValueError when the bytes are none."""
    return _copy_list(message, kept, ROWS, b"RankedList")


def select_list_delta(const unsigned char[::1] message not None, const unsigned char[::1] kept not None):
    """Returns an encoded ListDelta whose rows have the kept fields only; ValueError when the bytes are none."""
    return _copy_list(message, kept, DELTAS, b"ListDelta")


def select_row(const unsigned char[::1] row not None, const unsigned char[::1] kept not None):
    """Returns an encoded TickerRow with the kept fields only; ValueError when the bytes are none."""
    cdef Writer out
    if kept.shape[0] != NUMBERS:
        raise ValueError(f"expected {NUMBERS} bytes, was {kept.shape[0]}")
    if row.shape[0] == 0:
        return b""
    writer_init(&out, row.shape[0])
    try:
        _copy_row(&out, cursor_of(&row[0], row.shape[0]), kept)
        return writer_bytes(&out)
    finally:
        writer_free(&out)
