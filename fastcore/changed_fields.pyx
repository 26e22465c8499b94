# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The fields of a row that differ from the row before, and list messages with only those.

A list's change has complete rows. Beside it stands a record for each UPDATE, in their order: the row's old rank, and
a bit for each field number whose encoded value is another one than before, or is there only before or only now.
Records of consecutive changes are united by their bits, whatever the rows are, so that nothing but the complete rows
and these few bytes has to be held for clients that are behind.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from fastcore.fields import FIELDS
from fastcore.list_messages cimport Action
from fastcore.list_numbers cimport *
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_FIXED64, WIRE_LENGTH, WIRE_VARINT, Cursor, Field, Writer, bytes_ptr, cursor_of, enter, load_u32,
    load_u64, next_field, raise_wire_error, reserve, write_length_field, write_raw, write_varint_field, writer_bytes,
    writer_free, writer_init,
)

RECORD_BYTES = RECORD

cdef struct Bits:
    uint64_t[2] words

# By field number: the name, None where there is no field beside rank and symbol; and the bits of those with a name.
cdef list _names = [None] * ROW_NUMBERS
cdef Bits SHOWN


cdef inline bint has(const Bits* bits, uint32_t number) noexcept nogil:
    return (bits.words[number >> 6] >> (number & 63)) & 1


cdef inline void put(Bits* bits, uint32_t number) noexcept nogil:
    # Lists have no greater numbers in their rows.
    if number < ROW_NUMBERS:
        bits.words[number >> 6] |= <uint64_t>1 << (number & 63)


def _fill_names():
    for field in FIELDS:
        if field.number >= ROW_NUMBERS:
            raise SystemError(f"expected field numbers below {ROW_NUMBERS}, was {field.number}")
        if field.number not in (ROW_RANK, SYMBOL):
            _names[field.number] = field.name.encode()
            put(&SHOWN, field.number)


_fill_names()


cdef inline bint _skip_number(Cursor* old, Cursor* new, Bits* changed) noexcept nogil:
    """Compares the next field of both rows where it is the same fixed64 one, as most are; False otherwise."""
    cdef size_t size = 1 if old.pos[0] < 0x80 else 2
    cdef uint64_t before, after
    cdef uint32_t tag = old.pos[0]
    if <size_t>(old.end - old.pos) < size + 8 or <size_t>(new.end - new.pos) < size + 8 or new.pos[0] != tag:
        return False
    if size == 2:
        if new.pos[1] != old.pos[1] or old.pos[1] >= 0x80:
            return False
        tag = (tag & 0x7F) | <uint32_t>old.pos[1] << 7
    if (tag & 7) != WIRE_FIXED64 or (tag >> 3) >= ROW_NUMBERS:
        return False
    memcpy(&before, old.pos + size, 8)
    memcpy(&after, new.pos + size, 8)
    changed.words[tag >> 9] |= <uint64_t>(before != after) << ((tag >> 3) & 63)
    old.pos += size + 8
    new.pos += size + 8
    return True


cdef int write_changed_fields(Writer* writer, bytes old, bytes new, uint32_t old_rank) except -1:
    """Appends the record of an update from one encoded row to another.

    Both are gone through side by side, since fields stand in the same order. Where they do not, as in a row that is
    damaged, more fields count as changed than are.
    """
    cdef Cursor before = cursor_of(<bytes_ptr>PyBytes_AS_STRING(old), PyBytes_GET_SIZE(old))
    cdef Cursor after = cursor_of(<bytes_ptr>PyBytes_AS_STRING(new), PyBytes_GET_SIZE(new))
    cdef Cursor old_begin, new_begin
    cdef Field old_field, new_field
    cdef Bits changed
    cdef int old_status = WIRE_FIELD, new_status = WIRE_FIELD
    memset(&changed, 0, sizeof(Bits))
    old_field.number = new_field.number = 0
    while old_status == WIRE_FIELD or new_status == WIRE_FIELD:
        if before.pos < before.end and after.pos < after.end and _skip_number(&before, &after, &changed):
            continue
        old_begin, new_begin = before, after
        old_status, new_status = next_field(&before, &old_field), next_field(&after, &new_field)
        if old_status < 0 or new_status < 0:
            raise_wire_error(min(old_status, new_status), b"TickerRow")
        if old_status == WIRE_FIELD and new_status == WIRE_FIELD and old_field.number == new_field.number:
            if (
                before.pos - old_begin.pos != after.pos - new_begin.pos
                or memcmp(old_begin.pos, new_begin.pos, before.pos - old_begin.pos) != 0
            ):
                put(&changed, old_field.number)
        elif old_status == WIRE_FIELD and (new_status == WIRE_END or old_field.number < new_field.number):
            put(&changed, old_field.number)
            after = new_begin
        elif new_status == WIRE_FIELD:
            put(&changed, new_field.number)
            before = old_begin
    reserve(writer, RECORD)
    memcpy(writer.data + writer.size, &old_rank, 4)
    memcpy(writer.data + writer.size + 4, &changed.words, 16)
    writer.size += RECORD
    return 0


