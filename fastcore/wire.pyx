# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Protobuf's wire format: the parts of wire.pxd that raise or allocate, and a Python view for tests and tools."""

from libc.stdlib cimport free, malloc, realloc


cdef int raise_wire_error(int status, const char* what) except -1 nogil:
    """ValueError saying what is wrong with the bytes of the message `what`."""
    with gil:
        name = what.decode()
        if status == WIRE_TRUNCATED:
            raise ValueError(f"{name}: expected more bytes, was truncated")
        if status == WIRE_LONG_VARINT:
            raise ValueError(f"{name}: expected a varint of 64 bits at most, was longer")
        if status == WIRE_BAD_NUMBER:
            raise ValueError(f"{name}: expected a field number of 1 to 536870911, was another")
        if status == WIRE_BAD_TYPE:
            raise ValueError(f"{name}: expected wire type 0, 1, 2 or 5, was another")
        raise SystemError(f"{name}: {status} is no wire error")


cdef int writer_init(Writer* writer, size_t capacity) except -1 nogil:
    """An empty writer with room for `capacity` bytes; MemoryError when there is none."""
    if capacity < 64:
        capacity = 64
    writer.size = 0
    writer.capacity = 0
    writer.data = <unsigned char*>malloc(capacity)
    if writer.data == NULL:
        with gil:
            raise MemoryError(f"no {capacity} bytes for a message")
    writer.capacity = capacity
    return 0


cdef void writer_free(Writer* writer) noexcept nogil:
    free(writer.data)
    writer.data = NULL
    writer.size = 0
    writer.capacity = 0


cdef int writer_grow(Writer* writer, size_t more) except -1 nogil:
    """At least doubles, so that appending costs constant time."""
    cdef size_t capacity = writer.capacity * 2
    if capacity < writer.size + more:
        capacity = writer.size + more
    if capacity < 64:
        capacity = 64
    cdef unsigned char* data = <unsigned char*>realloc(writer.data, capacity)
    if data == NULL:
        with gil:
            raise MemoryError(f"no {capacity} bytes for a message")
    writer.data = data
    writer.capacity = capacity
    return 0


cdef int end_message(Writer* writer, size_t begin) except -1 nogil:
    """Writes the length of what was written since, into all the bytes left for it: a varint may end with zeros."""
    cdef size_t length = writer.size - begin
    cdef int i
    if length >> (7 * LENGTH_ROOM):
        with gil:
            raise OverflowError(f"expected a message of at most {7 * LENGTH_ROOM} bits of length, was {length} bytes")
    for i in range(LENGTH_ROOM):
        writer.data[begin - LENGTH_ROOM + i] = (length & 0x7F) | (0x80 if i < LENGTH_ROOM - 1 else 0)
        length >>= 7
    return 0


def read_fields(const unsigned char[::1] message not None):
    """The top-level fields of an encoded message, in order: (number, wire type, value).

    The value is the raw bits of a varint, fixed32 or fixed64 as int, and the bytes of a
    length-delimited field. ValueError when the bytes are no protobuf message.
    """
    cdef Cursor cursor
    cdef Field field
    cdef list fields = []
    if message.shape[0] == 0:
        return fields
    cursor = cursor_of(&message[0], message.shape[0])
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.wire_type == WIRE_LENGTH:
            fields.append((field.number, field.wire_type, (<const char*>field.data)[:field.length]))
        else:
            fields.append((field.number, field.wire_type, field.value))
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"message")
    return fields


def write_fields(fields):
    """The inverse of `read_fields`; ValueError for a wire type that is not 0, 1, 2 or 5."""
    cdef Writer writer
    cdef uint32_t number
    cdef uint64_t bits
    cdef bytes data
    writer_init(&writer, 256)
    try:
        for number, wire_type, value in fields:
            if not 0 < number < 2**29:
                raise ValueError(f"expected a field number of 1 to 536870911, was {number}")
            if wire_type == WIRE_LENGTH:
                data = value
                write_length_field(&writer, number, <const char*>data, len(data))
                continue
            bits = value
            if wire_type == WIRE_VARINT:
                write_varint_field(&writer, number, bits)
            elif wire_type == WIRE_FIXED64:
                write_fixed64_field(&writer, number, bits)
            elif wire_type == WIRE_FIXED32:
                if bits > 0xFFFFFFFF:
                    raise ValueError(f"expected a fixed32 below 2**32, was {bits}")
                write_fixed32_field(&writer, number, <uint32_t>bits)
            else:
                raise ValueError(f"expected wire type 0, 1, 2 or 5, was {wire_type}")
        return writer_bytes(&writer)
    finally:
        writer_free(&writer)
