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


cdef size_t reserved(size_t size) noexcept nogil:
    """Bytes that there are addresses for in a block of `size` bytes."""
    return size if size < HUGE_PAGE else (size + RESERVED - 1) // RESERVED * RESERVED


cdef int grow_block(void** data, size_t old, size_t size) except -1:
    cdef void* larger
    if size <= reserved(old):
        return 0
    larger = aligned_block(reserved(size))
    if larger == NULL:
        raise MemoryError(f"no memory for {size} bytes of rows")
    if old:
        memcpy(larger, data[0], old)
    free(data[0])
    data[0] = larger
    return 0
