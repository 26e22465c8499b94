# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""List messages with some fields of their rows: the encoded bytes are copied, and nothing is decoded.

`kept` has a byte for each field number of TickerRow, below 128, which is not 0 where the field is kept. Fields keep
their order, so that what is kept is encoded as if the others had never been set.

An update with changed fields only (changed_fields.pyx) of which none is kept becomes the new rank of its row, or
nothing where that is as before.
"""

from libc.stdint cimport uint32_t, uint64_t

from fastcore.fields import FIELDS
from fastcore.list_messages cimport Action
from fastcore.list_numbers cimport *
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_LENGTH, WIRE_VARINT, Cursor, Field, Writer, bytes_ptr, cursor_of, enter, next_field,
    raise_wire_error, write_length_field, write_raw, write_varint_field, writer_bytes, writer_free, writer_init,
)

cdef dict _numbers = {field.name.encode(): field.number for field in FIELDS}


cdef int _copy_row(Writer* out, Cursor cursor, const unsigned char[::1] kept) except -1:
    """Appends the kept fields of a TickerRow."""
    cdef Field field
    cdef bytes_ptr begin = cursor.pos
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number < ROW_NUMBERS and kept[field.number]:
            write_raw(out, begin, cursor.pos - begin)
        begin = cursor.pos
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"TickerRow")
    return 0


cdef int _copy_names(Writer* out, Cursor cursor, const unsigned char[::1] kept) except -1:
    """Appends the names of kept fields of a FieldMask."""
    cdef Field field
    cdef uint32_t number
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number == PATHS and field.wire_type == WIRE_LENGTH:
            number = _numbers.get((<const char*>field.data)[:field.length], 0)
            if number != 0 and kept[number]:
                write_length_field(out, PATHS, field.data, field.length)
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"FieldMask")
    return 0


cdef bint _copy_change(Writer* out, Writer* row, Cursor cursor, const unsigned char[::1] kept) except -1:
    """Writes a ListChange; False if nothing is left of it. `row` is room for its row."""
    cdef Cursor whole = cursor
    cdef Field field
    cdef bytes_ptr begin = cursor.pos
    cdef uint64_t action = 0, rank = 0, old_rank = 0
    cdef bint has_shown = False
    cdef int status = next_field(&cursor, &field)
    out.size = 0
    while status == WIRE_FIELD:
        if field.number == DATA and field.wire_type == WIRE_LENGTH:
            row.size = 0
            _copy_row(row, enter(&field), kept)
            if row.size or action != Action.UPDATE:
                write_length_field(out, DATA, row.data, row.size)
                has_shown = True
        elif field.number == ABSENT and field.wire_type == WIRE_LENGTH:
            row.size = 0
            _copy_names(row, enter(&field), kept)
            if row.size:
                write_length_field(out, ABSENT, row.data, row.size)
                has_shown = True
        else:
            if field.wire_type == WIRE_VARINT:
                if field.number == ACTION:
                    action = field.value
                elif field.number == CHANGE_RANK:
                    rank = field.value
                elif field.number == OLD_RANK:
                    old_rank = field.value
            write_raw(out, begin, cursor.pos - begin)
        begin = cursor.pos
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"ListChange")
    if action != Action.UPDATE or has_shown or not old_rank:
        return True
    if old_rank == rank:
        return False
    _write_reranked(out, whole, old_rank, rank)
    return True


cdef int _write_reranked(Writer* out, Cursor update, uint64_t old_rank, uint64_t rank) except -1:
    """Writes the RERANK of an UPDATE's symbol."""
    cdef Field field
    out.size = 0
    write_varint_field(out, ACTION, Action.RERANK)
    while next_field(&update, &field) == WIRE_FIELD:
        if field.number == SYMBOL and field.wire_type == WIRE_LENGTH:
            write_length_field(out, SYMBOL, field.data, field.length)
    write_varint_field(out, OLD_RANK, old_rank)
    write_varint_field(out, NEW_RANK, rank)
    return 0


cdef bytes _copy_list(const unsigned char[::1] message, const unsigned char[::1] kept, uint32_t nested, const char* what):
    """A copy of the RankedList or ListDelta `what`, whose rows are in the fields `nested`."""
    cdef Writer out, part, row
    cdef Cursor cursor
    cdef Field field
    cdef bytes_ptr begin
    cdef uint64_t left_out = 0
    cdef int status
    if kept.shape[0] != ROW_NUMBERS:
        raise ValueError(f"expected {ROW_NUMBERS} bytes, was {kept.shape[0]}")
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
                if nested == RANKED_ROWS:
                    _copy_row(&part, enter(&field), kept)
                elif not _copy_change(&part, &row, enter(&field), kept):
                    left_out += 1
                    begin = cursor.pos
                    status = next_field(&cursor, &field)
                    continue
                write_length_field(&out, nested, part.data, part.size)
            elif left_out and field.number == CHANGE_COUNT and field.wire_type == WIRE_VARINT:
                # It stands behind the changes.
                if field.value > left_out:
                    write_varint_field(&out, CHANGE_COUNT, field.value - left_out)
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
    return _copy_list(message, kept, RANKED_ROWS, b"RankedList")


def select_list_delta(const unsigned char[::1] message not None, const unsigned char[::1] kept not None):
    """Returns an encoded ListDelta whose rows have the kept fields only; ValueError when the bytes are none."""
    return _copy_list(message, kept, DELTAS, b"ListDelta")


def select_row(const unsigned char[::1] row not None, const unsigned char[::1] kept not None):
    """Returns an encoded TickerRow with the kept fields only; ValueError when the bytes are none."""
    cdef Writer out
    if kept.shape[0] != ROW_NUMBERS:
        raise ValueError(f"expected {ROW_NUMBERS} bytes, was {kept.shape[0]}")
    if row.shape[0] == 0:
        return b""
    writer_init(&out, row.shape[0])
    try:
        _copy_row(&out, cursor_of(&row[0], row.shape[0]), kept)
        return writer_bytes(&out)
    finally:
        writer_free(&out)
