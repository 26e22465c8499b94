# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# The loops of filters.pyx over one block of rows. They are plain so that the C
# compiler vectorises them. Absent is NaN: no comparison with it holds. A result
# that is not finite (x / 0, overflow) is absent: adding r - r makes NaN of it.

from libc.math cimport fabs
from libc.stdint cimport int32_t, uint8_t

cimport fastcore.wide_registers

# Comparisons are what nearly all of a filter's time goes into: three times faster with wide registers.
cdef extern from *:
    """
    #include <stdint.h>
    #include <stdlib.h>

    /* `holds` is in terms of x[i] and b; b is a constant or y[i]. */
    #define TRADEUL_LOOP(holds) for (int32_t i = 0; i < n; i++) out[i] = (uint8_t)(holds); break
    #define TRADEUL_COMPARE(b) \\
        switch (relation) { \\
        case 0: TRADEUL_LOOP(x[i] == b); \\
        case 1: TRADEUL_LOOP((x[i] < b) | (x[i] > b)); \\
        case 2: TRADEUL_LOOP(x[i] < b); \\
        case 3: TRADEUL_LOOP(x[i] <= b); \\
        case 4: TRADEUL_LOOP(x[i] > b); \\
        default: TRADEUL_LOOP(x[i] >= b); \\
        }

    TRADEUL_WIDE static void tradeul_compare_constant(
        int relation, const double *restrict x, double c, uint8_t *restrict out, int32_t n)
    {
        TRADEUL_COMPARE(c)
    }

    TRADEUL_WIDE static void tradeul_compare(
        int relation, const double *restrict x, const double *restrict y, uint8_t *restrict out, int32_t n)
    {
        TRADEUL_COMPARE(y[i])
    }
    """
    # `relation` as in filter_program.py: 0 =, 1 != (both there), 2 <, 3 <=, 4 >, 5 >=.
    void compare_constant "tradeul_compare_constant"(
        int relation, const double* x, double c, uint8_t* out, int32_t n
    ) noexcept nogil
    void compare "tradeul_compare"(
        int relation, const double* x, const double* y, uint8_t* out, int32_t n
    ) noexcept nogil

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
    bint negated, const int32_t* ids, int32_t first, const int32_t* wanted, int count, uint8_t* out, int32_t n
) noexcept nogil:
    # Row i is symbol ids[first + i], or first + i itself.
    cdef int32_t i
    cdef int k
    for i in range(n):
        out[i] = negated
    if ids != NULL:
        for k in range(count):
            for i in range(n):
                if ids[first + i] == wanted[k]:
                    out[i] = not negated
        return
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

cdef inline void fill(double value, double* out, int32_t n) noexcept nogil:
    cdef int32_t i
    for i in range(n):
        out[i] = value

cdef inline void mask_and(const uint8_t* x, uint8_t* out, int32_t n) noexcept nogil:
    cdef int32_t i
    for i in range(n):
        out[i] &= x[i]

cdef inline void mask_or(const uint8_t* x, uint8_t* out, int32_t n) noexcept nogil:
    cdef int32_t i
    for i in range(n):
        out[i] |= x[i]
