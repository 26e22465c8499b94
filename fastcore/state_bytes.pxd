# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Reading and writing of the state's own bytes: plain blocks, every read checked.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from fastcore.wire cimport Cursor, Writer, reserve, write_raw


cdef inline int write_block(Writer* writer, const void* data, size_t size) except -1 nogil:
    return write_raw(writer, data, size)


cdef int raise_short(size_t wanted, size_t left) except -1


cdef inline int read_block(Cursor* cursor, void* data, size_t size) except -1:
    """ValueError when there are fewer bytes left."""
    if <size_t>(cursor.end - cursor.pos) < size:
        raise_short(size, cursor.end - cursor.pos)
    memcpy(data, cursor.pos, size)
    cursor.pos += size
    return 0


# `seed` with the bytes stirred in: what hashes are made of.
cdef uint64_t mixed(uint64_t seed, const void* data, size_t length) noexcept nogil
