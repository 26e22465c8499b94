# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""One copy of the market: MarketState and the ranked lists over it, a function of the stream's frames."""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from fastcore.alert_book cimport AlertBook
from fastcore.filters cimport Filter, Order
from fastcore.list_book cimport ListBook
from fastcore.list_messages cimport Moment
from fastcore.market_state cimport MarketState
from fastcore.memory cimport ROOM
from fastcore.prepared_buffer cimport PreparedBuffer
from fastcore.ranked_list cimport ListUpdate, RankedList
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_LENGTH, WIRE_VARINT, Cursor, Field, Writer, begin_message, cursor_of, end_message, enter,
    next_field, raise_wire_error, write_varint_field, writer_bytes, writer_free, writer_init,
)

from fastcore.alert_rules import AlertRuleError, compile_rule, read_disabled_rules, read_rules

cdef enum:
    # Of a snapshot, as measured: a row with its part of the lists and alerts, its windows short; a baseline of 192 slots.
    BYTES_OF_ROW = 3 * 1024
    BYTES_OF_BASELINE = 5 * 1024
    # Of Frame.
    POSITION = 1
    LIST_FILTERS = 7
    WATERMARK = 13


cdef class Market:
    """The market of one epoch.

    `definitions`: the built-in lists, ListSpec of services/kit/lists/definitions.py; FilterError
    (a ValueError) when one has a wrong filter or order. With `encode_deltas=False`
    lists and sequences are kept as ever, but ListUpdate.delta stays empty (scans'
    excepted). Not for several threads at once.
    """

    def __init__(self, definitions, unsigned int epoch, bint encode_deltas=True):
        self.state = MarketState()
        self.epoch = epoch
        self.book = ListBook(definitions, encode_deltas)
        self.alert_book = AlertBook()
        self.alert_events = []
        self.book.refreshed = self.moment()
        for ranked in self.book.lists.values():
            (<RankedList>ranked).moment = self.book.refreshed

    cdef Moment moment(self):
        cdef Moment moment
        moment.epoch = self.epoch
        moment.sequence = self.sequence
        moment.time_ns = self.state.now_ns
        return moment

    cdef int bring_to_now(self) except -1:
        """Derived columns as of the last frame; what was worked out from older ones is no longer used."""
        if not self.is_now:
            self.state.refresh()
            self.book.work.begin(self.state)
            self.is_now = True
        return 0

    def apply(self, const unsigned char[::1] frame not None):
        """Applies the next encoded Frame: list[ListUpdate] of the lists that it changed.

        Only watermarks change lists. Built-in lists come in the order of their
        definitions, scans after them. ValueError for a frame that cannot be
        applied: the copy is then no longer to be used.
        """
        cdef list updates
        cdef ListUpdate update
        if not self.take(frame):
            return []
        updates = self.refresh()
        for scan in self.book.scans.values():
            update = self.refresh_scan(scan)
            if update is not None:
                updates.append(update)
        return updates

    cpdef bint take(self, const unsigned char[::1] frame) except -1:
        """Applies the next encoded Frame but for the lists; returns True when refresh() has to be the next call.

        ValueError as for apply().
        """
        if frame is None:
            raise TypeError("frame: expected an encoded Frame, was None")
        self._check_refreshed()
        cdef Cursor cursor = cursor_of(&frame[0] if frame.shape[0] else NULL, frame.shape[0])
        cdef Field field
        cdef Field position
        cdef Field filters
        cdef bint is_watermark = False
        cdef int status = next_field(&cursor, &field)
        position.data = filters.data = NULL
        while status == WIRE_FIELD:
            if field.wire_type == WIRE_LENGTH:
                if field.number == POSITION:
                    position = field
                elif field.number == LIST_FILTERS:
                    filters = field
                elif field.number == WATERMARK:
                    is_watermark = True
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"Frame")
        self._take_position(position.data, position.length if position.data != NULL else 0)
        self.is_now = False
        self.state.apply(frame)
        if filters.data != NULL:
            self.book.set_filters(filters.data, filters.length)
        if is_watermark:
            self.due = Due.REFRESH
        return is_watermark

    cpdef list refresh(self):
        """Publishes the built-in lists anew, as apply() does at a watermark: list[ListUpdate] of those that changed.

        `alert_events` are then those of this watermark.
        """
        cdef list updates = self.refresh_lists()
        self.refresh_alerts()
        return updates

    cpdef list refresh_lists(self):
        """The same without the alerts, which refresh_alerts() looks for before anything else changes the market."""
        cdef Moment moment
        cdef list updates
        if self.due == Due.ALERTS:
            self._check_refreshed()
        self.bring_to_now()
        moment = self.moment()
        self.alert_events = []
        updates = self.book.refresh(self.state, &moment)
        self.due = Due.ALERTS
        return updates

    cpdef int refresh_alerts(self) except -1:
        """`alert_events` are from now on those of the watermark whose lists have just been refreshed."""
        if self.due == Due.ALERTS:
            self.due = Due.NOTHING
            self.alert_events = self.alert_book.refresh(self.state, self.book)
        return 0

    cdef int _check_refreshed(self) except -1:
        if self.due == Due.ALERTS:
            raise ValueError(f"expected refresh_alerts() first, after refresh_lists() at {self.epoch}/{self.sequence}")
        if self.due == Due.REFRESH:
            raise ValueError(f"expected refresh() first, after the watermark at {self.epoch}/{self.sequence}")
        return 0

    cdef int _take_position(self, const unsigned char* data, size_t length) except -1:
        cdef Cursor cursor = cursor_of(data, length)
        cdef Field field
        cdef uint64_t epoch = 0, sequence = 0
        cdef int status = next_field(&cursor, &field)
        while status == WIRE_FIELD:
            if field.wire_type == WIRE_VARINT and field.number == 1:
                epoch = field.value
            elif field.wire_type == WIRE_VARINT and field.number == 2:
                sequence = field.value
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"StreamPosition")
        if epoch != self.epoch or not self.sequence < sequence < <uint64_t>1 << 32:
            raise ValueError(f"expected a frame of epoch {self.epoch} after sequence {self.sequence}, "
                             f"was {epoch}/{sequence}")
        self.sequence = <uint32_t>sequence
        return 0

    # --- the built-in lists

    @property
    def list_names(self):
        """The names of the built-in lists, in the order of their definitions."""
        return list(self.book.lists)

    @property
    def ranked_rows(self):
        """Rows that lists, scans and queries have looked at, in all: what ranking costs."""
        return self.book.work.ranked_rows

    def list_sequence(self, str name not None):
        """How often a list has changed in this epoch; 0 while it is empty from the start. KeyError for no list."""
        return self.book.get(name).sequence

    def list_count(self, str name not None):
        """Rows of a list as published."""
        return self.book.get(name).count

    def snapshot(self, str name not None, limit=None):
        """A list as last published, its first `limit` rows: an encoded RankedList.

        More rows than the list's own limit are selected from the state of now by
        the list's filters. KeyError for no list, ValueError for a limit below 1.
        """
        cdef RankedList ranked = self.book.get(name)
        cdef Moment moment
        cdef int rows = ranked.limit if limit is None else limit
        if rows < 1:
            raise ValueError(f"list {name}: expected a limit of at least 1, was {rows}")
        # A list that is not full has all the rows there are.
        if rows <= ranked.limit or ranked.count < ranked.limit:
            return ranked.snapshot(rows)
        self.bring_to_now()
        moment = self.moment()
        return self.book.fresh(self.state, &moment, name, rows)

    def difference(self, Market old not None, str name not None):
        """The encoded ListDelta that turns a list of `old`, an earlier copy of the same epoch, into the list here.

        ValueError when `old` is of another epoch or further on.
        """
        cdef RankedList ours = self.book.get(name)
        cdef RankedList theirs = old.book.get(name)
        if old.epoch != self.epoch or theirs.sequence > ours.sequence or old.state.count > self.state.count:
            raise ValueError(
                f"list {name}: expected an earlier copy than {self.epoch}/{ours.sequence} of "
                f"{self.state.count} symbols, was {old.epoch}/{theirs.sequence} of {old.state.count}"
            )
        self.bring_to_now()
        return ours.difference(theirs, self.book.work)

    @property
    def alert_sequence(self):
        """The sequence of the last alert of this epoch, 0 before the first."""
        return self.state.alerts.sequence

    @property
    def alert_rules(self):
        """The rules in force: list[AlertRule] of fastcore/alert_rules.py."""
        return read_rules(self.state.alerts.rules)

    @property
    def disabled_alert_rules(self):
        """The rules that are switched off: list[AlertRule]."""
        return read_disabled_rules(self.state.alerts.rules)

    @property
    def alert_rules_message(self):
        """The last AlertRules of the stream, encoded; b"" before the first."""
        return self.state.alerts.rules

    @property
    def alert_counts(self):
        """How many alerts the rules in force have had today: name -> number."""
        counts = {}
        for rule in read_rules(self.state.alerts.rules):
            try:
                counts.setdefault(rule.name, self.state.alerts.count_of(compile_rule(rule).key))
            except AlertRuleError:
                counts.setdefault(rule.name, 0)
        return counts

    @property
    def list_filters_message(self):
        """The last ListFilters of the stream, encoded; b"" before the first."""
        return self.book.filters_message

    @property
    def alert_looks(self):
        """Rows that the alert rules have looked at, in all: what alerts cost."""
        return self.alert_book.looks

    @property
    def ignored_alert_rules(self):
        """Alert rules that are left out: name -> the mistake in it."""
        return dict(self.alert_book.ignored)

    @property
    def ignored_filters(self):
        """Scanner filters that are left out: name -> the error in the expression."""
        return dict(self.book.ignored_filters)

    def row(self, str symbol not None):
        """A symbol's row as of now: an encoded TickerRow without rank; None when there is no such symbol."""
        cdef int32_t symbol_id = self.state.symbol_id(symbol)
        if symbol_id < 0:
            return None
        self.bring_to_now()
        return self.state.encode_row(symbol_id)

    # --- custom scans

    def query(self, Filter filter not None, Order order not None, int limit, bint as_built_in=False):
        """A custom scan of the rows of now: an encoded RankedList, called "scan", of at most `limit` rows.

        With `as_built_in` the base filter and the scanner filters apply, too.
        """
        cdef Moment moment = self.moment()
        self.bring_to_now()
        return self.book.query(self.state, &moment, filter, order, limit, as_built_in)

    def count(self, Filter filter not None):
        """How many rows match now."""
        self.bring_to_now()
        return len(filter.match(self.state))

    def add_scan(self, Filter filter not None, Order order not None, int limit):
        """A custom scan that apply() and refresh_scan() refresh: its handle, whose `name` its ListUpdates carry.

        It is filled at once with the rows of now, its sequence 1 (0 when there are none).
        """
        cdef Moment moment = self.moment()
        self.bring_to_now()
        return self.book.add_scan(self.state, &moment, filter, order, limit)

    cpdef ListUpdate refresh_scan(self, RankedList scan):
        """Publishes a custom scan anew, with the rows of now: its ListUpdate, None when it has not changed.

        KeyError when it is not this market's.
        """
        cdef Moment moment
        self._check_scan(scan)
        self.bring_to_now()
        moment = self.moment()
        return self.book.refresh_scan(self.state, &moment, scan)

    def scan_snapshot(self, RankedList scan not None):
        """A custom scan as last published: an encoded RankedList. KeyError when it is not this market's."""
        self._check_scan(scan)
        return scan.snapshot(scan.limit)

    def remove_scan(self, RankedList scan not None):
        """Takes a custom scan out. KeyError when it is not this market's."""
        self._check_scan(scan)
        del self.book.scans[scan.name]

    cdef int _check_scan(self, RankedList scan) except -1:
        if scan is None or self.book.scans.get(scan.name) is not scan:
            raise KeyError(f"expected a custom scan of this market, was {scan!r}")
        return 0

    # --- snapshots: the message has the fields 1 epoch, 2 sequence, 3 state, 4 lists

    def to_bytes(self, bint with_baselines=True):
        """The whole market but for custom scans; a copy made of it goes on exactly as this one.

        Without baselines as MarketState.to_bytes says.
        """
        cdef Writer writer
        writer_init(&writer, self.expected_size(with_baselines))
        try:
            self._write(&writer, with_baselines)
            return writer_bytes(&writer)
        finally:
            writer_free(&writer)

    cpdef size_t expected_size(self, bint with_baselines=True):
        """The bytes that to_bytes() will return, about, and rather more than fewer: windows fill."""
        cdef size_t at_first = ROOM * 1024 + <size_t>self.state.count * (
            BYTES_OF_ROW + (BYTES_OF_BASELINE if with_baselines else 0)
        )
        cdef size_t now = self.written[with_baselines]
        return max(at_first, now + now // 3)

    def write_to(self, PreparedBuffer buffer not None, bint with_baselines=True):
        """The same, into a buffer, which grows when it is too small; returns a view of it.

        BufferError when an earlier view of it is still there.
        """
        self._write(buffer.begin(), with_baselines)
        return memoryview(buffer)

    cdef int _write(self, Writer* writer, bint with_baselines) except -1:
        cdef size_t begin
        self._check_refreshed()
        write_varint_field(writer, 1, self.epoch)
        write_varint_field(writer, 2, self.sequence)
        begin = begin_message(writer, 3)
        self.state.write(writer, with_baselines)
        end_message(writer, begin)
        begin = begin_message(writer, 4)
        self.book.write(writer, self.state)
        end_message(writer, begin)
        self.written[with_baselines] = writer.size
        return 0

    @staticmethod
    def from_bytes(definitions, const unsigned char[::1] data not None, bint encode_deltas=True):
        """The market that to_bytes() wrote; ValueError when it cannot be read or has other definitions."""
        cdef Cursor cursor = cursor_of(&data[0] if data.shape[0] else NULL, data.shape[0])
        cdef Field field
        cdef Field book
        cdef uint64_t epoch = 0, sequence = 0
        cdef Market market
        cdef int status = next_field(&cursor, &field)
        state = None
        book.data = NULL
        while status == WIRE_FIELD:
            if field.number == 1 and field.wire_type == WIRE_VARINT:
                epoch = field.value
            elif field.number == 2 and field.wire_type == WIRE_VARINT:
                sequence = field.value
            elif field.number == 3 and field.wire_type == WIRE_LENGTH:
                state = (<const char*>field.data)[:field.length]
            elif field.number == 4 and field.wire_type == WIRE_LENGTH:
                book = field
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"snapshot of a market")
        if state is None or book.data == NULL or epoch >> 32 or sequence >> 32:
            raise ValueError("expected the snapshot of a market: epoch, sequence, state and lists, was incomplete")
        market = Market(definitions, epoch, encode_deltas)
        market.state = MarketState.from_bytes(state)
        market.sequence = <uint32_t>sequence
        market.book.read(&book, market.state, market.epoch)
        return market

    @staticmethod
    def of_state(definitions, unsigned int epoch, MarketState state not None, bint encode_deltas=True):
        """A market of a new epoch that goes on with these rows, its lists empty until the next watermark.

        Alert rules remember what they did; the alerts' numbering begins again.
        """
        cdef Market market = Market(definitions, epoch, encode_deltas)
        state.need_windows()
        market.state = state
        state.alerts.sequence = 0
        return market

    def hash(self):
        """64 bits of all that decides what comes: equal for equal streams, however events are cut into batches."""
        self._check_refreshed()
        return self.book.hash(self.state.hash(), self.state)


def state_of(const unsigned char[::1] data not None, bint keeps_windows=True):
    """The MarketState of a whole market, for who needs no lists; ValueError when it cannot be read. Not yet refreshed."""
    cdef Cursor cursor = cursor_of(&data[0] if data.shape[0] else NULL, data.shape[0])
    cdef Field field
    cdef int status = next_field(&cursor, &field)
    state = None
    while status == WIRE_FIELD:
        if field.number == 3 and field.wire_type == WIRE_LENGTH:
            state = (<const char*>field.data)[:field.length]
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"snapshot of a market")
    if state is None:
        raise ValueError("expected the snapshot of a market, was without its rows")
    return MarketState.from_bytes(state, keeps_windows)
