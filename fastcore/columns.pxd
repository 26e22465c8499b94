# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

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

cdef struct ColumnSpec:
    const char* name
    uint32_t width              # bytes of an element
    bint may_be_missing         # the whole column may be left out

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

cdef struct HaltSpans:
    Py_ssize_t rows
    bytes_ptr symbol_id         # uint32
    bytes_ptr halted_at_ns      # int64
    bytes_ptr resumes_at_ns     # int64, 0 absent

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
cdef int parse_halts(bytes_ptr data, size_t length, HaltSpans* spans) except -1 nogil
cdef int parse_snapshot(bytes_ptr data, size_t length, SnapshotSpans* spans) except -1 nogil

# ValueError unless every id of the column is below `count`: checked once, so
# that kernels may index with them.
cdef int check_ids(bytes_ptr symbol_id, Py_ssize_t rows, uint32_t count) except -1 nogil

# ValueError unless every time of the column is one; `name` says which column.
cdef int check_times(bytes_ptr times, Py_ssize_t rows, const char* name) except -1 nogil


cdef inline bint is_time(int64_t time_ns) noexcept nogil:
    """From 1970 to 2116, so that sums and differences of times fit."""
    return (<uint64_t>time_ns >> 62) == 0


# For writers of encoded batches: the specs are those of the messages,
# column 0 is symbol_id. Fill `rows` elements behind each head.
cdef size_t columns_size(const ColumnSpec* specs, int count, Py_ssize_t rows) noexcept nogil
cdef unsigned char* put_column_head(unsigned char* pos, int column, uint32_t width, Py_ssize_t rows) noexcept nogil


ctypedef unsigned char* buffer_ptr

cdef class _Columns:
    cdef const ColumnSpec* specs
    cdef int count
    cdef int span
    cdef Py_ssize_t rows
    cdef Py_ssize_t capacity
    cdef buffer_ptr[MAX_COLUMNS] data

    cdef int grow(self) except -1
    cpdef clear(self)
    cpdef bytes encode(self)


cdef class TradeColumns(_Columns):
    cpdef append(
        self, uint32_t symbol_id, int64_t time_ns, double price, double size, uint64_t conditions, uint64_t trade_key
    )

cdef class BarColumns(_Columns):
    cpdef append(
        self, uint32_t symbol_id, int64_t start_ns, int64_t end_ns, double open, double high, double low,
        double close, double volume, double accumulated_volume=*, double day_vwap=*,
        double official_open=*, double vwap=*, double average_size=*,
    )

cdef class QuoteColumns(_Columns):
    cpdef append(
        self, uint32_t symbol_id, int64_t time_ns, double bid, double ask, double bid_size=*, double ask_size=*
    )

cdef class LimitColumns(_Columns):
    cpdef append(self, uint32_t symbol_id, int64_t time_ns, double upper, double lower, uint64_t indicators)

cdef class SnapshotColumns(_Columns):
    cpdef append(
        self, uint32_t symbol_id, int64_t updated_ns, int64_t last_trade_ns=*, double last_trade_price=*,
        double day_open=*, double day_high=*, double day_low=*, double day_close=*, double day_vwap=*,
        double accumulated_volume=*, double minute_close=*, double bid=*, double ask=*,
        int64_t minute_start_ns=*, double minute_high=*, double minute_low=*,
    )

cpdef uint64_t condition_mask(list conditions)
