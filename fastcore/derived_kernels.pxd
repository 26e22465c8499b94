# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# How derived columns follow now: of one row, and loops over all symbols. The loops are plain
# so that the C compiler vectorises them, and compute before they choose, which
# lets it do so with divisions; the bits are the same as of one row.

from libc.stdint cimport int32_t, int64_t

cimport fastcore.wide_registers

cdef extern from *:
    """
    #include <stdint.h>
    #include <math.h>

    /* Adding and taking away 1.5 x 2**52 rounds a double below 2**51 to the nearest integer, ties to even. */
    static inline double tradeul_round6(double value)
    {
        double scaled = value * 1e6;
        double rounded = ((scaled + 6755399441055744.0) - 6755399441055744.0) / 1e6;
        return fabs(scaled) < 2251799813685248.0 ? rounded : value;
    }

    /* The same up to 2**53 millionths; beyond, doubles are too coarse for a seventh decimal. */
    static inline double tradeul_shown6(double value)
    {
        double scaled = value * 1e6;
        return fabs(scaled) < 9007199254740992.0 ? rint(scaled) / 1e6 : value;
    }

    /* A straight line from begin to finish, `inside` (0 to 1) of the way. */
    static inline double tradeul_on_line(double begin, double finish, double inside)
    {
        double between = begin + (finish - begin) * inside;
        return inside == 1 ? finish : between;
    }

    static inline double tradeul_ratio6(double value, double base)
    {
        double ratio = tradeul_round6(value / base);
        return base > 0 ? ratio : NAN;
    }

    /* Shares against what is usual between two times. */
    static inline double tradeul_between6(double shares, double usual_at_begin, double usual_at_end)
    {
        double usual = usual_at_end - usual_at_begin;
        double ratio = tradeul_round6(shares / usual);
        return usual > 0 ? ratio : NAN;
    }

    static inline double tradeul_z6(double value, double mean, double sd)
    {
        double z = tradeul_round6((value - mean) / sd);
        return sd > 0 ? z : NAN;
    }

    static inline double tradeul_score6(double rvol, double volume_ratio)
    {
        double r = rvol == rvol ? rvol : 0;
        double v = volume_ratio == volume_ratio ? volume_ratio : 0;
        double sum = tradeul_round6(10 * r + 5 * v);
        return ((rvol == rvol) | (volume_ratio == volume_ratio)) ? sum : NAN;
    }

    /* In whole nanoseconds first: a double is too coarse for the times themselves. An update ahead of now is now. */
    static inline double tradeul_seconds(int64_t now_ns, int64_t updated_at)
    {
        double seconds = (double)(now_ns > updated_at ? now_ns - updated_at : 0) / 1e9;
        return updated_at >= 0 ? seconds : NAN;
    }

    TRADEUL_WIDE static void tradeul_rvol(
        const double *restrict volume, const double *restrict begin, const double *restrict finish, double inside,
        double *restrict rvol, double *restrict rvol_slot, int32_t n)
    {
        for (int32_t i = 0; i < n; i++) {
            rvol[i] = tradeul_ratio6(volume[i], tradeul_on_line(begin[i], finish[i], inside));
            rvol_slot[i] = tradeul_ratio6(volume[i], finish[i]);
        }
    }

    TRADEUL_WIDE static void tradeul_between(
        const double *restrict shares, const double *restrict mark_begin, const double *restrict mark_finish,
        double mark_inside, const double *restrict begin, const double *restrict finish, double inside,
        double *restrict ratio, int32_t n)
    {
        for (int32_t i = 0; i < n; i++) {
            ratio[i] = tradeul_between6(
                shares[i], tradeul_on_line(mark_begin[i], mark_finish[i], mark_inside),
                tradeul_on_line(begin[i], finish[i], inside));
        }
    }

    TRADEUL_WIDE static void tradeul_z_score(
        const double *restrict trades, const double *restrict begin, const double *restrict finish,
        const double *restrict sd_begin, const double *restrict sd_finish, double inside,
        double *restrict z_score, int32_t n)
    {
        for (int32_t i = 0; i < n; i++) {
            double mean = tradeul_on_line(begin[i], finish[i], inside);
            z_score[i] = tradeul_z6(trades[i], mean, tradeul_on_line(sd_begin[i], sd_finish[i], inside));
        }
    }

    TRADEUL_WIDE static void tradeul_score(
        const double *restrict rvol, const double *restrict volume_ratio, double *restrict score, int32_t n)
    {
        for (int32_t i = 0; i < n; i++) {
            score[i] = tradeul_score6(rvol[i], volume_ratio[i]);
        }
    }

    TRADEUL_WIDE static void tradeul_age(
        int64_t now_ns, const int64_t *restrict updated_at, double *restrict age, int32_t n)
    {
        for (int32_t i = 0; i < n; i++) {
            age[i] = tradeul_seconds(now_ns, updated_at[i]);
        }
    }
    """
    double round6 "tradeul_round6"(double value) noexcept nogil
    # What is stored exactly, as it is shown: to 6 decimals.
    double shown6 "tradeul_shown6"(double value) noexcept nogil
    # What the loops below compute, of one row.
    double on_line "tradeul_on_line"(double begin, double finish, double inside) noexcept nogil
    double ratio6 "tradeul_ratio6"(double value, double base) noexcept nogil
    double between6 "tradeul_between6"(double shares, double usual_at_begin, double usual_at_end) noexcept nogil
    double z6 "tradeul_z6"(double value, double mean, double sd) noexcept nogil
    double score6 "tradeul_score6"(double rvol, double volume_ratio) noexcept nogil
    double seconds_since "tradeul_seconds"(int64_t now_ns, int64_t updated_at) noexcept nogil
    # Volume against the straight line from begin to finish, `inside` (0 to 1) of the way; and against finish.
    void rvol_of "tradeul_rvol"(
        const double* volume, const double* begin, const double* finish, double inside, double* rvol,
        double* rvol_slot, int32_t n
    ) noexcept nogil
    # The shares of a window against two straight lines, that of its mark and that of now.
    void between_of "tradeul_between"(
        const double* shares, const double* mark_begin, const double* mark_finish, double mark_inside,
        const double* begin, const double* finish, double inside, double* ratio, int32_t n
    ) noexcept nogil
    void z_score_of "tradeul_z_score"(
        const double* trades, const double* begin, const double* finish, const double* sd_begin,
        const double* sd_finish, double inside, double* z_score, int32_t n
    ) noexcept nogil
    void score_of "tradeul_score"(
        const double* rvol, const double* volume_ratio, double* score, int32_t n
    ) noexcept nogil
    # Seconds from updated_at (ns, negative for never) to now.
    void age_of "tradeul_age"(int64_t now_ns, const int64_t* updated_at, double* age, int32_t n) noexcept nogil
