"""The state's own bytes."""


cdef int raise_short(size_t wanted, size_t left) except -1:
    raise ValueError(f"state: expected {wanted} more bytes, was {left}")
