# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Columnar batches: in-place readers for the core, growing builders for those who write them."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_LENGTH, WIRE_VARINT, cursor_of, load_i64, load_u32, load_u64, next_field, put_varint,
    raise_wire_error,
    varint_size,
)

cdef double NAN = float("nan")

# Element widths in bytes and names of the columns, from field FIRST_COLUMN on.
cdef ColumnSpec[6] TRADE_SPECS
cdef ColumnSpec[13] BAR_SPECS
cdef ColumnSpec[6] QUOTE_SPECS
cdef ColumnSpec[5] LIMIT_SPECS
cdef ColumnSpec[3] HALT_SPECS
cdef ColumnSpec[16] SNAPSHOT_SPECS


cdef int set_specs(ColumnSpec* specs, tuple names) except -1:
    # `specs` keeps pointers into these bytes objects, so they live for ever.
    cdef bytes name
    cdef int i = 0
    for name in names:
        KEPT_NAMES.append(name)
        specs[i].name = name
        specs[i].width = 4 if i == 0 else 8
        specs[i].may_be_missing = name == b"trade_key"
        i += 1
    return 0


KEPT_NAMES = []
set_specs(TRADE_SPECS, (b"symbol_id", b"time_ns", b"price", b"size", b"conditions", b"trade_key"))
set_specs(BAR_SPECS, (
    b"symbol_id", b"start_ns", b"end_ns", b"open", b"high", b"low", b"close", b"volume", b"accumulated_volume",
    b"day_vwap", b"official_open", b"vwap", b"average_size",
))
set_specs(QUOTE_SPECS, (b"symbol_id", b"time_ns", b"bid", b"ask", b"bid_size", b"ask_size"))
set_specs(LIMIT_SPECS, (b"symbol_id", b"time_ns", b"upper", b"lower", b"indicators"))
set_specs(HALT_SPECS, (b"symbol_id", b"halted_at_ns", b"resumes_at_ns"))
set_specs(SNAPSHOT_SPECS, (
    b"symbol_id", b"updated_ns", b"last_trade_ns", b"last_trade_price", b"day_open", b"day_high", b"day_low",
    b"day_close", b"day_vwap", b"accumulated_volume", b"minute_close", b"bid", b"ask", b"minute_start_ns",
    b"minute_high", b"minute_low",
))


# ---- reading ----

cdef int raise_column_error(const char* message, const char* column, str problem) except -1:
    raise ValueError(f"{message.decode()}.{column.decode()}: {problem}")


cdef int raise_unreadable(
    int status, const char* message, Py_ssize_t at, const ColumnSpec* specs, int count, uint32_t found
) except -1:
    """The wire error, with the column that it hit: the first one not yet seen."""
    cdef int i = 0
    while i < count - 1 and (found >> i) & 1:
        i += 1
    return raise_wire_error(status, f"{message.decode()}.{specs[i].name.decode()} (byte {at})".encode())


