# The loops of filters.pyx over one block of rows. They are plain so that the C
# compiler vectorises them. Absent is NaN: no comparison with it holds. A result
# that is not finite (x / 0, overflow) is absent: adding r - r makes NaN of it.

from libc.math cimport fabs
from libc.stdint cimport int32_t, uint8_t

# Relation of filter_program.py.
cdef enum:
    EQUAL = 0
    NOT_EQUAL = 1
    LESS = 2
    LESS_EQUAL = 3
    GREATER = 4
    GREATER_EQUAL = 5

cdef inline void compare_constant(
    int relation, const double* x, double c, uint8_t* out, int32_t n
) noexcept nogil:
    cdef int32_t i
    if relation == EQUAL:
        for i in range(n):
            out[i] = x[i] == c
    elif relation == NOT_EQUAL:
        for i in range(n):
            out[i] = (x[i] < c) | (x[i] > c)
    elif relation == LESS:
        for i in range(n):
            out[i] = x[i] < c
    elif relation == LESS_EQUAL:
        for i in range(n):
            out[i] = x[i] <= c
    elif relation == GREATER:
        for i in range(n):
            out[i] = x[i] > c
    else:
        for i in range(n):
            out[i] = x[i] >= c

cdef inline void compare(
    int relation, const double* x, const double* y, uint8_t* out, int32_t n
) noexcept nogil:
    cdef int32_t i
    if relation == EQUAL:
        for i in range(n):
            out[i] = x[i] == y[i]
    elif relation == NOT_EQUAL:
        for i in range(n):
            out[i] = (x[i] < y[i]) | (x[i] > y[i])
    elif relation == LESS:
        for i in range(n):
            out[i] = x[i] < y[i]
    elif relation == LESS_EQUAL:
        for i in range(n):
            out[i] = x[i] <= y[i]
    elif relation == GREATER:
        for i in range(n):
            out[i] = x[i] > y[i]
    else:
        for i in range(n):
            out[i] = x[i] >= y[i]

cdef inline void has_number(bint negated, const double* x, uint8_t* out, int32_t n) noexcept nogil:
    cdef int32_t i
    if negated:
        for i in range(n):
            out[i] = x[i] != x[i]
    else:
        for i in range(n):
            out[i] = x[i] == x[i]

cdef inline void has_text(bint negated, const int32_t* x, uint8_t* out, int32_t n) noexcept nogil:
    cdef int32_t i
    for i in range(n):
        out[i] = (x[i] == 0) == negated

cdef inline void in_numbers(
    bint negated, const double* x, const double* wanted, int count, uint8_t* out, int32_t n
) noexcept nogil:
    cdef int32_t i
    cdef int k
    cdef double c
    for i in range(n):
        out[i] = 0
    for k in range(count):
        c = wanted[k]
        for i in range(n):
            out[i] |= x[i] == c
    if negated:
        for i in range(n):
            out[i] = (x[i] == x[i]) & (out[i] ^ 1)

cdef inline void in_texts(
    bint negated, const int32_t* x, const int32_t* wanted, int count, uint8_t* out, int32_t n
) noexcept nogil:
    cdef int32_t i, code
    cdef int k
    for i in range(n):
        out[i] = 0
    for k in range(count):
        code = wanted[k]
        for i in range(n):
            out[i] |= x[i] == code
    if negated:
        for i in range(n):
            out[i] = (x[i] != 0) & (out[i] ^ 1)

cdef inline void same_text(
    bint negated, const int32_t* x, const int32_t* y, uint8_t* out, int32_t n
) noexcept nogil:
    cdef int32_t i
    for i in range(n):
        out[i] = (x[i] != 0) & (y[i] != 0) & ((x[i] == y[i]) != negated)

cdef inline void in_symbols(
    bint negated, int32_t first, const int32_t* wanted, int count, uint8_t* out, int32_t n
) noexcept nogil:
    # Row i is symbol first + i.
    cdef int32_t i
    cdef int k
    for i in range(n):
        out[i] = negated
    for k in range(count):
        if first <= wanted[k] < first + n:
            out[wanted[k] - first] = not negated

cdef inline void add(const double* x, const double* y, double* out, int32_t n) noexcept nogil:
    cdef int32_t i
    cdef double r
    for i in range(n):
        r = x[i] + y[i]
        out[i] = r + (r - r)

cdef inline void subtract(const double* x, const double* y, double* out, int32_t n) noexcept nogil:
    cdef int32_t i
    cdef double r
    for i in range(n):
        r = x[i] - y[i]
        out[i] = r + (r - r)

cdef inline void multiply(const double* x, const double* y, double* out, int32_t n) noexcept nogil:
    cdef int32_t i
    cdef double r
    for i in range(n):
        r = x[i] * y[i]
        out[i] = r + (r - r)

cdef inline void divide(const double* x, const double* y, double* out, int32_t n) noexcept nogil:
    cdef int32_t i
    cdef double r
    for i in range(n):
        r = x[i] / y[i]
        out[i] = r + (r - r)

cdef inline void least(const double* x, const double* y, double* out, int32_t n) noexcept nogil:
    cdef int32_t i
    cdef double r
    for i in range(n):
        r = x[i] if x[i] < y[i] else y[i]
        out[i] = r + (x[i] - x[i])

cdef inline void greatest(const double* x, const double* y, double* out, int32_t n) noexcept nogil:
    cdef int32_t i
    cdef double r
    for i in range(n):
        r = x[i] if x[i] > y[i] else y[i]
        out[i] = r + (x[i] - x[i])

cdef inline void absolute(const double* x, double* out, int32_t n) noexcept nogil:
    cdef int32_t i
    for i in range(n):
        out[i] = fabs(x[i])

cdef inline void negate(const double* x, double* out, int32_t n) noexcept nogil:
    cdef int32_t i
    for i in range(n):
        out[i] = -x[i]

cdef inline void gather(const double* x, const int32_t* ids, double* out, int32_t n) noexcept nogil:
    cdef int32_t i
    for i in range(n):
        out[i] = x[ids[i]]
