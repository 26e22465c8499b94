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


# Writes the indices of the best k of all rows, in order; how many there are. `members`
# are expected to be nearly in order already, as they are when they were ranked a short while
# ago; the order of `others` does not matter. Both are left in another order.
cdef int32_t best_rows(
    Candidate* members, Py_ssize_t member_count, Candidate* others, Py_ssize_t other_count, Py_ssize_t k,
    const LaterKeys* later, int32_t* best,
) noexcept nogil