cdef int find_columns(
    bytes_ptr data, size_t length, const char* message, const ColumnSpec* specs, int count,
    bytes_ptr* columns, Py_ssize_t* rows, uint64_t* scalar,
) except -1 nogil:
    """Points `columns[i]` at the column of specs[i]; `scalar` takes varint field 1 when it is not NULL."""
    cdef Cursor cursor = cursor_of(data, length)
    cdef Field field
    cdef int status, i
    cdef size_t[MAX_COLUMNS] lengths
    cdef uint32_t found = 0
    for i in range(count):
        columns[i] = NULL
        lengths[i] = 0
    status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number >= FIRST_COLUMN and field.number < <uint32_t>(FIRST_COLUMN + count):
            i = <int>(field.number - FIRST_COLUMN)
            if field.wire_type != WIRE_LENGTH:
                with gil:
                    raise_column_error(message, specs[i].name, f"expected packed, was wire type {field.wire_type}")
            if found >> i & 1:
                with gil:
                    raise_column_error(message, specs[i].name, "expected one piece, was several")
            found |= <uint32_t>1 << i
            if field.length % specs[i].width:
                with gil:
                    raise_column_error(
                        message, specs[i].name, f"expected a multiple of {specs[i].width} bytes, was {field.length}"
                    )
            columns[i] = field.data
            lengths[i] = field.length / specs[i].width
        elif field.number == 1 and scalar != NULL:
            if field.wire_type != WIRE_VARINT:
                with gil:
                    raise_column_error(message, b"span", f"expected a varint, was wire type {field.wire_type}")
            scalar[0] = field.value
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        with gil:
            raise_unreadable(status, message, cursor.pos - data, specs, count, found)
    for i in range(1, count):
        if lengths[i] != lengths[0]:
            if specs[i].may_be_missing and lengths[i] == 0:
                columns[i] = NULL
                continue
            with gil:
                raise_column_error(
                    message, specs[i].name, f"expected {lengths[0]} values as in symbol_id, was {lengths[i]}"
                )
    rows[0] = <Py_ssize_t>lengths[0]
    return 0


cdef int parse_trades(bytes_ptr data, size_t length, TradeSpans* spans) except -1 nogil:
    cdef bytes_ptr[MAX_COLUMNS] columns
    find_columns(data, length, b"TradeBatch", TRADE_SPECS, 6, columns, &spans.rows, NULL)
    spans.symbol_id = columns[0]
    spans.time_ns = columns[1]
    spans.price = columns[2]
    spans.size = columns[3]
    spans.conditions = columns[4]
    spans.trade_key = columns[5]
    return 0


cdef int parse_bars(bytes_ptr data, size_t length, BarSpans* spans) except -1 nogil:
    cdef bytes_ptr[MAX_COLUMNS] columns
    cdef uint64_t span = 0
    find_columns(data, length, b"BarBatch", BAR_SPECS, 13, columns, &spans.rows, &span)
    if span != 1 and span != 2 and spans.rows:
        with gil:
            raise ValueError(f"BarBatch.span: expected SECOND (1) or MINUTE (2), was {span}")
    spans.span = <int>span
    spans.symbol_id = columns[0]
    spans.start_ns = columns[1]
    spans.end_ns = columns[2]
    spans.open = columns[3]
    spans.high = columns[4]
    spans.low = columns[5]
    spans.close = columns[6]
    spans.volume = columns[7]
    spans.accumulated_volume = columns[8]
    spans.day_vwap = columns[9]
    spans.official_open = columns[10]
    spans.vwap = columns[11]
    spans.average_size = columns[12]
    return 0


cdef int parse_quotes(bytes_ptr data, size_t length, QuoteSpans* spans) except -1 nogil:
    cdef bytes_ptr[MAX_COLUMNS] columns
    find_columns(data, length, b"QuoteBatch", QUOTE_SPECS, 6, columns, &spans.rows, NULL)
    spans.symbol_id = columns[0]
    spans.time_ns = columns[1]
    spans.bid = columns[2]
    spans.ask = columns[3]
    spans.bid_size = columns[4]
    spans.ask_size = columns[5]
    return 0


cdef int parse_limits(bytes_ptr data, size_t length, LimitSpans* spans) except -1 nogil:
    cdef bytes_ptr[MAX_COLUMNS] columns
    find_columns(data, length, b"LimitBatch", LIMIT_SPECS, 5, columns, &spans.rows, NULL)
    spans.symbol_id = columns[0]
    spans.time_ns = columns[1]
    spans.upper = columns[2]
    spans.lower = columns[3]
    spans.indicators = columns[4]
    return 0


cdef int parse_halts(bytes_ptr data, size_t length, HaltSpans* spans) except -1 nogil:
    cdef bytes_ptr[MAX_COLUMNS] columns
    find_columns(data, length, b"HaltBatch", HALT_SPECS, 3, columns, &spans.rows, NULL)
    spans.symbol_id = columns[0]
    spans.halted_at_ns = columns[1]
    spans.resumes_at_ns = columns[2]
    return 0


