# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Protobuf's wire format without the GIL: a cursor over a message's fields and
# an appending writer.
#
# Reading:
#     cdef Cursor cursor = cursor_of(data, length)
#     cdef Field field
#     cdef int status = next_field(&cursor, &field)
#     while status == WIRE_FIELD:
#         if field.number == 16 and field.wire_type == WIRE_LENGTH: ... field.data, field.length
#         status = next_field(&cursor, &field)
#     if status != WIRE_END: raise_wire_error(status, b"Frame")
#
# No byte outside [data, data + length) is ever read, whatever the bytes are.
# Stricter than protobuf in two ways: groups are malformed, and so is a varint
# that does not fit 64 bits.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    #error "fastcore reads little-endian columns in place: expected a little-endian machine"
    #endif
    """

ctypedef const unsigned char* bytes_ptr

# Wire types.
cdef enum:
    WIRE_VARINT = 0
    WIRE_FIXED64 = 1
    WIRE_LENGTH = 2
    WIRE_FIXED32 = 5

# Results of next_field.
cdef enum:
    WIRE_FIELD = 1
    WIRE_END = 0
    WIRE_TRUNCATED = -1         # a value reaches beyond the end
    WIRE_LONG_VARINT = -2       # more than 64 bits
    WIRE_BAD_NUMBER = -3        # field number 0, or above 2**29 - 1
    WIRE_BAD_TYPE = -4          # a group, or a type that does not exist

cdef enum:
    MOST_VARINT = 10            # bytes of a varint
    LENGTH_ROOM = 5             # bytes for the length of a message that is still being written

cdef struct Cursor:
    bytes_ptr pos
    bytes_ptr end

cdef struct Field:
    uint32_t number
    uint32_t wire_type
    uint64_t value              # of varint, fixed32 and fixed64 fields, as raw bits
    bytes_ptr data              # of length-delimited fields: in place
    size_t length

cdef struct Writer:
    unsigned char* data         # owned; release with writer_free
    size_t size
    size_t capacity


cdef inline Cursor cursor_of(bytes_ptr data, size_t length) noexcept nogil:
    cdef Cursor cursor
    cursor.pos = data
    cursor.end = data + length
    return cursor


cdef inline Cursor enter(const Field* field) noexcept nogil:
    """The cursor over a length-delimited field that is a message."""
    return cursor_of(field.data, field.length)


cdef inline int take_varint(Cursor* cursor, uint64_t* value) noexcept nogil:
    """WIRE_FIELD, or why not; the cursor moves behind the varint."""
    cdef bytes_ptr pos = cursor.pos
    cdef uint64_t result = 0
    cdef unsigned int shift = 0
    cdef unsigned char byte
    while True:
        if pos >= cursor.end:
            return WIRE_TRUNCATED
        byte = pos[0]
        pos += 1
        if shift == 63 and byte > 1:
            return WIRE_LONG_VARINT
        result |= (<uint64_t>(byte & 0x7F)) << shift
        if byte < 0x80:
            break
        shift += 7
    cursor.pos = pos
    value[0] = result
    return WIRE_FIELD


cdef inline int next_field(Cursor* cursor, Field* field) noexcept nogil:
    """WIRE_FIELD with `field` filled, WIRE_END, or a negative code (the cursor then stays unusable)."""
    cdef uint64_t value = 0
    cdef int status
    cdef uint32_t fixed32
    if cursor.pos >= cursor.end:
        return WIRE_END
    status = take_varint(cursor, &value)
    if status != WIRE_FIELD:
        return status
    if (value >> 32) != 0 or value < 8:
        return WIRE_BAD_NUMBER
    field.number = <uint32_t>(value >> 3)
    field.wire_type = <uint32_t>(value & 7)
    field.value = 0
    field.data = NULL
    field.length = 0
    if field.wire_type == WIRE_LENGTH:
        status = take_varint(cursor, &value)
        if status != WIRE_FIELD:
            return status
        if value > <uint64_t>(cursor.end - cursor.pos):
            return WIRE_TRUNCATED
        field.data = cursor.pos
        field.length = <size_t>value
        cursor.pos += field.length
        return WIRE_FIELD
    if field.wire_type == WIRE_VARINT:
        return take_varint(cursor, &field.value)
    if field.wire_type == WIRE_FIXED64:
        if cursor.end - cursor.pos < 8:
            return WIRE_TRUNCATED
        memcpy(&field.value, cursor.pos, 8)
        cursor.pos += 8
        return WIRE_FIELD
    if field.wire_type == WIRE_FIXED32:
        if cursor.end - cursor.pos < 4:
            return WIRE_TRUNCATED
        memcpy(&fixed32, cursor.pos, 4)
        field.value = fixed32
        cursor.pos += 4
        return WIRE_FIELD
    return WIRE_BAD_TYPE


# Element i of a packed column. Columns inside a message start at any address,
# so they are loaded with memcpy, which the compiler makes one plain move.

cdef inline uint32_t load_u32(bytes_ptr column, Py_ssize_t i) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, column + 4 * i, 4)
    return value


cdef inline uint64_t load_u64(bytes_ptr column, Py_ssize_t i) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, column + 8 * i, 8)
    return value


cdef inline int64_t load_i64(bytes_ptr column, Py_ssize_t i) noexcept nogil:
    cdef int64_t value
    memcpy(&value, column + 8 * i, 8)
    return value


cdef inline double load_f64(bytes_ptr column, Py_ssize_t i) noexcept nogil:
    cdef double value
    memcpy(&value, column + 8 * i, 8)
    return value


cdef inline double field_f64(const Field* field) noexcept nogil:
    """A fixed64 field as double."""
    cdef double value
    memcpy(&value, &field.value, 8)
    return value


cdef int raise_wire_error(int status, const char* what) except -1 nogil
cdef int writer_init(Writer* writer, size_t capacity) except -1 nogil
cdef void writer_free(Writer* writer) noexcept nogil
cdef int writer_grow(Writer* writer, size_t more) except -1 nogil
cdef int end_message(Writer* writer, size_t begin) except -1 nogil


cdef inline int reserve(Writer* writer, size_t more) except -1 nogil:
    """Room for `more` bytes; MemoryError when there is none."""
    if writer.capacity - writer.size < more:
        return writer_grow(writer, more)
    return 0


cdef inline size_t varint_size(uint64_t value) noexcept nogil:
    cdef size_t size = 1
    while value >= 0x80:
        value >>= 7
        size += 1
    return size


cdef inline unsigned char* put_varint(unsigned char* pos, uint64_t value) noexcept nogil:
    """Writes into room that is already there; returns the place behind it."""
    while value >= 0x80:
        pos[0] = <unsigned char>(value | 0x80)
        value >>= 7
        pos += 1
    pos[0] = <unsigned char>value
    return pos + 1


cdef inline int write_raw(Writer* writer, const void* data, size_t length) except -1 nogil:
    if length == 0:
        return 0
    reserve(writer, length)
    memcpy(writer.data + writer.size, data, length)
    writer.size += length
    return 0


cdef inline int write_varint(Writer* writer, uint64_t value) except -1 nogil:
    reserve(writer, 10)
    writer.size = put_varint(writer.data + writer.size, value) - writer.data
    return 0


cdef inline int write_varint_field(Writer* writer, uint32_t number, uint64_t value) except -1 nogil:
    reserve(writer, 16)
    cdef unsigned char* pos = put_varint(writer.data + writer.size, (<uint64_t>number << 3) | WIRE_VARINT)
    writer.size = put_varint(pos, value) - writer.data
    return 0


cdef inline int write_fixed32_field(Writer* writer, uint32_t number, uint32_t value) except -1 nogil:
    reserve(writer, 16)
    cdef unsigned char* pos = put_varint(writer.data + writer.size, (<uint64_t>number << 3) | WIRE_FIXED32)
    memcpy(pos, &value, 4)
    writer.size = (pos + 4) - writer.data
    return 0


cdef inline int write_fixed64_field(Writer* writer, uint32_t number, uint64_t value) except -1 nogil:
    reserve(writer, 16)
    cdef unsigned char* pos = put_varint(writer.data + writer.size, (<uint64_t>number << 3) | WIRE_FIXED64)
    memcpy(pos, &value, 8)
    writer.size = (pos + 8) - writer.data
    return 0


cdef inline int write_double_field(Writer* writer, uint32_t number, double value) except -1 nogil:
    cdef uint64_t bits
    memcpy(&bits, &value, 8)
    return write_fixed64_field(writer, number, bits)


cdef inline int write_length_field(Writer* writer, uint32_t number, const void* data, size_t length) except -1 nogil:
    """A text, bytes, message or packed column that is already encoded."""
    reserve(writer, 16 + length)
    cdef unsigned char* pos = put_varint(writer.data + writer.size, (<uint64_t>number << 3) | WIRE_LENGTH)
    pos = put_varint(pos, length)
    if length:
        memcpy(pos, data, length)
    writer.size = (pos + length) - writer.data
    return 0


cdef inline size_t begin_message(Writer* writer, uint32_t number) except? 0 nogil:
    """Begins a message whose length is not known yet; returns its place, for end_message()."""
    reserve(writer, 16)
    cdef unsigned char* pos = put_varint(writer.data + writer.size, (<uint64_t>number << 3) | WIRE_LENGTH)
    writer.size = (pos + LENGTH_ROOM) - writer.data
    return writer.size


cdef inline bytes writer_bytes(const Writer* writer):
    """A Python copy of what was written."""
    return (<const char*>writer.data)[:writer.size]


cdef bytes writer_field(const Writer* writer, uint32_t number)
