# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Texts as numbers, in the order in which they came: the same codes in every copy."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int32_t, int64_t

from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Field, Writer


cdef class TextPool:
    """Texts are never taken out: they are names, of which there are few new ones a day."""

    def __cinit__(self):
        self.codes = {"": 0}
        self.texts = [""]
        self.encoded = [b""]

    cdef int32_t code_of(self, str text) except -2:
        return self.codes.get(text, -1)

    cdef int32_t add(self, str text) except -1:
        code = self.codes.get(text)
        if code is None:
            code = len(self.texts)
            encoded = text.encode()
            self.codes[text] = code
            self.texts.append(text)
            self.encoded.append(encoded)
        return code

    cdef int write(self, Writer* writer) except -1:
        cdef int64_t count = len(self.encoded) - 1
        cdef bytes encoded
        write_block(writer, &count, sizeof(int64_t))
        for encoded in self.encoded[1:]:
            write_text(writer, encoded)
        return 0

    cdef int read(self, Cursor* cursor) except -1:
        """Takes over what write() wrote; ValueError when it cannot be that."""
        cdef int64_t count, i
        read_block(cursor, &count, sizeof(int64_t))
        if not 0 <= count <= (cursor.end - cursor.pos) // <int64_t>sizeof(int64_t):
            raise ValueError(f"state: expected {count} texts, the bytes end before")
        for i in range(count):
            text = read_text(cursor)
            if self.add(text) != i + 1:
                raise ValueError(f"state: expected texts that differ, was {text!r} twice or empty")
        return 0


cdef str decoded(const Field* field, str what):
    try:
        return (<const char*>field.data)[:field.length].decode()
    except UnicodeDecodeError:
        raise ValueError(f"{what}: expected UTF-8, was {(<const char*>field.data)[:field.length]!r}") from None


cdef int write_text(Writer* writer, bytes encoded) except -1:
    cdef int64_t length = PyBytes_GET_SIZE(encoded)
    write_block(writer, &length, sizeof(int64_t))
    write_block(writer, PyBytes_AS_STRING(encoded), length)
    return 0


cdef bytes read_bytes(Cursor* cursor):
    cdef int64_t length
    cdef bytes found
    read_block(cursor, &length, sizeof(int64_t))
    if not 0 <= length <= cursor.end - cursor.pos:
        raise ValueError(f"state: expected a text of {length} bytes, the bytes end before")
    found = (<const char*>cursor.pos)[:length]
    cursor.pos += length
    return found


cdef str read_text(Cursor* cursor):
    cdef bytes encoded = read_bytes(cursor)
    cdef Field field
    field.data = <const unsigned char*>PyBytes_AS_STRING(encoded)
    field.length = PyBytes_GET_SIZE(encoded)
    return decoded(&field, "state")
