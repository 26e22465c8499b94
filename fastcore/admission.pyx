# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Admission to the sequenced stream: bounds, duplicates, and the sequencer's symbol ids.

The sequencer admits every batch of the feed once; whatever comes out is in
the stream and every copy applies it without judging again. A bad row is set
aside and counted by its reason, the others go on. Rows are judged in the
order unknown_symbol, time_out_of_session, time_ahead, price, size, bar_shape,
duplicate; the first reason counts.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from fastcore.bounds cimport (
    ACCEPTED, DUPLICATE, TIME_AHEAD, TIME_OUT_OF_SESSION, UNKNOWN_SYMBOL, VERDICTS, BarValues, judge_bar, judge_limits,
    judge_quote, judge_trade,
)
from fastcore.columns cimport (
    BarSpans, LimitSpans, QuoteSpans, TradeSpans, parse_bars, parse_limits, parse_quotes, parse_trades,
    put_column_head,
)
from fastcore.dedup cimport RecentTrades, day_mark, identity
from fastcore.wire cimport WIRE_VARINT, bytes_ptr, load_f64, load_i64, load_u32, load_u64, varint_size

from fastcore.bounds import REASONS

cdef enum:
    AHEAD = 16                  # rows between a prefetch and its use
    SCRATCH_COLUMNS = 3         # identities, and columns that are rewritten
    MAX_LATER_DAYS = 64         # a month of trading days is what the calendar knows ahead
    MOST_SYMBOLS = 8            # of which a later day may need to be believed

# The id map's value for symbols that have no id of the sequencer.
cdef enum:
    REFUSED_ID = -1
    UNNAMED_ID = -2

# A trading day to come: its sessions' ends, and the first symbols of the feed with an event inside them.
cdef struct LaterDay:
    int64_t start_ns
    int64_t end_ns
    int symbols
    uint32_t[MOST_SYMBOLS] feed_ids

ctypedef double* double_ptr

cdef double NAN = float("nan")

MAX_TIME = 2**63 - 1
# In an id map: the symbol is refused; it gets an id with its first event that is admitted.
REFUSED = REFUSED_ID
UNNAMED = UNNAMED_ID


cdef inline double none_for_zero(double value) noexcept nogil:
    return NAN if value == 0 else value


