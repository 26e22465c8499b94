# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# The loops of alert_words.pyx over one block of rows. They choose without branches so that the C compiler
# vectorises them; what a word remembers of the rows is side by side then. Absent is NaN.

from libc.stdint cimport int32_t, uint8_t

cimport fastcore.wide_registers

cdef extern from *:
    """
    #include <math.h>
    #include <stdint.h>

    /* States as in alert_words.pxd: 1 was false, 2 was true. */
    TRADEUL_WIDE static int tradeul_change(
        const uint8_t *restrict is_true, const uint8_t *restrict is_false, uint8_t before_event, uint8_t is_rise,
        const uint8_t *restrict before, uint8_t *restrict after, uint8_t *restrict mask, int32_t n)
    {
        const uint8_t *restrict now = is_rise ? is_true : is_false;
        uint8_t event = 0, change = 0;
        for (int32_t i = 0; i < n; i++) {
            uint8_t state = is_true[i] ? 2 : is_false[i] ? 1 : before[i];
            mask[i] = now[i] & (before[i] == before_event);
            after[i] = state;
            event |= mask[i];
            change |= state ^ before[i];
        }
        return event | (change ? 2 : 0);
    }

    /* `sign` -1 looks from the other side; `extreme` is how far a went since the last watermark, or NaN. */
    TRADEUL_WIDE static int tradeul_cross(
        const double *restrict a, const double *restrict b, const double *restrict extreme, double sign,
        const uint8_t *restrict before, uint8_t *restrict after, uint8_t *restrict mask, int32_t n)
    {
        uint8_t event = 0, change = 0;
        for (int32_t i = 0; i < n; i++) {
            uint8_t is_beyond = sign * a[i] > sign * b[i];
            uint8_t is_known = (a[i] == a[i]) & (b[i] == b[i]);
            uint8_t went_beyond = sign * extreme[i] > sign * b[i];
            uint8_t state = is_known ? (uint8_t)(1 + is_beyond) : before[i];
            mask[i] = is_known & (before[i] == 1) & (is_beyond | went_beyond);
            after[i] = state;
            event |= mask[i];
            change |= state ^ before[i];
        }
        return event | (change ? 2 : 0);
    }

    /* Where a step above the greatest may have been reached: not before x is `size` further. NaN: nothing known. */
    TRADEUL_WIDE static int tradeul_step(
        const double *restrict x, double begin, double size, double almost, const double *restrict greatest,
        uint8_t *restrict may, int32_t n)
    {
        uint8_t any = 0;
        for (int32_t i = 0; i < n; i++) {
            double steps = (x[i] - begin) / size + almost;
            may[i] = (x[i] == x[i]) & !(steps < greatest[i] + 1);
            any |= may[i];
        }
        return any;
    }

    TRADEUL_WIDE static int tradeul_any(const uint8_t *restrict mask, int32_t n)
    {
        uint8_t any = 0;
        for (int32_t i = 0; i < n; i++)
            any |= mask[i];
        return any;
    }
    """
    # Return bit 0 when the word is true of some row, bit 1 when a state is another one than before.
    int change_states "tradeul_change"(
        const uint8_t* is_true, const uint8_t* is_false, uint8_t before_event, uint8_t is_rise,
        const uint8_t* before, uint8_t* after, uint8_t* mask, int32_t n
    ) noexcept nogil
    int cross_states "tradeul_cross"(
        const double* a, const double* b, const double* extreme, double sign,
        const uint8_t* before, uint8_t* after, uint8_t* mask, int32_t n
    ) noexcept nogil
    # Return whether any is.
    bint may_step "tradeul_step"(
        const double* x, double begin, double size, double almost, const double* greatest, uint8_t* may, int32_t n
    ) noexcept nogil
    bint any_of "tradeul_any"(const uint8_t* mask, int32_t n) noexcept nogil