cdef int parse_snapshot(bytes_ptr data, size_t length, SnapshotSpans* spans) except -1 nogil:
    cdef bytes_ptr[MAX_COLUMNS] columns
    find_columns(data, length, b"VendorSnapshot", SNAPSHOT_SPECS, 16, columns, &spans.rows, NULL)
    spans.symbol_id = columns[0]
    spans.updated_ns = columns[1]
    spans.last_trade_ns = columns[2]
    spans.last_trade_price = columns[3]
    spans.day_open = columns[4]
    spans.day_high = columns[5]
    spans.day_low = columns[6]
    spans.day_close = columns[7]
    spans.day_vwap = columns[8]
    spans.accumulated_volume = columns[9]
    spans.minute_close = columns[10]
    spans.bid = columns[11]
    spans.ask = columns[12]
    spans.minute_start_ns = columns[13]
    spans.minute_high = columns[14]
    spans.minute_low = columns[15]
    return 0


cdef int check_ids(bytes_ptr symbol_id, Py_ssize_t rows, uint32_t count) except -1 nogil:
    cdef Py_ssize_t i
    cdef uint32_t largest = 0, value
    for i in range(rows):
        value = load_u32(symbol_id, i)
        if value > largest:
            largest = value
    if rows and largest >= count:
        with gil:
            i = 0
            while load_u32(symbol_id, i) < count:
                i += 1
            raise ValueError(f"symbol_id: expected less than {count}, was {load_u32(symbol_id, i)} in row {i}")
    return 0


cdef int check_times(bytes_ptr times, Py_ssize_t rows, const char* name) except -1 nogil:
    cdef Py_ssize_t i
    cdef uint64_t bits = 0
    for i in range(rows):
        bits |= load_u64(times, i)
    if bits >> 62:
        with gil:
            i = 0
            while is_time(load_i64(times, i)):
                i += 1
            raise ValueError(f"{name.decode()}: expected ns since 1970, was {load_i64(times, i)} in row {i}")
    return 0


# ---- writing ----

cdef size_t columns_size(const ColumnSpec* specs, int count, Py_ssize_t rows) noexcept nogil:
    """Bytes of `count` columns of `rows` elements, tags included; none when there is no row."""
    cdef size_t size = 0, length
    cdef int i
    if rows == 0:
        return 0
    for i in range(count):
        length = <size_t>rows * specs[i].width
        size += 2 + varint_size(length) + length    # tags of the fields 16 to 2047 have two bytes
    return size


cdef unsigned char* put_column_head(unsigned char* pos, int column, uint32_t width, Py_ssize_t rows) noexcept nogil:
    """Tag and length of column number `column`; the elements go behind it."""
    pos = put_varint(pos, (<uint64_t>(FIRST_COLUMN + column) << 3) | WIRE_LENGTH)
    return put_varint(pos, <uint64_t>rows * width)


