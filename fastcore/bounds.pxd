# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Bounds of an event's values, for the feed's decoder before it gives a new symbol an id, and for the sequencer before
# it admits the event. Times are the sequencer's to judge.

from libc.math cimport isnan
from libc.stdint cimport int64_t, uint64_t

from fastcore.trade_rules cimport COND_OFFICIAL

# Why a row is set aside; ACCEPTED is not a reason. The numbers are the order in which they are checked.
cdef enum:
    ACCEPTED = 0
    UNKNOWN_SYMBOL = 1
    TIME_OUT_OF_SESSION = 2
    TIME_AHEAD = 3
    PRICE = 4
    SIZE = 5
    BAR_SHAPE = 6
    DUPLICATE = 7
    VERDICTS = 8

cdef struct BarValues:
    int64_t start_ns
    int64_t end_ns
    double open
    double high
    double low
    double close
    double volume
    double accumulated_volume
    double day_vwap
    double official_open
    double vwap
    double average_size


cdef inline uint64_t HOUR_NS() noexcept nogil:
    return <uint64_t>3600 * 1_000_000_000


cdef inline bint is_price(double value) noexcept nogil:
    return value > 0 and value < 1e7


cdef inline bint is_size(double value) noexcept nogil:
    return value > 0 and value < 1e12


cdef inline bint is_price_or_none(double value) noexcept nogil:
    """0 is how the vendor writes "none" in fields that need not be there."""
    return isnan(value) or (value >= 0 and value < 1e7)


cdef inline bint is_size_or_none(double value) noexcept nogil:
    return isnan(value) or (value >= 0 and value < 1e12)


cdef inline int judge_trade(double price, double size, uint64_t conditions) noexcept nogil:
    if not is_price(price):
        return PRICE
    if not is_size(size) and not (size == 0 and conditions & COND_OFFICIAL()):
        return SIZE
    return ACCEPTED


cdef inline int judge_bar(const BarValues* bar) noexcept nogil:
    if not (
        is_price(bar.open) and is_price(bar.high) and is_price(bar.low) and is_price(bar.close)
        and is_price_or_none(bar.day_vwap) and is_price_or_none(bar.official_open) and is_price_or_none(bar.vwap)
    ):
        return PRICE
    if not (is_size(bar.volume) and is_size_or_none(bar.accumulated_volume) and is_size_or_none(bar.average_size)):
        return SIZE
    if not (bar.low <= bar.open and bar.low <= bar.close and bar.open <= bar.high and bar.close <= bar.high) or (
        bar.end_ns <= bar.start_ns or <uint64_t>bar.end_ns - <uint64_t>bar.start_ns > HOUR_NS()
    ):
        return BAR_SHAPE
    return ACCEPTED


cdef inline int judge_quote(double bid, double ask, double bid_size, double ask_size) noexcept nogil:
    if not (is_price_or_none(bid) and is_price_or_none(ask)):
        return PRICE
    if not (is_size_or_none(bid_size) and is_size_or_none(ask_size)):
        return SIZE
    return ACCEPTED


cdef inline int judge_limits(double upper, double lower) noexcept nogil:
    return ACCEPTED if is_price_or_none(upper) and is_price_or_none(lower) else PRICE