cdef class Admission:
    """The gate in front of the stream.

    `max_remembered`: duplicates are recognised within this many to twice as
    many of the newest trades. `name`: gives the sequencer's id of a symbol of the
    feed that has none, or REFUSED. `day_symbols`: of so many there must be events
    of a later day until it is believed. Before set_bounds every event is out of session.
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
    cdef readonly int64_t aside_ns      # time of the last event that its time alone kept out; 0 before the first
    cdef object name
    cdef int day_symbols
    cdef LaterDay[MAX_LATER_DAYS] later
    cdef int later_days
    cdef readonly int64_t later_ns      # newest time of a later day in the last batch; 0 when it has none
    cdef uint32_t* ids                  # scratch, `capacity` rows each
    cdef uint32_t* feed_ids
    cdef Py_ssize_t rows                # of the batch that is judged
    cdef int named                      # symbols that it gave an id
    cdef int32_t* kept
    cdef double_ptr[SCRATCH_COLUMNS] scratch
    cdef Py_ssize_t capacity
    # Of the trades that the last admit_trades() accepted: by what a duplicate is recognised, 8 bytes each.
    cdef readonly bytes identities

    def __cinit__(self, int64_t max_remembered=2**24, name=None, int day_symbols=3):
        if not 1 <= day_symbols <= MOST_SYMBOLS:
            raise ValueError(f"day_symbols: expected 1 to {MOST_SYMBOLS}, was {day_symbols}")
        self.recent = RecentTrades(max_remembered)
        self.start_ns = self.end_ns = 0
        self.latest_ns = MAX_TIME
        self.known_conditions = 0xFFFFFFFFFFFFFFFFu
        self.name = name
        self.day_symbols = day_symbols
        self.later_days = 0
        self.identities = b""

    def __dealloc__(self):
        cdef int i
        free(self.ids)
        free(self.feed_ids)
        free(self.kept)
        for i in range(SCRATCH_COLUMNS):
            free(self.scratch[i])

    def __reduce__(self):
        raise TypeError("Admission cannot be pickled")

    def set_bounds(self, int64_t start_ns, int64_t end_ns, int64_t latest_ns=MAX_TIME):
        """Accepts event times in [start_ns, end_ns) and not after latest_ns.

        ValueError when start_ns is after end_ns.
        """
        if start_ns > end_ns:
            raise ValueError(f"expected start_ns <= end_ns, was {start_ns} > {end_ns}")
        if self.start_ns and start_ns != self.start_ns:
            # Of no use on another day. Before the first day they are those that remember() has brought.
            self.recent.forget()
        self.start_ns = start_ns
        self.end_ns = end_ns
        self.latest_ns = latest_ns
        self.day = day_mark(start_ns)

    def set_later_days(self, days):
        """The sessions' ends (start_ns, end_ns) of the trading days to come, ascending; no events of them have come.

        Those beyond 64 are left out. ValueError when they are not ascending, or begin before the day's end.
        """
        cdef int64_t last = self.end_ns
        cdef int i
        ends = [(int(start), int(end)) for start, end in days][:MAX_LATER_DAYS]
        for start, end in ends:
            if not last <= start <= end:
                raise ValueError(f"later days: expected ascending times from {last} on, was {start} to {end}")
            last = end
        self.later_days = len(ends)
        for i in range(self.later_days):
            self.later[i].start_ns, self.later[i].end_ns = ends[i]
        self.forget_later()

    def forget_later(self):
        """Whoever sent events of later days did not mean them, or has other ids now."""
        cdef int i
        for i in range(self.later_days):
            self.later[i].symbols = 0

    @property
    def later_symbols(self):
        """For each of the later days, how many symbols have sent events of its sessions; counted up to day_symbols."""
        return [self.later[i].symbols for i in range(self.later_days)]

    @property
    def begun_day(self):
        """The place in set_later_days() of the first day that is to be believed; -1 when there is none."""
        cdef int i
        for i in range(self.later_days):
            if self.later[i].symbols >= self.day_symbols:
                return i
        return -1

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

    # ---- one method per kind ----

    def admit_trades(self, const unsigned char[::1] batch not None, const int32_t[::1] id_map not None):
        """The rows of an encoded TradeBatch that may enter, and how many they are.

        `id_map[i]` is the sequencer's id of the feed's id i, REFUSED, or UNNAMED, for which `name` is
        called with the symbol's first row that may enter. Returns an encoded TradeBatch without trade_key
        (empty when nothing is left). ValueError when the batch is malformed or names an id that id_map
        does not have; nothing is counted then.
        """
        cdef TradeSpans spans
        cdef bytes_ptr[5] columns
        parse_trades(start_of(batch), batch.shape[0], &spans)
        self._translate(spans.symbol_id, spans.rows, id_map)
        cdef Py_ssize_t kept
        with nogil:
            kept = self._judge_trades(&spans)
        self.accepted_counts[0] += kept
        self.identities = self._gather_identities(kept)
        columns[0] = <bytes_ptr>self.ids
        columns[1] = spans.time_ns
        columns[2] = spans.price
        columns[3] = spans.size
        columns[4] = spans.conditions
        return self._gather(0, columns, 5, kept, spans.rows), kept

    def remember(self, bytes identities not None):
        """Takes over the `identities` of another Admission: these trades are duplicates on their own day.

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

    def admit_bars(self, const unsigned char[::1] batch not None, const int32_t[::1] id_map not None):
        """The same for a BarBatch of either span. Its day values (accumulated_volume, day_vwap,
        official_open) of 0 become absent."""
        cdef BarSpans spans
        cdef bytes_ptr[13] columns
        parse_bars(start_of(batch), batch.shape[0], &spans)
        self._translate(spans.symbol_id, spans.rows, id_map)
        cdef Py_ssize_t kept
        with nogil:
            kept = self._judge_bars(&spans)
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

    def admit_quotes(self, const unsigned char[::1] batch not None, const int32_t[::1] id_map not None):
        """The same for a QuoteBatch. A price of 0 (no bid, no offer) becomes absent."""
        cdef QuoteSpans spans
        cdef bytes_ptr[6] columns
        parse_quotes(start_of(batch), batch.shape[0], &spans)
        self._translate(spans.symbol_id, spans.rows, id_map)
        cdef Py_ssize_t kept
        with nogil:
            kept = self._judge_quotes(&spans)
        self.accepted_counts[2] += kept
        columns[0] = <bytes_ptr>self.ids
        columns[1] = spans.time_ns
        columns[2] = <bytes_ptr>self.scratch[0]
        columns[3] = <bytes_ptr>self.scratch[1]
        columns[4] = spans.bid_size
        columns[5] = spans.ask_size
        return self._gather(0, columns, 6, kept, spans.rows), kept

    def admit_limits(self, const unsigned char[::1] batch not None, const int32_t[::1] id_map not None):
        """The same for a LimitBatch. A band of 0 becomes absent."""
        cdef LimitSpans spans
        cdef bytes_ptr[5] columns
        parse_limits(start_of(batch), batch.shape[0], &spans)
        self._translate(spans.symbol_id, spans.rows, id_map)
        cdef Py_ssize_t kept
        with nogil:
            kept = self._judge_limits(&spans)
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
        if symbol_id == <uint32_t>REFUSED_ID:
            return UNKNOWN_SYMBOL
        if time_ns < self.start_ns or time_ns >= self.end_ns:
            return TIME_OUT_OF_SESSION
        if known_ns > self.latest_ns:
            return TIME_AHEAD
        return ACCEPTED

    cdef inline int _settle(self, int verdict, Py_ssize_t i, int fault, int64_t time_ns, int64_t known_ns) except -1 nogil:
        """The verdict on row i, of whose place `verdict` is and of whose values `fault`."""
        if verdict == ACCEPTED:
            if fault:
                return fault
            if self.ids[i] == <uint32_t>UNNAMED_ID:
                with gil:
                    self._name(i)
                if self.ids[i] == <uint32_t>REFUSED_ID:
                    return UNKNOWN_SYMBOL
        elif (verdict == TIME_OUT_OF_SESSION or verdict == TIME_AHEAD) and not fault:
            self.aside_ns = known_ns
            if verdict == TIME_OUT_OF_SESSION and time_ns >= self.end_ns and known_ns <= self.latest_ns:
                self._note_later(self.feed_ids[i], time_ns)
        return verdict

    cdef int _name(self, Py_ssize_t i) except -1:
        """Gives row i's symbol its id; rows behind it find it there."""
        cdef int32_t symbol_id = REFUSED_ID
        cdef Py_ssize_t k
        self.named += 1
        if self.name is not None:
            symbol_id = self.name(self.feed_ids[i])
        for k in range(i, self.rows):
            if self.feed_ids[k] == self.feed_ids[i]:
                self.ids[k] = <uint32_t>symbol_id
        return 0

    cdef void _note_later(self, uint32_t feed_id, int64_t time_ns) noexcept nogil:
        """An event that only its day's not being the one in force keeps out: that is how a feed changes the day."""
        cdef LaterDay* day
        cdef int i, k
        for i in range(self.later_days):
            day = &self.later[i]
            if time_ns < day.start_ns:
                return
            if time_ns < day.end_ns:
                if time_ns > self.later_ns:
                    self.later_ns = time_ns
                if day.symbols == self.day_symbols:
                    return
                for k in range(day.symbols):
                    if day.feed_ids[k] == feed_id:
                        return
                day.feed_ids[day.symbols] = feed_id
                day.symbols += 1
                return

    cdef Py_ssize_t _judge_trades(self, const TradeSpans* spans) except -1 nogil:
        cdef Py_ssize_t i, kept = 0
        cdef int verdict
        cdef int64_t time_ns
        cdef uint64_t conditions, key
        cdef uint64_t* identities = <uint64_t*>self.scratch[0]
        for i in range(spans.rows):
            key = load_u64(spans.trade_key, i) if spans.trade_key != NULL else 0
            identities[i] = identity(key, self.ids[i], self.day) if key else 0
        for i in range(spans.rows):
            if i + AHEAD < spans.rows and identities[i + AHEAD]:
                self.recent.prefetch(identities[i + AHEAD])
            time_ns = load_i64(spans.time_ns, i)
            conditions = load_u64(spans.conditions, i)
            verdict = self._settle(
                self._judge_place(self.ids[i], time_ns, time_ns), i,
                judge_trade(load_f64(spans.price, i), load_f64(spans.size, i), conditions), time_ns, time_ns,
            )
            if verdict == ACCEPTED:
                if self.named and identities[i]:
                    # It may have had no id when the identities were made.
                    identities[i] = identity(load_u64(spans.trade_key, i), self.ids[i], self.day)
                if identities[i] and self.recent.seen(identities[i]):
                    verdict = DUPLICATE
                else:
                    self.unknown_conditions += (conditions & ~self.known_conditions) != 0
                    if time_ns > self.newest_ns:
                        self.newest_ns = time_ns
                    self.kept[kept] = <int32_t>i
                    kept += 1
            self.verdicts[verdict] += 1
        return kept

    cdef Py_ssize_t _judge_bars(self, const BarSpans* spans) except -1 nogil:
        cdef Py_ssize_t i, kept = 0
        cdef int verdict
        cdef BarValues bar
        for i in range(spans.rows):
            bar.start_ns = load_i64(spans.start_ns, i)
            bar.end_ns = load_i64(spans.end_ns, i)
            bar.open = load_f64(spans.open, i)
            bar.high = load_f64(spans.high, i)
            bar.low = load_f64(spans.low, i)
            bar.close = load_f64(spans.close, i)
            bar.volume = load_f64(spans.volume, i)
            bar.accumulated_volume = load_f64(spans.accumulated_volume, i)
            bar.day_vwap = load_f64(spans.day_vwap, i)
            bar.official_open = load_f64(spans.official_open, i)
            bar.vwap = load_f64(spans.vwap, i)
            bar.average_size = load_f64(spans.average_size, i)
            verdict = self._settle(
                self._judge_place(self.ids[i], bar.start_ns, bar.end_ns), i, judge_bar(&bar), bar.start_ns, bar.end_ns
            )
            if verdict == ACCEPTED:
                self.scratch[0][i] = none_for_zero(bar.accumulated_volume)
                self.scratch[1][i] = none_for_zero(bar.day_vwap)
                self.scratch[2][i] = none_for_zero(bar.official_open)
                if bar.end_ns > self.newest_ns:
                    self.newest_ns = bar.end_ns
                self.kept[kept] = <int32_t>i
                kept += 1
            self.verdicts[verdict] += 1
        return kept

    cdef Py_ssize_t _judge_quotes(self, const QuoteSpans* spans) except -1 nogil:
        cdef Py_ssize_t i, kept = 0
        cdef int verdict
        cdef int64_t time_ns
        cdef double bid, ask
        for i in range(spans.rows):
            time_ns = load_i64(spans.time_ns, i)
            bid = load_f64(spans.bid, i)
            ask = load_f64(spans.ask, i)
            verdict = self._settle(
                self._judge_place(self.ids[i], time_ns, time_ns), i,
                judge_quote(bid, ask, load_f64(spans.bid_size, i), load_f64(spans.ask_size, i)), time_ns, time_ns,
            )
            if verdict == ACCEPTED:
                self.scratch[0][i] = none_for_zero(bid)
                self.scratch[1][i] = none_for_zero(ask)
                if time_ns > self.newest_ns:
                    self.newest_ns = time_ns
                self.kept[kept] = <int32_t>i
                kept += 1
            self.verdicts[verdict] += 1
        return kept

    cdef Py_ssize_t _judge_limits(self, const LimitSpans* spans) except -1 nogil:
        cdef Py_ssize_t i, kept = 0
        cdef int verdict
        cdef int64_t time_ns
        cdef double upper, lower
        for i in range(spans.rows):
            time_ns = load_i64(spans.time_ns, i)
            upper = load_f64(spans.upper, i)
            lower = load_f64(spans.lower, i)
            verdict = self._settle(
                self._judge_place(self.ids[i], time_ns, time_ns), i, judge_limits(upper, lower), time_ns, time_ns
            )
            if verdict == ACCEPTED:
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
        self.rows = rows
        self.named = 0
        self.later_ns = 0
        for i in range(rows):
            feed_id = load_u32(symbol_id, i)
            if feed_id >= known:
                raise ValueError(f"symbol_id: expected less than {known}, was {feed_id} in row {i}")
            self.feed_ids[i] = feed_id
            self.ids[i] = <uint32_t>id_map[feed_id]
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
        larger = realloc(self.feed_ids, rows * sizeof(uint32_t))
        if larger == NULL:
            raise MemoryError(f"no room to admit {rows} rows")
        self.feed_ids = <uint32_t*>larger
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
        cdef uint64_t* encoded = <uint64_t*>PyBytes_AS_STRING(message)
        cdef const uint64_t* identities = <const uint64_t*>self.scratch[0]
        cdef Py_ssize_t i, count = 0
        for i in range(kept):
            if identities[self.kept[i]]:
                encoded[count] = identities[self.kept[i]]
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
