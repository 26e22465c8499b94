# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Protobuf's wire format: the parts of wire.pxd that raise or allocate, and what services need of it to pass encoded
messages on without decoding them: which field a wrapper holds, where its bytes are, and how to put encoded bytes into
a wrapper of their own.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.stdlib cimport free, malloc, realloc

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX


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


cdef bytes writer_field(const Writer* writer, uint32_t number):
    """A Python copy of what was written, as the length-delimited field `number` of an enclosing message."""
    cdef unsigned char[2 * MOST_VARINT] head
    cdef size_t head_size = put_varint(put_varint(head, (<uint64_t>number << 3) | WIRE_LENGTH), writer.size) - head
    cdef bytes field = PyBytes_FromStringAndSize(NULL, head_size + writer.size)
    memcpy(PyBytes_AS_STRING(field), head, head_size)
    memcpy(PyBytes_AS_STRING(field) + head_size, writer.data, writer.size)
    return field


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


def read_varint(data, Py_ssize_t index):
    """The varint at `index` of a buffer, and the index after it; ValueError when it is cut off or over 64 bits."""
    cdef Py_buffer view
    cdef Cursor cursor
    cdef uint64_t value = 0
    cdef int status
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        if not 0 <= index <= view.len:
            raise ValueError(f"expected an index of 0 to {view.len}, was {index}")
        cursor.pos = <bytes_ptr>view.buf + index
        cursor.end = <bytes_ptr>view.buf + view.len
        status = take_varint(&cursor, &value)
        if status == WIRE_TRUNCATED:
            raise ValueError(f"expected a whole varint, the message ends at byte {view.len}")
        if status != WIRE_FIELD:
            raise ValueError(f"expected a varint of at most 64 bits at byte {index}")
        return value, cursor.pos - <bytes_ptr>view.buf
    finally:
        PyBuffer_Release(&view)


cdef bytes _head(uint32_t number, uint64_t length):
    cdef unsigned char[2 * MOST_VARINT] head
    cdef unsigned char* end = put_varint(put_varint(head, (<uint64_t>number << 3) | WIRE_LENGTH), length)
    return PyBytes_FromStringAndSize(<const char*>head, end - head)


def field_head(uint32_t number, uint64_t length):
    """The tag and length before the content of the length-delimited field `number`, which has `length` bytes."""
    return _head(number, length)


def wrap(uint32_t number, *pieces):
    """The length-delimited field `number` of an enclosing message, whose content are these buffers in their order."""
    cdef uint64_t length = 0
    cdef object piece
    for piece in pieces:
        length += len(piece)
    return b"".join((_head(number, length), *pieces))


def fields(data, Py_ssize_t most=PY_SSIZE_T_MAX):
    """The top-level fields of an encoded message, a buffer, or the first `most` of them: list of (number, first byte,
    first byte of its payload, the byte after it).

    Of varints and fixed-width fields the payload is the encoded value. ValueError when the bytes are no protobuf
    message.
    """
    cdef Py_buffer view
    cdef Cursor cursor
    cdef Field field
    cdef bytes_ptr start
    cdef bytes_ptr first
    cdef bytes_ptr payload
    cdef list found = []
    cdef int status
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        start = <bytes_ptr>view.buf
        cursor = cursor_of(start, view.len)
        first = cursor.pos
        status = next_field(&cursor, &field)
        while status == WIRE_FIELD and len(found) < most:
            if field.wire_type == WIRE_LENGTH:
                payload = field.data
            elif field.wire_type == WIRE_VARINT:
                payload = _after_varint(first)
            else:
                payload = cursor.pos - (8 if field.wire_type == WIRE_FIXED64 else 4)
            found.append((field.number, first - start, payload - start, cursor.pos - start))
            first = cursor.pos
            status = next_field(&cursor, &field)
        if status < 0 and len(found) < most:
            raise_wire_error(status, b"message")
        return found
    finally:
        PyBuffer_Release(&view)


cdef inline bytes_ptr _after_varint(bytes_ptr pos) noexcept nogil:
    """The place behind a varint that has been read before."""
    while pos[0] & 0x80:
        pos += 1
    return pos + 1


def only_field(data):
    """The number and the payload of the only field of a wrapper, whose content is one of several messages.

    ValueError when it holds anything else.
    """
    cdef Py_buffer view
    cdef Cursor cursor
    cdef Field field
    cdef Py_ssize_t begin
    cdef int status
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    # A compiler cannot see that raise_wire_error() always raises.
    field.number = field.wire_type = 0
    try:
        cursor = cursor_of(<bytes_ptr>view.buf, view.len)
        status = next_field(&cursor, &field)
        if status < 0:
            raise_wire_error(status, b"wrapper")
        if status == WIRE_END:
            raise ValueError("expected a wrapped message, was an empty message")
        if field.wire_type != WIRE_LENGTH:
            raise ValueError(f"expected a wrapped message (wire type 2), was wire type {field.wire_type}")
        if cursor.pos != cursor.end:
            raise ValueError(f"expected field {field.number} alone, {cursor.end - cursor.pos} more bytes follow it")
        begin = field.data - <bytes_ptr>view.buf
    finally:
        PyBuffer_Release(&view)
    whole = PyMemoryView_FromObject(data)
    return field.number, (whole if whole.itemsize == 1 else whole.cast("B"))[begin:]


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
