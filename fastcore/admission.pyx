"""What may enter the sequenced stream: bounds, duplicates, and the sequencer's symbol ids.

The sequencer admits every batch of the feed once; whatever comes out is in
the stream and every copy applies it without judging again. A bad row is set
aside and counted by its reason, the others go on. Rows are judged in the
order unknown_symbol, time_out_of_session, time_ahead, price, size, bar_shape,
duplicate; the first reason counts.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.math cimport isfinite, isnan
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastcore.columns cimport (
    BarSpans, LimitSpans, QuoteSpans, TradeSpans, parse_bars, parse_limits, parse_quotes, parse_trades,
    put_column_head,
)
from fastcore.dedup cimport RecentTrades, day_mark, identity
from fastcore.trade_rules cimport COND_OFFICIAL
from fastcore.wire cimport WIRE_VARINT, bytes_ptr, load_f64, load_i64, load_u32, load_u64, varint_size

# Why a row is set aside; ACCEPTED is not a reason.
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

cdef enum:
    AHEAD = 16                  # rows between a prefetch and its use
    SCRATCH_COLUMNS = 3         # identities, and columns that are rewritten
    FUTURE_SYMBOLS = 4096       # at most so many are remembered

REASONS = (
    "accepted", "unknown_symbol", "time_out_of_session", "time_ahead", "price", "size", "bar_shape", "duplicate"
)

ctypedef double* double_ptr

cdef double NAN = float("nan")
cdef double PRICE_LIMIT = 1e7
cdef double SIZE_LIMIT = 1e12
cdef int64_t HOUR = 3_600_000_000_000

MAX_TIME = 2**63 - 1


cdef inline bint is_price(double value) noexcept nogil:
    return value > 0 and value < PRICE_LIMIT


cdef inline bint is_size(double value) noexcept nogil:
    return value > 0 and value < SIZE_LIMIT


cdef inline bint is_price_or_none(double value) noexcept nogil:
    """0 is how the vendor writes "none" in fields that need not be there."""
    return isnan(value) or (value >= 0 and value < PRICE_LIMIT)


cdef inline bint is_size_or_none(double value) noexcept nogil:
    return isnan(value) or (value >= 0 and value < SIZE_LIMIT)


cdef inline double none_for_zero(double value) noexcept nogil:
    return NAN if value == 0 else value


cdef class Admission:
    """The gate in front of the stream.

    `max_remembered`: duplicates are recognised within this many to twice as
    many of the newest trades. Before set_bounds every event is out of session.
    """

    cdef RecentTrades recent
    cdef int64_t start_ns
    cdef int64_t end_ns
    cdef int64_t latest_ns
    cdef uint64_t day           # of trades' identities: ids begin again each day
    cdef uint64_t known_conditions
    cdef int64_t[VERDICTS] verdicts
    cdef int64_t unknown_conditions
    cdef int64_t[4] accepted_counts     # trades, bars, quotes, limits
    cdef readonly int64_t newest_ns     # newest event time accepted since the start; 0 before the first
    cdef readonly dict future_times     # symbol id -> earliest event time after the day's last session
    cdef uint32_t* ids                  # scratch, `capacity` rows each
    cdef int32_t* kept
    cdef double_ptr[SCRATCH_COLUMNS] scratch
    cdef Py_ssize_t capacity
    # Of the trades that the last admit_trades() accepted: by what a duplicate is recognised, 8 bytes each.
    cdef readonly bytes identities

    def __cinit__(self, int64_t max_remembered=2**24):
        self.recent = RecentTrades(max_remembered)
        self.start_ns = self.end_ns = 0
        self.latest_ns = MAX_TIME
        self.known_conditions = 0xFFFFFFFFFFFFFFFFu
        self.future_times = {}
        self.identities = b""

    def __dealloc__(self):
        cdef int i
        free(self.ids)
        free(self.kept)
        for i in range(SCRATCH_COLUMNS):
            free(self.scratch[i])

    def __reduce__(self):
        raise TypeError("Admission cannot be pickled")

    def set_bounds(self, int64_t start_ns, int64_t end_ns, int64_t latest_ns=MAX_TIME):
        """Accepts event times in [start_ns, end_ns) and not after latest_ns.

        ValueError when start_ns is after end_ns. A day other than the one before forgets future_times.
        """
        if start_ns > end_ns:
            raise ValueError(f"expected start_ns <= end_ns, was {start_ns} > {end_ns}")
        if start_ns != self.start_ns or end_ns != self.end_ns:
            self.future_times.clear()
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.latest_ns = latest_ns
        self.day = day_mark(start_ns)

    def set_known_conditions(self, uint64_t mask):
        """Trades with conditions outside this mask are accepted and counted in `unknown_condition_trades`."""
        self.known_conditions = mask

    @property
    def rejected(self):
        """Rows set aside since the start, by reason."""
        return {REASONS[i]: self.verdicts[i] for i in range(1, VERDICTS)}

    @property
    def accepted(self):
        """Rows accepted since the start, by kind."""
        return dict(zip(("trades", "bars", "quotes", "limits"), self.accepted_counts))

    @property
    def unknown_condition_trades(self):
        """Accepted trades with a condition that the rules do not know; it forbids nothing."""
        return self.unknown_conditions

    @property
    def future_day_symbols(self):
        """Ids of symbols that sent events of a later day since set_bounds chose this one."""
        return set(self.future_times)

    # ---- one method per kind ----

    def admit_trades(self, const unsigned char[::1] batch, const int32_t[::1] id_map):
        """The rows of an encoded TradeBatch that may enter, and how many they are.

        `id_map[i]` is the sequencer's id of the feed's id i, -1 for a refused symbol. Returns an
        encoded TradeBatch without trade_key (empty when nothing is left). ValueError when the batch
        is malformed or names an id that id_map does not have; nothing is counted then.
        """
        cdef TradeSpans spans
        cdef bytes_ptr[5] columns
        parse_trades(start_of(batch), batch.shape[0], &spans)
        self._translate(spans.symbol_id, spans.rows, id_map)
        cdef Py_ssize_t kept
        with nogil:
            kept = self._judge_trades(&spans)
        self._note_future(spans.time_ns, spans.rows)
        self.accepted_counts[0] += kept
        self.identities = self._gather_identities(kept)
        columns[0] = <bytes_ptr>self.ids
        columns[1] = spans.time_ns
        columns[2] = spans.price
        columns[3] = spans.size
        columns[4] = spans.conditions
        return self._gather(0, columns, 5, kept, spans.rows), kept

    def remember(self, bytes identities not None):
        """Takes over what another Admission told as `identities`: these trades are duplicates on their own day.

        ValueError when the bytes are not 8 for each.
        """
        cdef const unsigned char* data = <const unsigned char*>PyBytes_AS_STRING(identities)
        cdef Py_ssize_t i, count = len(identities) // 8
        cdef uint64_t identity
        if len(identities) % 8:
            raise ValueError(f"identities: expected 8 bytes for each, was {len(identities)} bytes")
        with nogil:
            for i in range(count):
                identity = load_u64(data, i)
                # 0 is no identity.
                if identity:
                    self.recent.seen(identity)

    def admit_bars(self, const unsigned char[::1] batch, const int32_t[::1] id_map):
        """The same for a BarBatch of either span. Its day values (accumulated_volume, day_vwap,
        official_open) of 0 become absent."""
        cdef BarSpans spans
        cdef bytes_ptr[13] columns
        parse_bars(start_of(batch), batch.shape[0], &spans)
        self._translate(spans.symbol_id, spans.rows, id_map)
        cdef Py_ssize_t kept
        with nogil:
            kept = self._judge_bars(&spans)
        self._note_future(spans.start_ns, spans.rows)
        self.accepted_counts[1] += kept
        columns[0] = <bytes_ptr>self.ids
        columns[1] = spans.start_ns
        columns[2] = spans.end_ns
        columns[3] = spans.open
        columns[4] = spans.high
        columns[5] = spans.low
        columns[6] = spans.close
        columns[7] = spans.volume
        columns[8] = <bytes_ptr>self.scratch[0]
        columns[9] = <bytes_ptr>self.scratch[1]
        columns[10] = <bytes_ptr>self.scratch[2]
        columns[11] = spans.vwap
        columns[12] = spans.average_size
        return self._gather(spans.span, columns, 13, kept, spans.rows), kept

    def admit_quotes(self, const unsigned char[::1] batch, const int32_t[::1] id_map):
        """The same for a QuoteBatch. A price of 0 (no bid, no offer) becomes absent."""
        cdef QuoteSpans spans
        cdef bytes_ptr[6] columns
        parse_quotes(start_of(batch), batch.shape[0], &spans)
        self._translate(spans.symbol_id, spans.rows, id_map)
        cdef Py_ssize_t kept
        with nogil:
            kept = self._judge_quotes(&spans)
        self._note_future(spans.time_ns, spans.rows)
        self.accepted_counts[2] += kept
        columns[0] = <bytes_ptr>self.ids
        columns[1] = spans.time_ns
        columns[2] = <bytes_ptr>self.scratch[0]
        columns[3] = <bytes_ptr>self.scratch[1]
        columns[4] = spans.bid_size
        columns[5] = spans.ask_size
        return self._gather(0, columns, 6, kept, spans.rows), kept

    def admit_limits(self, const unsigned char[::1] batch, const int32_t[::1] id_map):
        """The same for a LimitBatch. A band of 0 becomes absent."""
        cdef LimitSpans spans
        cdef bytes_ptr[5] columns
        parse_limits(start_of(batch), batch.shape[0], &spans)
        self._translate(spans.symbol_id, spans.rows, id_map)
        cdef Py_ssize_t kept
        with nogil:
            kept = self._judge_limits(&spans)
        self._note_future(spans.time_ns, spans.rows)
        self.accepted_counts[3] += kept
        columns[0] = <bytes_ptr>self.ids
        columns[1] = spans.time_ns
        columns[2] = <bytes_ptr>self.scratch[0]
        columns[3] = <bytes_ptr>self.scratch[1]
        columns[4] = spans.indicators
        return self._gather(0, columns, 5, kept, spans.rows), kept

    # ---- judging: fills `kept` with the indexes of accepted rows ----

    cdef inline int _judge_place(self, uint32_t symbol_id, int64_t time_ns, int64_t known_ns) noexcept nogil:
        """Symbol and times; `known_ns` is when the event could be known at the earliest."""
        if symbol_id == <uint32_t>-1:
            return UNKNOWN_SYMBOL
        if time_ns < self.start_ns or time_ns >= self.end_ns:
            return TIME_OUT_OF_SESSION
        if known_ns > self.latest_ns:
            return TIME_AHEAD
        return ACCEPTED

    cdef Py_ssize_t _judge_trades(self, const TradeSpans* spans) except -1 nogil:
        cdef Py_ssize_t i, kept = 0
        cdef int verdict
        cdef int64_t time_ns
        cdef double price, size
        cdef uint64_t conditions, key
        cdef uint64_t* identities = <uint64_t*>self.scratch[0]
        for i in range(spans.rows):
            key = load_u64(spans.trade_key, i) if spans.trade_key != NULL else 0
            identities[i] = identity(key, self.ids[i], self.day) if key else 0
        for i in range(spans.rows):
            if i + AHEAD < spans.rows and identities[i + AHEAD]:
                self.recent.prefetch(identities[i + AHEAD])
            time_ns = load_i64(spans.time_ns, i)
            verdict = self._judge_place(self.ids[i], time_ns, time_ns)
            if verdict == ACCEPTED:
                price = load_f64(spans.price, i)
                size = load_f64(spans.size, i)
                conditions = load_u64(spans.conditions, i)
                if not is_price(price):
                    verdict = PRICE
                elif not is_size(size) and not (size == 0 and conditions & COND_OFFICIAL()):
                    verdict = SIZE
                elif identities[i] and self.recent.seen(identities[i]):
                    verdict = DUPLICATE
                else:
                    self.unknown_conditions += (conditions & ~self.known_conditions) != 0
                    if time_ns > self.newest_ns:
                        self.newest_ns = time_ns
                    self.kept[kept] = <int32_t>i
                    kept += 1
            self.verdicts[verdict] += 1
        return kept

    cdef Py_ssize_t _judge_bars(self, const BarSpans* spans) noexcept nogil:
        cdef Py_ssize_t i, kept = 0
        cdef int verdict
        cdef int64_t start_ns, end_ns
        cdef double open, high, low, close, accumulated, day_vwap, official_open
        for i in range(spans.rows):
            start_ns = load_i64(spans.start_ns, i)
            end_ns = load_i64(spans.end_ns, i)
            verdict = self._judge_place(self.ids[i], start_ns, end_ns)
            if verdict == ACCEPTED:
                open = load_f64(spans.open, i)
                high = load_f64(spans.high, i)
                low = load_f64(spans.low, i)
                close = load_f64(spans.close, i)
                accumulated = load_f64(spans.accumulated_volume, i)
                day_vwap = load_f64(spans.day_vwap, i)
                official_open = load_f64(spans.official_open, i)
                if not (
                    is_price(open) and is_price(high) and is_price(low) and is_price(close)
                    and is_price_or_none(day_vwap) and is_price_or_none(official_open)
                    and is_price_or_none(load_f64(spans.vwap, i))
                ):
                    verdict = PRICE
                elif not (
                    is_size(load_f64(spans.volume, i)) and is_size_or_none(accumulated)
                    and is_size_or_none(load_f64(spans.average_size, i))
                ):
                    verdict = SIZE
                elif not (low <= open and low <= close and open <= high and close <= high) or (
                    end_ns <= start_ns or end_ns - start_ns > HOUR
                ):
                    verdict = BAR_SHAPE
                else:
                    self.scratch[0][i] = none_for_zero(accumulated)
                    self.scratch[1][i] = none_for_zero(day_vwap)
                    self.scratch[2][i] = none_for_zero(official_open)
                    if end_ns > self.newest_ns:
                        self.newest_ns = end_ns
                    self.kept[kept] = <int32_t>i
                    kept += 1
            self.verdicts[verdict] += 1
        return kept

    cdef Py_ssize_t _judge_quotes(self, const QuoteSpans* spans) noexcept nogil:
        cdef Py_ssize_t i, kept = 0
        cdef int verdict
        cdef int64_t time_ns
        cdef double bid, ask
        for i in range(spans.rows):
            time_ns = load_i64(spans.time_ns, i)
            verdict = self._judge_place(self.ids[i], time_ns, time_ns)
            if verdict == ACCEPTED:
                bid = load_f64(spans.bid, i)
                ask = load_f64(spans.ask, i)
                if not (is_price_or_none(bid) and is_price_or_none(ask)):
                    verdict = PRICE
                elif not (
                    is_size_or_none(load_f64(spans.bid_size, i)) and is_size_or_none(load_f64(spans.ask_size, i))
                ):
                    verdict = SIZE
                else:
                    self.scratch[0][i] = none_for_zero(bid)
                    self.scratch[1][i] = none_for_zero(ask)
                    if time_ns > self.newest_ns:
                        self.newest_ns = time_ns
                    self.kept[kept] = <int32_t>i
                    kept += 1
            self.verdicts[verdict] += 1
        return kept

    cdef Py_ssize_t _judge_limits(self, const LimitSpans* spans) noexcept nogil:
        cdef Py_ssize_t i, kept = 0
        cdef int verdict
        cdef int64_t time_ns
        cdef double upper, lower
        for i in range(spans.rows):
            time_ns = load_i64(spans.time_ns, i)
            verdict = self._judge_place(self.ids[i], time_ns, time_ns)
            if verdict == ACCEPTED:
                upper = load_f64(spans.upper, i)
                lower = load_f64(spans.lower, i)
                if not (is_price_or_none(upper) and is_price_or_none(lower)):
                    verdict = PRICE
                else:
                    self.scratch[0][i] = none_for_zero(upper)
                    self.scratch[1][i] = none_for_zero(lower)
                    if time_ns > self.newest_ns:
                        self.newest_ns = time_ns
                    self.kept[kept] = <int32_t>i
                    kept += 1
            self.verdicts[verdict] += 1
        return kept

    # ---- plumbing ----

    cdef int _translate(self, bytes_ptr symbol_id, Py_ssize_t rows, const int32_t[::1] id_map) except -1:
        """Fills `ids` with the sequencer's ids; ValueError before anything is counted."""
        cdef Py_ssize_t i, known = id_map.shape[0]
        cdef uint32_t feed_id
        self._reserve(rows)
        for i in range(rows):
            feed_id = load_u32(symbol_id, i)
            if feed_id >= known:
                raise ValueError(f"symbol_id: expected less than {known}, was {feed_id} in row {i}")
            self.ids[i] = <uint32_t>id_map[feed_id]
        return 0

    cdef int _note_future(self, bytes_ptr time_ns, Py_ssize_t rows) except -1:
        """Remembers who sends events of a later day: that is how a replayed feed changes the day."""
        # No session of this day is later than 20:00 and none of the next is before 04:00; an hour to
        # spare for a change to summer time.
        cdef int64_t next_day_ns = self.start_ns + 23 * HOUR
        cdef Py_ssize_t i
        cdef int64_t time
        if self.end_ns == 0:
            return 0
        for i in range(rows):
            time = load_i64(time_ns, i)
            if time >= next_day_ns and self.ids[i] != <uint32_t>-1 and time <= self.latest_ns:
                known = self.future_times.get(self.ids[i])
                if known is None and len(self.future_times) >= FUTURE_SYMBOLS:
                    continue
                if known is None or time < known:
                    self.future_times[self.ids[i]] = time
        return 0

    cdef int _reserve(self, Py_ssize_t rows) except -1:
        cdef int i
        cdef void* larger
        if rows <= self.capacity:
            return 0
        rows = max(rows, 2 * self.capacity)
        larger = realloc(self.ids, rows * sizeof(uint32_t))
        if larger == NULL:
            raise MemoryError(f"no room to admit {rows} rows")
        self.ids = <uint32_t*>larger
        larger = realloc(self.kept, rows * sizeof(int32_t))
        if larger == NULL:
            raise MemoryError(f"no room to admit {rows} rows")
        self.kept = <int32_t*>larger
        for i in range(SCRATCH_COLUMNS):
            larger = realloc(self.scratch[i], rows * sizeof(double))
            if larger == NULL:
                raise MemoryError(f"no room to admit {rows} rows")
            self.scratch[i] = <double*>larger
        self.capacity = rows
        return 0

    cdef bytes _gather_identities(self, Py_ssize_t kept):
        """Of the kept rows that have one; _judge_trades left them in the first scratch column."""
        cdef bytes message = PyBytes_FromStringAndSize(NULL, 8 * kept)
        cdef uint64_t* told = <uint64_t*>PyBytes_AS_STRING(message)
        cdef const uint64_t* identities = <const uint64_t*>self.scratch[0]
        cdef Py_ssize_t i, count = 0
        for i in range(kept):
            if identities[self.kept[i]]:
                told[count] = identities[self.kept[i]]
                count += 1
        return message if count == kept else message[:8 * count]

    cdef bytes _gather(self, int span, bytes_ptr* columns, int count, Py_ssize_t kept, Py_ssize_t rows):
        """The encoded batch of the kept rows: column 0 has 4 bytes an element, the others 8."""
        cdef Py_ssize_t size = 2 if span else 0
        cdef Py_ssize_t i
        cdef int column
        cdef bytes message
        cdef unsigned char* pos
        if kept == 0:
            return b""
        for column in range(count):
            size += 2 + varint_size(kept * (8 if column else 4)) + kept * (8 if column else 4)
        message = PyBytes_FromStringAndSize(NULL, size)
        pos = <unsigned char*>PyBytes_AS_STRING(message)
        if span:
            pos[0] = 1 << 3 | WIRE_VARINT
            pos[1] = <unsigned char>span
            pos += 2
        with nogil:
            for column in range(count):
                if column == 0:
                    pos = put_column_head(pos, column, 4, kept)
                    for i in range(kept):
                        memcpy(pos + 4 * i, columns[0] + 4 * self.kept[i], 4)
                    pos += 4 * kept
                    continue
                pos = put_column_head(pos, column, 8, kept)
                if kept == rows:
                    memcpy(pos, columns[column], 8 * kept)
                else:
                    for i in range(kept):
                        memcpy(pos + 8 * i, columns[column] + 8 * self.kept[i], 8)
                pos += 8 * kept
        return message


cdef inline bytes_ptr start_of(const unsigned char[::1] data) noexcept:
    return &data[0] if data.shape[0] else NULL
