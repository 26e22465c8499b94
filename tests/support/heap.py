"""How much the C library has given out."""

import ctypes

import pytest


class Mallinfo2(ctypes.Structure):
    """What glibc's mallinfo2() returns."""

    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks used".split()]
    _fields_ += [("free", ctypes.c_size_t), ("keepcost", ctypes.c_size_t)]


def used_bytes() -> int:
    """The bytes in use, without those of the largest blocks; skips the test where the C library cannot say it."""
    try:
        mallinfo2 = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        pytest.skip("the C library has no mallinfo2()")
    mallinfo2.restype = Mallinfo2
    return int(mallinfo2().used)
