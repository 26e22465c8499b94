# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The vendor's JSON messages to columns, at the speed of the feed.

Plain elements are scanned and appended without the GIL; whatever is unusual in
the least goes, this element alone, to fastcore.feed_elements, which says whether
it is malformed. The scanner takes nothing that the careful way would read otherwise.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastcore.columns cimport BarColumns, LimitColumns, QuoteColumns, TradeColumns, _Columns
from fastcore.dedup cimport hash_trade, mix64
from fastcore.feed_scanner cimport (
    A, AP, AS, AV, BP, BS, C, DAV, DS, DV, E, EV, H, I, L, O, OP, P, S, SLOTS, SYM, T, TEXT, TICKER, TRFI, V, VW, X, Z,
    Value, amount_of, mask_of, number_of, optional_of, plain_element, skip_space, text_ptr, time_of, value_end, venue_of,
)
from fastcore.wire cimport Writer, write_length_field, write_varint_field, writer_bytes, writer_free, writer_init

import msgspec

from fastcore.bounds import fault_of
from fastcore.feed_elements import KINDS, Rejected, Status, read_element

# The outcome of an element.
cdef enum:
    DONE = 0
    CAREFUL = 1         # for feed_elements
    UNKNOWN_EVENT = 2
    NO_ROOM = 3         # the columns are full

cdef enum:
    LIMITS, QUOTES, MINUTE_BARS, SECOND_BARS, TRADES
    KIND_COUNT
    FIRST_BATCH_FIELD = 4       # MarketBatch.limits; the others follow in the order above

cdef enum:
    MAX_SYMBOL = 12

cdef struct Symbol:
    uint64_t low        # the first 8 characters
    uint64_t high       # the other 4, and the length in the highest byte; 0 is an empty place
    uint32_t id


cdef inline Symbol symbol_key(text_ptr text, size_t length) noexcept nogil:
    cdef Symbol key
    key.low = 0
    key.high = 0
    key.id = 0
    memcpy(&key.low, text, length if length < 8 else 8)
    if length > 8:
        memcpy(&key.high, text + 8, length - 8)
    key.high |= <uint64_t>length << 56
    return key


