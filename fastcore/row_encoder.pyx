# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Rows as messages, field by field as protobuf itself would write them; tests compare with the generated classes."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t, uint64_t
from libc.string cimport memcpy

from fastcore.day_table cimport SymbolDay
from fastcore.derived_kernels cimport shown6
from fastcore.field_numbers cimport *
from fastcore.row_values cimport Column, value_of
from fastcore.text_pool cimport TextPool
from fastcore.wire cimport (
    WIRE_FIXED64, WIRE_LENGTH, WIRE_VARINT, Writer, put_varint, reserve, varint_size, writer_bytes,
)

from fastcore.fields import BY_NAME, FIELD_COUNT, FIELDS, SUMS

cdef enum:
    SYMBOL_TAG = F_SYMBOL << 3 | WIRE_LENGTH
    SECONDS_TAG = 1 << 3 | WIRE_VARINT      # of Timestamp
    NANOS_TAG = 2 << 3 | WIRE_VARINT
    LARGEST_VALUE = 24                      # tag and value of a field that is no text, tag and length of one that is

cdef int64_t SECOND_NS = 1_000_000_000

# What field number i is and how its tag is written: one byte below 16, else two.
cdef enum Kind:
    NOTHING = 0
    NUMBER = 1
    CODE = 2            # booleans and enums
    TIME = 3
    TEXT = 4
    SUM = 5             # a number that is stored exactly and shown rounded

cdef Kind[F_COUNT] KINDS
cdef unsigned char[F_COUNT][2] TAGS
cdef int[F_COUNT] TAG_SIZES


cdef int fill_tables() except -1:
    cdef int i
    cdef uint64_t tag
    if FIELD_COUNT != F_COUNT:
        raise ImportError(f"expected {F_COUNT} fields, was {FIELD_COUNT}: build fastcore anew")
    for i in range(F_COUNT):
        KINDS[i] = Kind.NOTHING
    for field in FIELDS:
        i = field.number
        kind = field.kind
        KINDS[i] = (
            Kind.SUM if field.name in SUMS
            else Kind.NUMBER if kind == "number" else Kind.TIME if kind == "time" else Kind.TEXT if kind == "text"
            else Kind.CODE
        )
        tag = <uint64_t>i << 3 | (
            WIRE_FIXED64 if KINDS[i] in (Kind.NUMBER, Kind.SUM)
            else WIRE_VARINT if KINDS[i] == Kind.CODE else WIRE_LENGTH
        )
        TAG_SIZES[i] = <int>(put_varint(TAGS[i], tag) - TAGS[i])
    return 0


fill_tables()


cdef inline unsigned char* put_tag(unsigned char* pos, int field) noexcept nogil:
    # Two bytes always: the second is overwritten where the tag has one.
    memcpy(pos, TAGS[field], 2)
    return pos + TAG_SIZES[field]


cdef inline unsigned char* put_time(unsigned char* pos, int field, int64_t time_ns) noexcept nogil:
    cdef uint64_t seconds = <uint64_t>(time_ns // SECOND_NS), nanos = <uint64_t>(time_ns % SECOND_NS)
    cdef size_t size = (1 + varint_size(seconds) if seconds else 0) + (1 + varint_size(nanos) if nanos else 0)
    pos = put_tag(pos, field)
    pos[0] = <unsigned char>size
    pos += 1
    if seconds:
        pos[0] = SECONDS_TAG
        pos = put_varint(pos + 1, seconds)
    if nanos:
        pos[0] = NANOS_TAG
        pos = put_varint(pos + 1, nanos)
    return pos


cdef inline int64_t time_of(const SymbolDay* day, int field) noexcept nogil:
    """A time to the nanosecond: a column holds doubles, which are too coarse."""
    if field == F_HALTED_AT:
        return day.halted_at
    return day.resumes_at if field == F_RESUMES_AT else day.updated_at


cdef inline unsigned char* put_number(unsigned char* pos, int field, double value) noexcept nogil:
    # Written in any case and passed over when it is there: whether it is cannot be foreseen.
    memcpy(pos, TAGS[field], 2)
    memcpy(pos + TAG_SIZES[field], &value, 8)
    return pos + (TAG_SIZES[field] + 8 if value == value else 0)


cdef bytes encoded_row(
    Writer* writer, bytes symbol, const Column* columns, int32_t** text_columns, TextPool pool, const SymbolDay* day,
    int32_t i
):
    cdef unsigned char* pos
    cdef Py_ssize_t length = PyBytes_GET_SIZE(symbol)
    cdef int field
    cdef Kind kind
    cdef double value
    cdef bytes text
    writer.size = 0
    reserve(writer, 2 + length + F_COUNT * LARGEST_VALUE)
    pos = writer.data
    pos[0] = SYMBOL_TAG
    pos[1] = <unsigned char>length
    memcpy(pos + 2, PyBytes_AS_STRING(symbol), length)
    pos += 2 + length
    for field in range(F_SYMBOL + 1, F_COUNT):
        kind = KINDS[field]
        if kind == Kind.NUMBER:
            pos = put_number(pos, field, value_of(columns, field, i))
        elif kind == Kind.SUM:
            pos = put_number(pos, field, shown6(value_of(columns, field, i)))
        elif kind == Kind.TEXT:
            if text_columns[field][i]:
                text = <bytes>pool.encoded[text_columns[field][i]]
                length = PyBytes_GET_SIZE(text)
                writer.size = pos - writer.data
                # What follows finds the room that it had before.
                reserve(writer, length + F_COUNT * LARGEST_VALUE)
                pos = put_varint(put_tag(writer.data + writer.size, field), length)
                memcpy(pos, PyBytes_AS_STRING(text), length)
                pos += length
        elif kind != Kind.NOTHING:
            value = value_of(columns, field, i)
            if value == value:
                if kind == Kind.CODE:
                    pos = put_tag(pos, field)
                    pos[0] = <unsigned char>value
                    pos += 1
                else:
                    pos = put_time(pos, field, time_of(day, field))
    writer.size = pos - writer.data
    return writer_bytes(writer)


cdef dict row_dict(
    str symbol, const Column* columns, int32_t** text_columns, TextPool pool, const SymbolDay* day, int32_t i, names
):
    cdef dict row = {"symbol": symbol}
    cdef int number
    cdef double value
    for field in FIELDS[1:] if names is None else [BY_NAME[name] for name in names if name != "symbol"]:
        number = field.number
        if KINDS[number] == Kind.TEXT:
            if text_columns[number][i]:
                row[field.name] = pool.texts[text_columns[number][i]]
            continue
        value = value_of(columns, number, i)
        if value != value:
            continue
        if KINDS[number] == Kind.NUMBER or KINDS[number] == Kind.SUM:
            # As it is stored.
            row[field.name] = value
        elif KINDS[number] == Kind.TIME:
            row[field.name] = time_of(day, number)
        else:
            row[field.name] = field.values[<int>value - 1] if field.kind == "enum" else value != 0
    return row
