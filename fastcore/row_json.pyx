# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""List messages as JSON, from their encoded bytes: no row becomes a Python object.

What comes out says the same as protobuf's own JSON mapping with the proto's field names (tests
compare with json_format): names of fastcore/fields.py, bare enum texts, RFC 3339 times, absent
fields left out. A row is given without its rank, so that a new rank costs no new row:
`b'{"rank":7,' + row + b'}'`.

Rows of which fields change one by one are given by field: a dict of each field's JSON by its number.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free
from libc.math cimport fabs, floor, isfinite, isnan, rint, signbit
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastcore.fields import FIELD_COUNT, FIELDS
from fastcore.list_numbers cimport *
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_FIXED64, WIRE_LENGTH, WIRE_VARINT, Cursor, Field, Writer, bytes_ptr, cursor_of, enter,
    field_f64, next_field, raise_wire_error, reserve, write_raw, writer_bytes, writer_free, writer_init,
)

cdef extern from "Python.h":
    char* PyOS_double_to_string(double value, char format_code, int precision, int flags, int* kind) except NULL
    enum:
        Py_DTSF_ADD_DOT_0

cdef extern from "string.h" nogil:
    size_t strlen(const char* text)

# What a field's value is written as; NOTHING for numbers that no field has.
cdef enum Kind:
    NOTHING = 0
    NUMBER
    TEXT
    BOOLEAN
    TIME
    ENUM

cdef struct Key:
    Kind kind
    const char* text                # `"name":`
    size_t length

cdef Key[ROW_NUMBERS] KEYS
# Keeps alive what KEYS points to.
cdef list _kept = []
cdef list _enum_texts = [None] * ROW_NUMBERS
cdef dict _numbers = {field.name.encode(): field.number for field in FIELDS}

cdef double MICRO = 1e6
# Integers below are exact, and so is a quotient by MICRO of such an integer, correctly rounded.
cdef double EXACT = 9007199254740992.0
cdef double MOST_WHOLE = 1e15
cdef int64_t DAY = 86_400
# The times that RFC 3339 can write: years 1 to 9999.
cdef int64_t FIRST_SECOND = -62_135_596_800
cdef int64_t LAST_SECOND = 253_402_300_799
cdef const char* HEX = b"0123456789abcdef"


def _fill_keys():
    kinds = {"number": NUMBER, "text": TEXT, "boolean": BOOLEAN, "time": TIME, "enum": ENUM}
    cdef bytes text
    cdef int number
    if FIELD_COUNT > ROW_NUMBERS:
        raise SystemError(f"expected at most {ROW_NUMBERS} fields, was {FIELD_COUNT}")
    for number in range(ROW_NUMBERS):
        KEYS[number].kind = NOTHING
    for field in FIELDS:
        text = f'"{field.name}":'.encode()
        _kept.append(text)
        number = field.number
        KEYS[number].kind = kinds[field.kind]
        KEYS[number].text = PyBytes_AS_STRING(text)
        KEYS[number].length = PyBytes_GET_SIZE(text)
        if field.kind == "enum":
            texts = (f"{field.name.upper()}_UNSPECIFIED", *field.values)
            _enum_texts[number] = [f'"{value}"'.encode() for value in texts]


_fill_keys()


cdef inline int _write_byte(Writer* writer, unsigned char byte) except -1:
    reserve(writer, 1)
    writer.data[writer.size] = byte
    writer.size += 1
    return 0