cdef class FeedDecoder:
    """The vendor's JSON messages to columns; see the .pyi."""

    cdef readonly int max_symbols
    cdef readonly dict rejected
    cdef readonly int64_t slow_elements
    cdef readonly int64_t last_trade_ns
    cdef list _symbols
    cdef Py_ssize_t _sent_symbols
    cdef Symbol* _table
    cdef size_t _places
    cdef TradeColumns _trades
    cdef BarColumns _second_bars
    cdef BarColumns _minute_bars
    cdef QuoteColumns _quotes
    cdef LimitColumns _limits
    cdef tuple _columns
    cdef int64_t[KIND_COUNT] _taken

    def __cinit__(self):
        self._table = NULL

    def __init__(self, int max_symbols=2**17):
        if not 1 <= max_symbols <= 2**24:
            raise ValueError(f"max_symbols: expected 1 to {2**24}, was {max_symbols}")
        self.max_symbols = max_symbols
        self.rejected = {}
        self.slow_elements = 0
        self.last_trade_ns = 0
        self._symbols = []
        self._sent_symbols = 0
        self._trades = TradeColumns()
        self._second_bars = BarColumns(1)
        self._minute_bars = BarColumns(2)
        self._quotes = QuoteColumns()
        self._limits = LimitColumns()
        self._columns = (self._limits, self._quotes, self._minute_bars, self._second_bars, self._trades)
        memset(self._taken, 0, sizeof(self._taken))
        free(self._table)
        self._places = 1024
        self._table = <Symbol*>calloc(self._places, sizeof(Symbol))
        if self._table == NULL:
            raise MemoryError("no memory for the symbol table")

    def __dealloc__(self):
        free(self._table)

    def __reduce__(self):
        raise TypeError("FeedDecoder cannot be pickled")

    @property
    def symbols(self):
        return list(self._symbols)

    @property
    def symbol_count(self):
        return len(self._symbols)

    @property
    def rows(self):
        return self._rows()

    @property
    def totals(self):
        return {kind: self._taken[i] + len(self._columns[i]) for i, kind in enumerate(KINDS)}

    def decode(self, frame):
        """Adds the events of one message; returns what it says about the connection."""
        cdef Py_buffer view
        cdef list statuses = []
        cdef dict rejected = {}
        cdef Py_ssize_t symbols = len(self._symbols)
        cdef Py_ssize_t[KIND_COUNT] rows
        cdef int64_t last_trade_ns = self.last_trade_ns
        cdef int i
        cdef str reason = None
        for i in range(KIND_COUNT):
            rows[i] = (<_Columns>self._columns[i]).rows
        PyObject_GetBuffer(frame, &view, PyBUF_SIMPLE)
        try:
            reason = self._decode(<text_ptr>view.buf, <text_ptr>view.buf + view.len, statuses, rejected)
        finally:
            PyBuffer_Release(&view)
        if reason is None:
            for key in rejected:
                self.rejected[key] = self.rejected.get(key, 0) + rejected[key]
            return statuses
        # The message adds nothing.
        self.rejected[reason] = self.rejected.get(reason, 0) + 1
        self.last_trade_ns = last_trade_ns
        for i in range(KIND_COUNT):
            (<_Columns>self._columns[i]).rows = rows[i]
        self._forget_symbols(symbols)
        return []

    def take(self):
        """The encoded MarketBatch, without position, of what was decoded since the last take."""
        cdef Writer writer
        cdef _Columns columns
        cdef bytes part
        cdef int i
        cdef Py_ssize_t count = len(self._symbols)
        if self._sent_symbols == count and self._rows() == 0:
            return b""
        writer_init(&writer, 4096)
        try:
            if self._sent_symbols < count:
                if self._sent_symbols:
                    write_varint_field(&writer, 2, self._sent_symbols)
                for symbol in self._symbols[self._sent_symbols:]:
                    part = symbol.encode()
                    write_length_field(&writer, 3, <const char*>part, len(part))
            for i in range(KIND_COUNT):
                columns = self._columns[i]
                if columns.rows:
                    part = columns.encode()
                    write_length_field(&writer, FIRST_BATCH_FIELD + i, <const char*>part, len(part))
            batch = writer_bytes(&writer)
        finally:
            writer_free(&writer)
        self._sent_symbols = count
        for i in range(KIND_COUNT):
            columns = self._columns[i]
            self._taken[i] += columns.rows
            columns.clear()
        return batch

    cdef Py_ssize_t _rows(self):
        return (
            self._limits.rows + self._quotes.rows + self._minute_bars.rows + self._second_bars.rows + self._trades.rows
        )

    # ---- messages ----

    cdef str _decode(self, text_ptr pos, text_ptr end, list statuses, dict rejected):
        """None, or why the whole message is set aside."""
        cdef int outcome = DONE
        cdef text_ptr begin = pos
        cdef text_ptr element
        cdef bint is_first = True
        pos = skip_space(pos, end)
        if pos == end or pos[0] != c'[':
            return self._judge(begin, end)
        pos = skip_space(pos + 1, end)
        if pos < end and pos[0] == c']':
            pos = skip_space(pos + 1, end)
            return None if pos == end else "malformed_json"
        while True:
            with nogil:
                pos = self._scan(pos, end, &outcome)
            if outcome == DONE:
                # Behind the closing bracket.
                return None if skip_space(pos, end) == end else "malformed_json"
            if outcome == NO_ROOM:
                for columns in self._columns:
                    if (<_Columns>columns).rows == (<_Columns>columns).capacity:
                        (<_Columns>columns).grow()
                continue
            element = value_end(pos, end)
            if element == NULL:
                return "malformed_json"
            if outcome == UNKNOWN_EVENT:
                rejected["unknown_event"] = rejected.get("unknown_event", 0) + 1
            elif not self._read_carefully(pos, element, statuses, rejected):
                return "malformed_json"
            pos = element
            if pos[0] == c']':
                return None if skip_space(pos + 1, end) == end else "malformed_json"
            if pos[0] != c',':
                return "malformed_json"
            pos = skip_space(pos + 1, end)

    cdef str _judge(self, text_ptr begin, text_ptr end):
        """Why a message that does not begin with a bracket is set aside."""
        try:
            msgspec.json.decode((<const char*>begin)[:end - begin], type=msgspec.Raw)
        except MALFORMED:
            return "malformed_json"
        return "not_an_array"

    cdef bint _read_carefully(self, text_ptr begin, text_ptr end, list statuses, dict rejected) except -1:
        """Has feed_elements read one element; False when it is not JSON."""
        cdef bytes raw = (<const char*>begin)[:end - begin]
        self.slow_elements += 1
        try:
            msgspec.json.decode(raw, type=msgspec.Raw)
        except MALFORMED:
            return False
        try:
            event = read_element(raw)
            if isinstance(event, Status):
                statuses.append(event)
                return True
            symbol_id = self._symbol_id(event)
        except Rejected as error:
            reason = str(error)
            rejected[reason] = rejected.get(reason, 0) + 1
            return True
        columns = self._columns[KINDS.index(event.kind)]
        columns.append(symbol_id, *event.values)
        if columns is self._trades:
            self.last_trade_ns = event.values[0]
        return True

    # ---- elements ----

    cdef text_ptr _scan(self, text_ptr pos, text_ptr end, int* outcome) noexcept nogil:
        """Appends plain elements until one needs care, room, or the array ends.

        Returns where that element begins, or the place behind the closing bracket.
        """
        cdef Value[SLOTS] slots
        cdef uint32_t seen = 0
        cdef text_ptr begin
        while True:
            begin = pos
            pos = plain_element(begin, end, slots, &seen)
            if pos == NULL:
                outcome[0] = CAREFUL
                return begin
            pos = skip_space(pos, end)
            # Whatever else follows is for the careful way to judge.
            if pos >= end or (pos[0] != c',' and pos[0] != c']'):
                outcome[0] = CAREFUL
                return begin
            outcome[0] = self._append(slots, seen)
            if outcome[0] != DONE:
                return begin
            if pos[0] == c']':
                return pos + 1
            pos = skip_space(pos + 1, end)

    cdef int _append(self, const Value* slots, uint32_t seen) noexcept nogil:
        """Appends the event in the slots; nothing is appended unless the answer is DONE."""
        cdef text_ptr event = slots[EV].text
        cdef size_t length = slots[EV].length
        if not seen >> EV & 1 or slots[EV].kind != TEXT:
            return CAREFUL
        if length == 1:
            if event[0] == c'T':
                return self._append_trade(slots, seen, self._trades)
            if event[0] == c'A':
                return self._append_bar(slots, seen, self._second_bars)
            if event[0] == c'Q':
                return self._append_quote(slots, seen, self._quotes)
        elif length == 2 and event[0] == c'A' and event[1] == c'M':
            return self._append_bar(slots, seen, self._minute_bars)
        elif length == 4 and event[0] == c'L' and event[1] == c'U' and event[2] == c'L' and event[3] == c'D':
            return self._append_limit(slots, seen, self._limits)
        elif length == 6:       # "status"
            return CAREFUL
        return UNKNOWN_EVENT

    cdef int _append_trade(self, const Value* slots, uint32_t seen, TradeColumns columns) noexcept nogil:
        cdef Py_ssize_t i = columns.rows
        cdef uint32_t symbol_id = 0
        cdef int64_t time_ns = 0, exchange = 0, trf = 0
        cdef double price = 0, size = 0
        cdef uint64_t conditions = 0, key = 0
        cdef uint32_t needed = <uint32_t>1 << SYM | <uint32_t>1 << T | <uint32_t>1 << P
        if (
            seen & needed != needed
            or not time_of(&slots[T], &time_ns)
            or not number_of(&slots[P], &price)
            or not amount_of(slots, seen, DS, S, &size)
            or not mask_of(slots, seen, C, &conditions)
            or not venue_of(slots, seen, X, &exchange)
            or not venue_of(slots, seen, TRFI, &trf)
            or not self._find(&slots[SYM], &symbol_id)
        ):
            return CAREFUL
        if seen >> I & 1:
            if slots[I].kind != TEXT:
                return CAREFUL
            key = hash_trade(exchange, trf, <const char*>slots[I].text, slots[I].length)
        if i == columns.capacity:
            return NO_ROOM
        (<uint32_t*>columns.data[0])[i] = symbol_id
        (<int64_t*>columns.data[1])[i] = time_ns
        (<double*>columns.data[2])[i] = price
        (<double*>columns.data[3])[i] = size
        (<uint64_t*>columns.data[4])[i] = conditions
        (<uint64_t*>columns.data[5])[i] = key
        columns.rows = i + 1
        self.last_trade_ns = time_ns
        return DONE

    cdef int _append_bar(self, const Value* slots, uint32_t seen, BarColumns columns) noexcept nogil:
        cdef Py_ssize_t i = columns.rows
        cdef uint32_t symbol_id = 0
        cdef int64_t start_ns = 0, end_ns = 0
        cdef double[10] numbers
        cdef int k
        cdef uint32_t needed = (
            <uint32_t>1 << SYM | <uint32_t>1 << S | <uint32_t>1 << E | <uint32_t>1 << O | <uint32_t>1 << H
            | <uint32_t>1 << L | <uint32_t>1 << C
        )
        if (
            seen & needed != needed
            or not time_of(&slots[S], &start_ns)
            or not time_of(&slots[E], &end_ns)
            or not number_of(&slots[O], &numbers[0])
            or not number_of(&slots[H], &numbers[1])
            or not number_of(&slots[L], &numbers[2])
            or not number_of(&slots[C], &numbers[3])
            or not amount_of(slots, seen, DV, V, &numbers[4])
            or not optional_of(slots, seen, A, &numbers[6])
            or not optional_of(slots, seen, OP, &numbers[7])
            or not optional_of(slots, seen, VW, &numbers[8])
            or not optional_of(slots, seen, Z, &numbers[9])
            or not self._find(&slots[SYM], &symbol_id)
        ):
            return CAREFUL
        if seen >> DAV & 1:
            if not amount_of(slots, seen, DAV, AV, &numbers[5]):
                return CAREFUL
        elif not optional_of(slots, seen, AV, &numbers[5]):
            return CAREFUL
        if i == columns.capacity:
            return NO_ROOM
        (<uint32_t*>columns.data[0])[i] = symbol_id
        (<int64_t*>columns.data[1])[i] = start_ns
        (<int64_t*>columns.data[2])[i] = end_ns
        for k in range(10):
            (<double*>columns.data[3 + k])[i] = numbers[k]
        columns.rows = i + 1
        return DONE

    cdef int _append_quote(self, const Value* slots, uint32_t seen, QuoteColumns columns) noexcept nogil:
        cdef Py_ssize_t i = columns.rows
        cdef uint32_t symbol_id = 0
        cdef int64_t time_ns = 0
        cdef double[4] numbers
        cdef int k
        cdef uint32_t needed = <uint32_t>1 << SYM | <uint32_t>1 << T
        if (
            seen & needed != needed
            or not time_of(&slots[T], &time_ns)
            or not optional_of(slots, seen, BP, &numbers[0])
            or not optional_of(slots, seen, AP, &numbers[1])
            or not optional_of(slots, seen, BS, &numbers[2])
            or not optional_of(slots, seen, AS, &numbers[3])
            or not self._find(&slots[SYM], &symbol_id)
        ):
            return CAREFUL
        if i == columns.capacity:
            return NO_ROOM
        (<uint32_t*>columns.data[0])[i] = symbol_id
        (<int64_t*>columns.data[1])[i] = time_ns
        for k in range(4):
            (<double*>columns.data[2 + k])[i] = numbers[k]
        columns.rows = i + 1
        return DONE

    cdef int _append_limit(self, const Value* slots, uint32_t seen, LimitColumns columns) noexcept nogil:
        cdef Py_ssize_t i = columns.rows
        cdef uint32_t symbol_id = 0
        cdef int64_t time_ns = 0
        cdef double upper = 0, lower = 0
        cdef uint64_t indicators = 0
        cdef uint32_t needed = <uint32_t>1 << TICKER | <uint32_t>1 << T
        if (
            seen & needed != needed
            or not time_of(&slots[T], &time_ns)
            or not optional_of(slots, seen, H, &upper)
            or not optional_of(slots, seen, L, &lower)
            or not mask_of(slots, seen, I, &indicators)
            or not self._find(&slots[TICKER], &symbol_id)
        ):
            return CAREFUL
        if i == columns.capacity:
            return NO_ROOM
        (<uint32_t*>columns.data[0])[i] = symbol_id
        (<int64_t*>columns.data[1])[i] = time_ns
        (<double*>columns.data[2])[i] = upper
        (<double*>columns.data[3])[i] = lower
        (<uint64_t*>columns.data[4])[i] = indicators
        columns.rows = i + 1
        return DONE

    # ---- symbols ----

    cdef Symbol* _place(self, const Symbol* key) noexcept nogil:
        """Where the symbol is, or the empty place for it."""
        cdef size_t i = mix64(key.low ^ mix64(key.high)) & (self._places - 1)
        while self._table[i].high and (self._table[i].low != key.low or self._table[i].high != key.high):
            i = (i + 1) & (self._places - 1)
        return &self._table[i]

    cdef int _find(self, const Value* symbol, uint32_t* symbol_id) noexcept nogil:
        """The id of a symbol that is known; a new one goes the careful way once."""
        cdef Symbol key
        cdef Symbol* place
        if symbol.kind != TEXT or symbol.length == 0 or symbol.length > MAX_SYMBOL:
            return 0
        key = symbol_key(symbol.text, symbol.length)
        place = self._place(&key)
        symbol_id[0] = place.id
        return place.high != 0

    cdef uint32_t _symbol_id(self, event) except? 0xFFFFFFFF:
        """The id of an event's symbol, which is given one when it is new and the event is not to be set aside anyway."""
        cdef str symbol = event.symbol
        cdef str fault
        cdef bytes text = symbol.encode("ascii")
        cdef Symbol key = symbol_key(<text_ptr>text, len(text))
        cdef Symbol* place = self._place(&key)
        if place.high:
            return place.id
        fault = fault_of(event.kind, event.values)
        if fault:
            raise Rejected(fault)
        if len(self._symbols) == self.max_symbols:
            raise Rejected("symbol_table_full")
        key.id = <uint32_t>len(self._symbols)
        self._symbols.append(symbol)
        if 2 * <size_t>len(self._symbols) > self._places:
            self._grow_table()
            place = self._place(&key)
        place[0] = key
        return key.id

    cdef int _grow_table(self) except -1:
        cdef Symbol* old = self._table
        cdef size_t places = self._places
        cdef size_t i
        cdef Symbol* larger = <Symbol*>calloc(2 * places, sizeof(Symbol))
        if larger == NULL:
            raise MemoryError(f"no memory for {places} symbols")
        self._table = larger
        self._places = 2 * places
        for i in range(places):
            if old[i].high:
                self._place(&old[i])[0] = old[i]
        free(old)
        return 0

    cdef int _forget_symbols(self, Py_ssize_t count) except -1:
        """Takes back all but the first `count` symbols."""
        cdef size_t i
        if len(self._symbols) == count:
            return 0
        del self._symbols[count:]
        memset(self._table, 0, self._places * sizeof(Symbol))
        for i in range(<size_t>count):
            text = self._symbols[i].encode("ascii")
            key = symbol_key(<text_ptr><const char*>text, len(text))
            key.id = <uint32_t>i
            self._place(&key)[0] = key
        return 0


# msgspec meets invalid UTF-8 only when it makes the text.
MALFORMED = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
