# The best k of many rows, in order. Rows carry keys of which the smaller is the
# better (never NaN; see Order.evaluate), and no two rows are equal: the last key
# is the place of the symbol in ascending order.

from libc.stdint cimport int32_t, uint32_t

cdef struct Candidate:
    double key              # its first key
    uint32_t place          # of its symbol
    int32_t index           # which of the candidates it is

# The keys behind the first, looked at when the first are equal:
# keys[k * stride + index] is key k of a candidate.
cdef struct LaterKeys:
    const double* keys
    Py_ssize_t stride
    int count               # of all keys, the first included


cdef void sort_top(Candidate* rows, Py_ssize_t count, Py_ssize_t k, const LaterKeys* later) noexcept nogil
