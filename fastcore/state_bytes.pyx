# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The state's own bytes."""

from libc.stdint cimport uint64_t
from libc.string cimport memcpy


cdef int raise_short(size_t wanted, size_t left) except -1:
    raise ValueError(f"state: expected {wanted} more bytes, was {left}")


cdef uint64_t mixed(uint64_t seed, const void* data, size_t length) noexcept nogil:
    """`seed` with the bytes and their number stirred in, eight at a time."""
    cdef const unsigned char* pos = <const unsigned char*>data
    cdef uint64_t word
    cdef size_t left = length
    cdef uint64_t value = seed ^ (length * <uint64_t>0x9E3779B97F4A7C15)
    while left > 0:
        word = 0
        memcpy(&word, pos, min(left, <size_t>8))
        value = (value ^ word) * <uint64_t>0xFF51AFD7ED558CCD
        value ^= value >> 32
        pos += min(left, <size_t>8)
        left -= min(left, <size_t>8)
    return value