cdef class _Columns:
    """Rows gathered column by column; the builders below say which."""

    def __cinit__(self, *args, **kwargs):
        cdef int i
        self.rows = 0
        self.capacity = 0
        self.span = 0
        for i in range(MAX_COLUMNS):
            self.data[i] = NULL

    def __init__(self):
        if type(self) is _Columns:
            raise TypeError("_Columns has no columns of its own")

    def __dealloc__(self):
        cdef int i
        for i in range(MAX_COLUMNS):
            free(self.data[i])

    def __len__(self):
        return self.rows

    def __reduce__(self):
        raise TypeError(f"{type(self).__name__} cannot be pickled: send encode()")

    cdef int grow(self) except -1:
        """Doubles the room of every column."""
        cdef Py_ssize_t capacity = self.capacity * 2 if self.capacity else 64
        cdef unsigned char* larger
        cdef int i
        for i in range(self.count):
            larger = <unsigned char*>realloc(self.data[i], capacity * self.specs[i].width)
            if larger == NULL:
                raise MemoryError(f"no room for {capacity} rows")
            self.data[i] = larger
        self.capacity = capacity
        return 0

    cpdef clear(self):
        """Forgets the rows and keeps the memory."""
        self.rows = 0

    cpdef bytes encode(self):
        """The encoded message; empty bytes when there are no rows."""
        cdef size_t size = columns_size(self.specs, self.count, self.rows)
        cdef size_t length
        cdef bytes message
        cdef unsigned char* pos
        cdef int i
        if self.rows == 0:
            return b""
        if self.span:
            size += 2
        message = PyBytes_FromStringAndSize(NULL, size)
        pos = <unsigned char*>PyBytes_AS_STRING(message)
        if self.span:
            pos[0] = 1 << 3 | WIRE_VARINT
            pos[1] = <unsigned char>self.span
            pos += 2
        for i in range(self.count):
            pos = put_column_head(pos, i, self.specs[i].width, self.rows)
            length = <size_t>self.rows * self.specs[i].width
            memcpy(pos, self.data[i], length)
            pos += length
        return message


cdef class TradeColumns(_Columns):
    """Builder of a TradeBatch, in order of arrival.

    Nothing is judged here: whatever a double can hold is passed on, so that one place,
    admission, sets bad rows aside. Numbers that do not fit their column (a symbol id below 0
    or above 2**32 - 1, a time above 2**63 - 1) are an OverflowError and add no row.
    """

    def __init__(self):
        self.specs = TRADE_SPECS
        self.count = 6

    cpdef append(
        self, uint32_t symbol_id, int64_t time_ns, double price, double size, uint64_t conditions, uint64_t trade_key
    ):
        """One trade: time in ns since 1970 UTC, price in USD, size in shares, condition_mask(), trade_key()."""
        cdef Py_ssize_t i = self.rows
        if i == self.capacity:
            self.grow()
        (<uint32_t*>self.data[0])[i] = symbol_id
        (<int64_t*>self.data[1])[i] = time_ns
        (<double*>self.data[2])[i] = price
        (<double*>self.data[3])[i] = size
        (<uint64_t*>self.data[4])[i] = conditions
        (<uint64_t*>self.data[5])[i] = trade_key
        self.rows = i + 1


cdef class BarColumns(_Columns):
    """Builder of a BarBatch of one span, 1 (second) or 2 (minute); ValueError for another."""

    def __init__(self, int span):
        if span != 1 and span != 2:
            raise ValueError(f"span: expected 1 (second) or 2 (minute), was {span}")
        self.specs = BAR_SPECS
        self.count = 13
        self.span = span

    cpdef append(
        self, uint32_t symbol_id, int64_t start_ns, int64_t end_ns, double open, double high, double low,
        double close, double volume, double accumulated_volume=NAN, double day_vwap=NAN,
        double official_open=NAN, double vwap=NAN, double average_size=NAN,
    ):
        """One bar: times in ns since 1970 UTC, prices in USD, volumes in shares; NaN is absent."""
        cdef Py_ssize_t i = self.rows
        if i == self.capacity:
            self.grow()
        (<uint32_t*>self.data[0])[i] = symbol_id
        (<int64_t*>self.data[1])[i] = start_ns
        (<int64_t*>self.data[2])[i] = end_ns
        (<double*>self.data[3])[i] = open
        (<double*>self.data[4])[i] = high
        (<double*>self.data[5])[i] = low
        (<double*>self.data[6])[i] = close
        (<double*>self.data[7])[i] = volume
        (<double*>self.data[8])[i] = accumulated_volume
        (<double*>self.data[9])[i] = day_vwap
        (<double*>self.data[10])[i] = official_open
        (<double*>self.data[11])[i] = vwap
        (<double*>self.data[12])[i] = average_size
        self.rows = i + 1


