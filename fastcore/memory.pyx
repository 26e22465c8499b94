# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Arrays and blocks that grow."""

from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset


cdef int grow_array(void** data, size_t count, size_t width) except -1:
    cdef void* larger = realloc(data[0], count * width)
    if larger == NULL:
        raise MemoryError(f"no memory for {count} rows")
    data[0] = larger
    return 0


cdef int grow_zeroed(void** data, size_t old, size_t size) except -1:
    grow_array(data, size, 1)
    memset(<char*>data[0] + old, 0, size - old)
    return 0


cdef int grow_block(void** data, size_t old, size_t size) except -1:
    cdef void* larger = aligned_block(size)
    if larger == NULL:
        raise MemoryError(f"no memory for {size} bytes of rows")
    if old:
        memcpy(larger, data[0], old)
    free(data[0])
    data[0] = larger
    return 0
