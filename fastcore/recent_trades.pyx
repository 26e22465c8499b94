# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The market's newest trades one by one; see recent_trades.pxd."""

from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastcore.memory cimport aligned_block
from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer, bytes_ptr, load_u32

cdef int64_t NS = 1_000_000_000


cdef void init_recent(RecentTrades* recent) noexcept nogil:
    recent.trades = NULL
    recent.count = 0


cdef void free_recent(RecentTrades* recent) noexcept nogil:
    free(recent.trades)
    init_recent(recent)


cdef int make_recent(RecentTrades* recent) except -1 nogil:
    recent.trades = <RecentTrade*>aligned_block(RECENT_TRADES * sizeof(RecentTrade))
    if recent.trades == NULL:
        with gil:
            raise MemoryError(f"no memory for {RECENT_TRADES} trades")
    return 0


cdef int shares_to_second(
    const RecentTrades* recent, bytes_ptr symbol_id, const int64_t* since, Py_ssize_t rows, uint32_t symbols,
    double* later
) except -1 nogil:
    cdef int32_t* row_of        # [symbol id]: 1 + a row of it, 0 for none
    cdef int32_t* other_row     # [row]: 1 + another row of the same symbol
    cdef const RecentTrade* trade
    cdef Py_ssize_t i
    cdef int64_t number
    cdef int32_t row
    cdef bint any_inside = False
    memset(later, 0, rows * sizeof(double))
    for i in range(rows):
        if since[i] % NS != 0:
            any_inside = True
            break
    if not any_inside or recent.count == 0:
        return 0
    row_of = <int32_t*>calloc(symbols + rows, sizeof(int32_t))
    if row_of == NULL:
        with gil:
            raise MemoryError(f"no memory for the rows of {symbols} symbols")
    other_row = row_of + symbols
    for i in range(rows):
        if since[i] % NS != 0:
            other_row[i] = row_of[load_u32(symbol_id, i)]
            row_of[load_u32(symbol_id, i)] = <int32_t>i + 1
    for number in range(max(<int64_t>0, recent.count - RECENT_TRADES), recent.count):
        trade = &recent.trades[number & (RECENT_TRADES - 1)]
        row = row_of[trade.symbol_id]
        while row:
            row -= 1
            if since[row] <= trade.time_ns and trade.time_ns // NS == since[row] // NS:
                later[row] += trade.shares
            row = other_row[row]
    free(row_of)
    return 0


# ---- as bytes ----

cdef int write_recent(Writer* writer, const RecentTrades* recent) except -1:
    cdef int64_t first = max(<int64_t>0, recent.count - RECENT_TRADES)
    cdef int64_t place = first & (RECENT_TRADES - 1), kept = recent.count - first
    cdef int64_t straight = min(kept, RECENT_TRADES - place)
    write_block(writer, &recent.count, sizeof(int64_t))
    if kept:
        write_block(writer, recent.trades + place, straight * sizeof(RecentTrade))
        write_block(writer, recent.trades, (kept - straight) * sizeof(RecentTrade))
    return 0


cdef int read_recent(Cursor* cursor, RecentTrades* recent, uint32_t symbols) except -1:
    """ValueError when the bytes end early or are no trades; `recent`, fresh, can be freed in any case."""
    cdef int64_t count, number
    cdef RecentTrade* trade
    read_block(cursor, &count, sizeof(int64_t))
    if not 0 <= count < <int64_t>1 << 60:
        raise ValueError(f"state: expected a number of trades, was {count}")
    if count == 0:
        return 0
    make_recent(recent)
    for number in range(max(<int64_t>0, count - RECENT_TRADES), count):
        trade = &recent.trades[number & (RECENT_TRADES - 1)]
        read_block(cursor, trade, sizeof(RecentTrade))
        if trade.symbol_id >= symbols or trade.time_ns < 0:
            raise ValueError(f"state: expected trades of ids below {symbols}, was {trade.symbol_id}")
    recent.count = count
    return 0