cdef class QuoteColumns(_Columns):
    """Builder of a QuoteBatch."""

    def __init__(self):
        self.specs = QUOTE_SPECS
        self.count = 6

    cpdef append(
        self, uint32_t symbol_id, int64_t time_ns, double bid, double ask, double bid_size=NAN, double ask_size=NAN
    ):
        """One quote: time in ns since 1970 UTC, prices in USD, sizes as the vendor sends them; NaN is absent."""
        cdef Py_ssize_t i = self.rows
        if i == self.capacity:
            self.grow()
        (<uint32_t*>self.data[0])[i] = symbol_id
        (<int64_t*>self.data[1])[i] = time_ns
        (<double*>self.data[2])[i] = bid
        (<double*>self.data[3])[i] = ask
        (<double*>self.data[4])[i] = bid_size
        (<double*>self.data[5])[i] = ask_size
        self.rows = i + 1


cdef class LimitColumns(_Columns):
    """Builder of a LimitBatch."""

    def __init__(self):
        self.specs = LIMIT_SPECS
        self.count = 5

    cpdef append(self, uint32_t symbol_id, int64_t time_ns, double upper, double lower, uint64_t indicators):
        """One LULD message: time in ns since 1970 UTC, bands in USD (NaN absent), condition_mask(indicators)."""
        cdef Py_ssize_t i = self.rows
        if i == self.capacity:
            self.grow()
        (<uint32_t*>self.data[0])[i] = symbol_id
        (<int64_t*>self.data[1])[i] = time_ns
        (<double*>self.data[2])[i] = upper
        (<double*>self.data[3])[i] = lower
        (<uint64_t*>self.data[4])[i] = indicators
        self.rows = i + 1


cdef class SnapshotColumns(_Columns):
    """Builder of a VendorSnapshot."""

    def __init__(self):
        self.specs = SNAPSHOT_SPECS
        self.count = 16

    cpdef append(
        self, uint32_t symbol_id, int64_t updated_ns, int64_t last_trade_ns=0, double last_trade_price=NAN,
        double day_open=NAN, double day_high=NAN, double day_low=NAN, double day_close=NAN, double day_vwap=NAN,
        double accumulated_volume=NAN, double minute_close=NAN, double bid=NAN, double ask=NAN,
        int64_t minute_start_ns=0, double minute_high=NAN, double minute_low=NAN,
    ):
        """One symbol of the vendor's snapshot: times in ns since 1970 UTC (0 absent), prices in USD (NaN absent)."""
        cdef Py_ssize_t i = self.rows
        if i == self.capacity:
            self.grow()
        (<uint32_t*>self.data[0])[i] = symbol_id
        (<int64_t*>self.data[1])[i] = updated_ns
        (<int64_t*>self.data[2])[i] = last_trade_ns
        (<double*>self.data[3])[i] = last_trade_price
        (<double*>self.data[4])[i] = day_open
        (<double*>self.data[5])[i] = day_high
        (<double*>self.data[6])[i] = day_low
        (<double*>self.data[7])[i] = day_close
        (<double*>self.data[8])[i] = day_vwap
        (<double*>self.data[9])[i] = accumulated_volume
        (<double*>self.data[10])[i] = minute_close
        (<double*>self.data[11])[i] = bid
        (<double*>self.data[12])[i] = ask
        (<int64_t*>self.data[13])[i] = minute_start_ns
        (<double*>self.data[14])[i] = minute_high
        (<double*>self.data[15])[i] = minute_low
        self.rows = i + 1


cpdef uint64_t condition_mask(list conditions):
    """The bits of a list of the vendor's condition or indicator ids; none for None.

    Ids outside 0-62 set bit 63, "some unknown one". TypeError when an element is no int.
    """
    cdef uint64_t mask = 0
    cdef object condition
    if conditions is None:
        return 0
    for condition in conditions:
        if not isinstance(condition, int):
            raise TypeError(f"condition: expected an int, was {condition!r}")
        if 0 <= condition <= 62:
            mask |= <uint64_t>1 << <int>condition
        else:
            mask |= <uint64_t>1 << 63
    return mask
