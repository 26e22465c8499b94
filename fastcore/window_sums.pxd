# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# What the windows of a symbol come to, kept up as buckets enter and leave them.
#
# When all windows move, what leaves is taken out of what was added up before: a few buckets of
# each symbol are read, not half an hour of them. So that taking out undoes adding to the last bit,
# and a copy that has added up everything anew has the same sums, a bucket's shares and dollars
# count in whole billionths, more decimals than the vendor sends of a share.

from libc.stdint cimport int32_t, int64_t

from fastcore.chains cimport ChunkPool, Place
from fastcore.windows cimport ALL_SUMMED, RANGE_WINDOWS, SHORT_WINDOWS, WINDOWS, Window

cdef extern from *:
    """
    #include <math.h>
    #include <stdint.h>

    /* A trade of the greatest price and size that are admitted has 1e28 of them, which leaves room for 1e10 such. */
    typedef __int128 tradeul_billionths;

    static inline tradeul_billionths tradeul_to_billionths(double value)
    {
        double scaled = value * 1e9;
        if (fabs(scaled) < 9e18)
            return llrint(scaled);
        /* Beyond lies only what no state has written. */
        return fabs(scaled) < 1e35 ? (tradeul_billionths)scaled : 0;
    }

    static inline double tradeul_of_billionths(tradeul_billionths sum)
    {
        /* Of most sums the processor converts 64 bits itself. */
        int64_t low = (int64_t)sum;
        return (low == sum ? (double)low : (double)sum) / 1e9;
    }
    """
    ctypedef long long Billionths "tradeul_billionths"
    Billionths billionths "tradeul_to_billionths"(double value) noexcept nogil
    double of_billionths "tradeul_of_billionths"(Billionths sum) noexcept nogil


# Of all buckets but the newest, while that is of the last minute: a trade changes nothing of it as long as
# it is of the same 10 seconds as the one before.
cdef struct OlderSums:
    Billionths[WINDOWS] volume
    Billionths[SHORT_WINDOWS] dollars
    double[WINDOWS] before          # the last price before each window, NaN without one
    double[SHORT_WINDOWS] trades
    # 0 without a trade, -inf and inf without a price.
    double[SHORT_WINDOWS] largest
    double[RANGE_WINDOWS] high
    double[RANGE_WINDOWS] low
    # The first bucket of each window, which is the newest of all where no older one is in it.
    Place[WINDOWS] begin
    int32_t[WINDOWS] begin_number
    int64_t number                  # of the bucket of now
    # The bucket of now from which on the windows are others although nothing has come: until then a bucket of now
    # makes no difference. Of all buckets, the newest as well.
    int64_t until


# Adds up the window, of which `bars`, if not NULL, stand in for trades: all buckets, or all but the newest, which
# is then of the last minute. Sets all but `number`.
cdef void sum_windows(
    const ChunkPool* pool, const Window* window, const Window* bars, bint without_newest, int64_t grid,
    OlderSums* older
) noexcept nogil
# What bring_older() does where something has changed.
cdef void update_older(const ChunkPool* pool, Window* window, int64_t grid, OlderSums* older) noexcept nogil
# Asks for the lines of the buckets that leave windows.
cdef void fetch_leaving(const ChunkPool* pool, const OlderSums* older) noexcept nogil


cdef inline void bring_older(const ChunkPool* pool, Window* window, int64_t grid, OlderSums* older) noexcept nogil:
    """Brings the sums of all buckets but the newest, which is of the last minute, to the bucket of now."""
    if window.summed != ALL_SUMMED or not older.number <= grid < older.until:
        update_older(pool, window, grid, older)