cdef int _write_update(Writer* out, Writer* row, Cursor cursor, uint32_t old_rank, const Bits* changed) except -1:
    """Appends the content of an UPDATE with the changed fields of its row; `row` is room for that."""
    cdef Field field, part
    cdef Cursor data
    cdef bytes_ptr begin
    cdef uint64_t rank = 0
    cdef uint32_t number
    cdef Bits absent
    cdef bytes name
    cdef int status = next_field(&cursor, &field)
    absent.words[0] = changed.words[0] & SHOWN.words[0]
    absent.words[1] = changed.words[1] & SHOWN.words[1]
    row.size = 0
    write_varint_field(out, ACTION, Action.UPDATE)
    while status == WIRE_FIELD:
        if field.number == SYMBOL and field.wire_type == WIRE_LENGTH:
            write_length_field(out, SYMBOL, field.data, field.length)
        elif field.number == CHANGE_RANK and field.wire_type == WIRE_VARINT:
            rank = field.value
        elif field.number == DATA and field.wire_type == WIRE_LENGTH:
            data = enter(&field)
            begin = data.pos
            status = next_field(&data, &part)
            while status == WIRE_FIELD:
                if part.number < ROW_NUMBERS and has(changed, part.number) and has(&SHOWN, part.number):
                    write_raw(row, begin, data.pos - begin)
                    absent.words[part.number >> 6] &= ~(<uint64_t>1 << (part.number & 63))
                begin = data.pos
                status = next_field(&data, &part)
            if status != WIRE_END:
                raise_wire_error(status, b"TickerRow")
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"ListChange")
    write_varint_field(out, CHANGE_RANK, rank)
    if old_rank:
        write_varint_field(out, OLD_RANK, old_rank)
    if row.size:
        write_length_field(out, DATA, row.data, row.size)
    if absent.words[0] or absent.words[1]:
        row.size = 0
        for number in range(<uint32_t>ROW_NUMBERS):
            if has(&absent, number):
                name = <bytes>_names[number]
                write_length_field(row, PATHS, PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        write_length_field(out, ABSENT, row.data, row.size)
    return 0


cdef bint _is_update(Cursor cursor) except -1:
    cdef Field field
    cdef bint is_update = False
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number == ACTION and field.wire_type == WIRE_VARINT:
            is_update = field.value == Action.UPDATE
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"ListChange")
    return is_update


def changed_list_delta(const unsigned char[::1] message not None, const unsigned char[::1] changed not None):
    """Returns an encoded ListDelta whose updates have the changed fields only; see changed_fields.pyi."""
    cdef Writer out, part, row
    cdef Cursor cursor
    cdef Field field
    cdef Bits bits
    cdef uint32_t old_rank = 0
    cdef Py_ssize_t place = 0
    cdef bytes_ptr begin
    cdef int status
    if message.shape[0] == 0:
        return b""
    writer_init(&out, message.shape[0] // 4 + 64)
    writer_init(&part, 1024)
    writer_init(&row, 1024)
    try:
        cursor = cursor_of(&message[0], message.shape[0])
        begin = cursor.pos
        status = next_field(&cursor, &field)
        while status == WIRE_FIELD:
            if field.number == DELTAS and field.wire_type == WIRE_LENGTH and _is_update(enter(&field)):
                memset(&bits, 0xFF, sizeof(Bits))
                if changed.shape[0]:
                    if place + RECORD > changed.shape[0]:
                        raise ValueError(f"expected a record for each update, was {changed.shape[0]} bytes")
                    old_rank = load_u32(&changed[place], 0)
                    bits.words[0] = load_u64(&changed[place + 4], 0)
                    bits.words[1] = load_u64(&changed[place + 12], 0)
                    place += RECORD
                part.size = 0
                _write_update(&part, &row, enter(&field), old_rank, &bits)
                write_length_field(&out, DELTAS, part.data, part.size)
            else:
                write_raw(&out, begin, cursor.pos - begin)
            begin = cursor.pos
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"ListDelta")
        if place != changed.shape[0]:
            raise ValueError(f"expected {place} bytes of records, was {changed.shape[0]}")
        return writer_bytes(&out)
    finally:
        writer_free(&out)
        writer_free(&part)
        writer_free(&row)
