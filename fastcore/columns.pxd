# The columnar batches of market_data.proto.
#
# Readers: parse_trades(...) and its siblings find the columns of an encoded
# batch and leave them where they are; element i is load_f64(spans.price, i)
# and so on (wire.pxd). They raise ValueError naming the column when the batch
# is malformed, a column is missing or of another length than symbol_id, or
# comes in several pieces. Pointers live as long as the batch's bytes.
#
# Writers: TradeColumns and its siblings gather rows and encode them.

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from fastcore.wire cimport Cursor, Field, Writer, bytes_ptr

# Field numbers of the columns in their messages.
cdef enum:
    FIRST_COLUMN = 16           # symbol_id in every batch
    MAX_COLUMNS = 16

cdef struct TradeSpans:
    Py_ssize_t rows
    bytes_ptr symbol_id         # uint32
    bytes_ptr time_ns           # int64
    bytes_ptr price             # double
    bytes_ptr size              # double
    bytes_ptr conditions        # uint64
    bytes_ptr trade_key         # uint64; NULL when the column is left out

cdef struct BarSpans:
    Py_ssize_t rows
    int span                    # BarSpan: 1 second, 2 minute
    bytes_ptr symbol_id         # uint32
    bytes_ptr start_ns          # int64
    bytes_ptr end_ns            # int64
    bytes_ptr open              # double, as the rest
    bytes_ptr high
    bytes_ptr low
    bytes_ptr close
    bytes_ptr volume
    bytes_ptr accumulated_volume
    bytes_ptr day_vwap
    bytes_ptr official_open
    bytes_ptr vwap
    bytes_ptr average_size

cdef struct QuoteSpans:
    Py_ssize_t rows
    bytes_ptr symbol_id         # uint32
    bytes_ptr time_ns           # int64
    bytes_ptr bid               # double
    bytes_ptr ask               # double
    bytes_ptr bid_size          # double
    bytes_ptr ask_size          # double

cdef struct LimitSpans:
    Py_ssize_t rows
    bytes_ptr symbol_id         # uint32
    bytes_ptr time_ns           # int64
    bytes_ptr upper             # double
    bytes_ptr lower             # double
    bytes_ptr indicators        # uint64

cdef struct SnapshotSpans:
    Py_ssize_t rows
    bytes_ptr symbol_id         # uint32
    bytes_ptr updated_ns        # int64
    bytes_ptr last_trade_ns     # int64
    bytes_ptr last_trade_price  # double
    bytes_ptr day_open
    bytes_ptr day_high
    bytes_ptr day_low
    bytes_ptr day_close
    bytes_ptr day_vwap
    bytes_ptr accumulated_volume
    bytes_ptr minute_close
    bytes_ptr bid
    bytes_ptr ask
    bytes_ptr minute_start_ns   # int64
    bytes_ptr minute_high       # double
    bytes_ptr minute_low        # double

cdef int parse_trades(bytes_ptr data, size_t length, TradeSpans* spans) except -1 nogil
cdef int parse_bars(bytes_ptr data, size_t length, BarSpans* spans) except -1 nogil
cdef int parse_quotes(bytes_ptr data, size_t length, QuoteSpans* spans) except -1 nogil
cdef int parse_limits(bytes_ptr data, size_t length, LimitSpans* spans) except -1 nogil
cdef int parse_snapshot(bytes_ptr data, size_t length, SnapshotSpans* spans) except -1 nogil

# ValueError unless every id of the column is below `count`: checked once, so
# that kernels may index with them.
cdef int check_ids(bytes_ptr symbol_id, Py_ssize_t rows, uint32_t count) except -1 nogil
