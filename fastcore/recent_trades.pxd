# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# The market's newest volume-eligible trades one by one, in order of arrival.
#
# A snapshot is true at its nanosecond and comes seconds later. Which trades of that
# very second came after it cannot be seen in sums by second; here it can, for as
# long as a busy market takes to trade RECENT_TRADES times: three seconds or more.
# One ring for all symbols, so that the next place is always in the cache.

from libc.stdint cimport int64_t, uint32_t

from fastcore.wire cimport Cursor, Writer, bytes_ptr

cdef enum:
    RECENT_TRADES = 131_072     # a power of two

cdef struct RecentTrade:
    int64_t time_ns
    double shares
    uint32_t symbol_id
    uint32_t unused

cdef struct RecentTrades:
    RecentTrade* trades         # trade number i is in place i % RECENT_TRADES; NULL before the first
    int64_t count               # since the day began


cdef void init_recent(RecentTrades* recent) noexcept nogil
cdef void free_recent(RecentTrades* recent) noexcept nogil
cdef int make_recent(RecentTrades* recent) except -1 nogil


cdef inline int keep_trade(RecentTrades* recent, uint32_t symbol_id, int64_t time_ns, double shares) except -1 nogil:
    cdef RecentTrade* trade
    if recent.trades == NULL:
        make_recent(recent)
    trade = &recent.trades[recent.count & (RECENT_TRADES - 1)]
    trade.time_ns = time_ns
    trade.shares = shares
    trade.symbol_id = symbol_id
    # It is written with the state, too.
    trade.unused = 0
    recent.count += 1
    return 0


# later[i]: shares of symbol i of `symbol_id` traded from since[i] on to the end of that second;
# nothing for the rows whose since[i] is a whole second. Ids are below `symbols`.
cdef int shares_to_second(
    const RecentTrades* recent, bytes_ptr symbol_id, const int64_t* since, Py_ssize_t rows, uint32_t symbols,
    double* later
) except -1 nogil

cdef int write_recent(Writer* writer, const RecentTrades* recent) except -1
cdef int read_recent(Cursor* cursor, RecentTrades* recent, uint32_t symbols) except -1