cdef inline int _write_bytes(Writer* writer, bytes text) except -1:
    return write_raw(writer, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef int _write_whole(Writer* writer, uint64_t value, int least_digits) except -1:
    """The digits of `value`, with leading zeros up to `least_digits` (at most 20)."""
    cdef unsigned char[20] digits
    cdef int at = 20
    while value or 20 - at < least_digits:
        at -= 1
        digits[at] = <unsigned char>(48 + value % 10)
        value //= 10
    return write_raw(writer, &digits[at], 20 - at)


cdef int _write_double(Writer* writer, double value) except -1:
    cdef double scaled, magnitude
    cdef uint64_t micros, fraction
    cdef int digits = 6
    cdef char* text
    if not isfinite(value):
        return _write_bytes(writer, b'"NaN"' if isnan(value) else b'"Infinity"' if value > 0 else b'"-Infinity"')
    magnitude = fabs(value)
    if magnitude < MOST_WHOLE and floor(magnitude) == magnitude and not (value == 0 and signbit(value)):
        if value < 0:
            _write_byte(writer, 45)
        return _write_whole(writer, <uint64_t>magnitude, 1)
    scaled = rint(magnitude * MICRO)
    if scaled < EXACT and scaled / MICRO == magnitude and magnitude != 0:
        # Six decimals say it: they are read back as exactly this double.
        micros = <uint64_t>scaled
        if value < 0:
            _write_byte(writer, 45)
        _write_whole(writer, micros // 1_000_000, 1)
        fraction = micros % 1_000_000
        while fraction % 10 == 0:
            fraction //= 10
            digits -= 1
        _write_byte(writer, 46)
        return _write_whole(writer, fraction, digits)
    text = PyOS_double_to_string(value, b"r", 0, Py_DTSF_ADD_DOT_0, NULL)
    try:
        return write_raw(writer, text, strlen(text))
    finally:
        PyMem_Free(text)


cdef int _write_text(Writer* writer, bytes_ptr data, size_t length) except -1:
    cdef size_t i
    cdef unsigned char byte
    cdef bytes repaired
    for i in range(length):
        if data[i] >= 0x80:
            # Texts of a browser's socket have to be UTF-8, or it is closed.
            repaired = (<const char*>data)[:length].decode("utf-8", "replace").encode()
            data = <bytes_ptr>PyBytes_AS_STRING(repaired)
            length = PyBytes_GET_SIZE(repaired)
            break
    reserve(writer, 6 * length + 2)
    cdef unsigned char* pos = writer.data + writer.size
    pos[0] = 34
    pos += 1
    for i in range(length):
        byte = data[i]
        if byte == 34 or byte == 92:
            pos[0] = 92
            pos[1] = byte
            pos += 2
        elif byte < 0x20:
            pos[0] = 92
            pos[1] = 117
            pos[2] = 48
            pos[3] = 48
            pos[4] = HEX[byte >> 4]
            pos[5] = HEX[byte & 15]
            pos += 6
        else:
            pos[0] = byte
            pos += 1
    pos[0] = 34
    writer.size = (pos + 1) - writer.data
    return 0


cdef int _write_instant(Writer* writer, int64_t seconds, int64_t nanos) except -1:
    """RFC 3339 in UTC, quoted, with 0, 3, 6 or 9 decimals; ValueError beyond the years 1 to 9999."""
    if not FIRST_SECOND <= seconds <= LAST_SECOND or not 0 <= nanos < 1_000_000_000:
        raise ValueError(f"expected a time in the years 1 to 9999, was {seconds} s {nanos} ns since 1970")
    # Days since 0000-03-01, by eras of 400 years; see Hinnant, "chrono-compatible low-level date algorithms".
    cdef int64_t since_first = seconds - FIRST_SECOND
    cdef int64_t second = since_first % DAY
    cdef int64_t days = since_first // DAY + 306
    cdef int64_t era = days // 146_097
    cdef int64_t day_of_era = days % 146_097
    cdef int64_t year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    cdef int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    cdef int64_t shifted_month = (5 * day_of_year + 2) // 153
    cdef int64_t month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    cdef int64_t year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    _write_byte(writer, 34)
    _write_whole(writer, year, 4)
    _write_byte(writer, 45)
    _write_whole(writer, month, 2)
    _write_byte(writer, 45)
    _write_whole(writer, day_of_year - (153 * shifted_month + 2) // 5 + 1, 2)
    _write_byte(writer, 84)
    _write_whole(writer, second // 3600, 2)
    _write_byte(writer, 58)
    _write_whole(writer, second // 60 % 60, 2)
    _write_byte(writer, 58)
    _write_whole(writer, second % 60, 2)
    if nanos:
        _write_byte(writer, 46)
        if nanos % 1_000_000 == 0:
            _write_whole(writer, nanos // 1_000_000, 3)
        elif nanos % 1000 == 0:
            _write_whole(writer, nanos // 1000, 6)
        else:
            _write_whole(writer, nanos, 9)
    _write_byte(writer, 90)
    return _write_byte(writer, 34)


cdef int _write_timestamp(Writer* writer, const Field* field) except -1:
    """A google.protobuf.Timestamp."""
    cdef Cursor cursor = enter(field)
    cdef Field part
    cdef int64_t seconds = 0, nanos = 0
    cdef int status = next_field(&cursor, &part)
    while status == WIRE_FIELD:
        if part.wire_type == WIRE_VARINT:
            if part.number == 1:
                seconds = <int64_t>part.value
            elif part.number == 2:
                nanos = <int64_t>part.value
        status = next_field(&cursor, &part)
    if status != WIRE_END:
        raise_wire_error(status, b"Timestamp")
    return _write_instant(writer, seconds, nanos)


cdef int _write_enum(Writer* writer, const Field* field) except -1:
    cdef int64_t code = <int32_t>field.value
    cdef list texts = _enum_texts[field.number]
    if 0 <= code < len(texts):
        return _write_bytes(writer, texts[code])
    return _write_bytes(writer, b"%d" % code)


cdef tuple _row_json(Writer* writer, const Field* row, bint by_field):
    """(symbol as JSON, rank or 0 without one, the row's members but its rank)."""
    cdef Cursor cursor = enter(row)
    cdef Field field
    cdef Key key
    cdef size_t begin
    cdef bytes symbol = b'""'
    cdef uint32_t rank = 0
    cdef dict members = {}
    writer.size = 0
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number == ROW_RANK and field.wire_type == WIRE_VARINT:
            rank = <uint32_t>field.value
        elif field.number < ROW_NUMBERS and KEYS[field.number].kind != NOTHING:
            key = KEYS[field.number]
            begin = writer.size
            if begin:
                _write_byte(writer, 44)
            write_raw(writer, key.text, key.length)
            if key.kind == NUMBER and field.wire_type == WIRE_FIXED64:
                _write_double(writer, field_f64(&field))
            elif key.kind == TEXT and field.wire_type == WIRE_LENGTH:
                begin = writer.size
                _write_text(writer, field.data, field.length)
                if field.number == SYMBOL:
                    symbol = (<const char*>writer.data)[begin : writer.size]
            elif key.kind == BOOLEAN and field.wire_type == WIRE_VARINT:
                _write_bytes(writer, b"true" if field.value else b"false")
            elif key.kind == TIME and field.wire_type == WIRE_LENGTH:
                _write_timestamp(writer, &field)
            elif key.kind == ENUM and field.wire_type == WIRE_VARINT:
                _write_enum(writer, &field)
            else:
                # To protobuf, too, a field of another wire type is an unknown one.
                writer.size = begin
            if by_field and writer.size:
                members[field.number] = writer_bytes(writer)
                writer.size = 0
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"TickerRow")
    return symbol, rank, members if by_field else writer_bytes(writer)


cdef bytes _instant_of(Writer* writer, const Field* field):
    writer.size = 0
    _write_timestamp(writer, field)
    return writer_bytes(writer)


cdef list _names(const Field* mask):
    """The names in a FieldMask; one of a later version is not shown here, with a value or without."""
    cdef Cursor cursor = enter(mask)
    cdef Field field
    cdef bytes name
    cdef list names = []
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number == PATHS and field.wire_type == WIRE_LENGTH:
            name = (<const char*>field.data)[:field.length]
            if name in _numbers:
                names.append(name)
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"FieldMask")
    return names


cdef tuple _change(Writer* writer, const Field* change, bint by_field):
    """(action, symbol as JSON, old rank, rank afterwards, the row's members)."""
    cdef Cursor cursor = enter(change)
    cdef Field field
    cdef int64_t action = 0
    cdef uint32_t rank = 0, old_rank = 0
    cdef bytes symbol = b'""', name
    cdef object row = {} if by_field else b""
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.wire_type == WIRE_VARINT:
            if field.number == ACTION:
                action = <int32_t>field.value
            elif field.number == CHANGE_RANK or field.number == NEW_RANK:
                rank = <uint32_t>field.value
            elif field.number == OLD_RANK:
                old_rank = <uint32_t>field.value
        elif field.wire_type == WIRE_LENGTH:
            if field.number == SYMBOL:
                writer.size = 0
                _write_text(writer, field.data, field.length)
                symbol = writer_bytes(writer)
            elif field.number == DATA:
                _, _, row = _row_json(writer, &field, by_field)
            elif field.number == ABSENT:
                for name in _names(&field):
                    if by_field:
                        row[_numbers[name]] = None
                    else:
                        row = b'%b%b"%b":null' % (row, b"," if row else b"", name)
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"ListChange")
    return action, symbol, old_rank, rank, row


def read_ranked_list(const unsigned char[::1] message not None, bint by_field=False):
    """An encoded RankedList as (epoch, sequence, timestamp, rows).

    `timestamp` is JSON, b"" when absent. Each row is (symbol as JSON, rank, members): the members
    of the row's JSON object but its rank, `by_field` as a dict. ValueError when the bytes are no RankedList.
    """
    cdef Writer writer
    cdef Cursor cursor
    cdef Field field
    cdef uint32_t epoch = 0, sequence = 0
    cdef bytes timestamp = b""
    cdef list rows = []
    cdef int status = WIRE_END
    writer_init(&writer, 2048)
    try:
        if message.shape[0]:
            cursor = cursor_of(&message[0], message.shape[0])
            status = next_field(&cursor, &field)
        while status == WIRE_FIELD:
            if field.wire_type == WIRE_LENGTH:
                if field.number == RANKED_ROWS:
                    rows.append(_row_json(&writer, &field, by_field))
                elif field.number == RANKED_TIMESTAMP:
                    timestamp = _instant_of(&writer, &field)
            elif field.wire_type == WIRE_VARINT:
                if field.number == EPOCH:
                    epoch = <uint32_t>field.value
                elif field.number == RANKED_SEQUENCE:
                    sequence = <uint32_t>field.value
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"RankedList")
        return epoch, sequence, timestamp, rows
    finally:
        writer_free(&writer)


def read_list_delta(const unsigned char[::1] message not None, bint by_field=False):
    """An encoded ListDelta as (epoch, previous_sequence, sequence, timestamp, changes).

    `timestamp` is JSON, b"" when absent. Each change is (action, symbol as JSON, old rank, rank
    afterwards, members): action as in ListChange.Action, ranks 0 when absent, the members of the
    row's JSON object but its rank, none without a row. A field that has become absent is null, `by_field`
    None. ValueError when the bytes are no ListDelta.
    """
    cdef Writer writer
    cdef Cursor cursor
    cdef Field field
    cdef uint32_t epoch = 0, previous_sequence = 0, sequence = 0
    cdef bytes timestamp = b""
    cdef list changes = []
    cdef int status = WIRE_END
    writer_init(&writer, 2048)
    try:
        if message.shape[0]:
            cursor = cursor_of(&message[0], message.shape[0])
            status = next_field(&cursor, &field)
        while status == WIRE_FIELD:
            if field.wire_type == WIRE_LENGTH:
                if field.number == DELTAS:
                    changes.append(_change(&writer, &field, by_field))
                elif field.number == DELTA_TIMESTAMP:
                    timestamp = _instant_of(&writer, &field)
            elif field.wire_type == WIRE_VARINT:
                if field.number == EPOCH:
                    epoch = <uint32_t>field.value
                elif field.number == PREVIOUS_SEQUENCE:
                    previous_sequence = <uint32_t>field.value
                elif field.number == DELTA_SEQUENCE:
                    sequence = <uint32_t>field.value
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"ListDelta")
        return epoch, previous_sequence, sequence, timestamp, changes
    finally:
        writer_free(&writer)


def instant_json(ns: int) -> bytes:
    """Nanoseconds since 1970 UTC as RFC 3339 in UTC, JSON; ValueError beyond the years 1 to 9999."""
    cdef Writer writer
    cdef int64_t time_ns = ns
    cdef int64_t nanos = time_ns % 1_000_000_000
    if nanos < 0:
        nanos += 1_000_000_000
    writer_init(&writer, 64)
    try:
        _write_instant(&writer, (time_ns - nanos) // 1_000_000_000, nanos)
        return writer_bytes(&writer)
    finally:
        writer_free(&writer)
