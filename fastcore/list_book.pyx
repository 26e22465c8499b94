# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""All lists of a market: refreshed together, so that what they share is done once.

The market begins a new generation of the workspace whenever its state has changed.

Built-in lists are a function of the stream. Custom scans belong to this process: it
refreshes them when it has time for them, each to the state of then, their
sequences are their own, and a snapshot does not hold them.
"""

import itertools

from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastcore.filters cimport Filter, Order, compile_filter, compile_order
from fastcore.list_messages cimport Moment
from fastcore.market_state cimport MarketState
from fastcore.ranked_list cimport Base, ListUpdate, RankedList, Workspace
from fastcore.state_bytes cimport mixed
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_LENGTH, WIRE_VARINT, Cursor, Field, Writer, begin_message, cursor_of, end_message, enter,
    next_field, take_varint, raise_wire_error, write_length_field, write_varint_field,
)

from fastcore.filter_ast import FilterError

# The name of custom scans in messages.
cdef bytes SCAN = b"scan"


cdef class ListBook:
    """`specs`: ListSpec of services/kit/lists/definitions.py or alike. FilterError (a ValueError) for one that is wrong."""

    def __cinit__(self, specs, bint encode_deltas):
        cdef Base base
        self.encode_deltas = encode_deltas
        self.work = Workspace()
        self.specs = list(specs)
        self.lists = {}
        self.list_bases = {}
        self.scans = {}
        self.bases = {}
        self.scanner_filters = []
        self.ignored_filters = {}
        self.filters_message = b""
        self.scan_numbers = itertools.count(1)
        self.no_base = self.base_of("", False)
        self.built_in_base = self.base_of("", True)
        for spec in self.specs:
            if spec.name in self.lists:
                raise ValueError(f"expected lists of different names, was {spec.name!r} twice")
            self.lists[spec.name] = RankedList(
                spec.name, spec.name.encode(), compile_filter(spec.filter),
                compile_filter(spec.stay) if spec.stay else None, compile_order(spec.order_by), spec.limit,
            )
            base = self.base_of(spec.base_filter, spec.uses_scanner_filters)
            self.list_bases[spec.name] = base
            if spec.base_filter and self.built_in_base.filter.tree is None:
                self.built_in_base = self.base_of(spec.base_filter, True)

    cdef Base base_of(self, str base_filter, bint uses_scanner_filters):
        key = (base_filter, bool(uses_scanner_filters))
        if key not in self.bases:
            self.bases[key] = Base(compile_filter(base_filter), uses_scanner_filters)
        return <Base>self.bases[key]

    cdef RankedList get(self, str name):
        """A built-in list; KeyError when there is none of that name."""
        try:
            return <RankedList>self.lists[name]
        except KeyError:
            raise KeyError(f"expected one of {', '.join(self.lists)}, was {name!r}") from None

    cdef list filters_now(self, MarketState state):
        """The scanner filters that apply in the session of now."""
        cdef uint32_t session = <uint32_t>1 << state.session
        return [filter for filter, sessions in self.scanner_filters if not sessions or sessions & session]

    cdef int set_filters(self, const unsigned char* message, size_t length) except -1:
        """Takes the scanner filters of an encoded ListFilters; a wrong one is left out and remembered."""
        cdef Cursor cursor = cursor_of(message, length)
        cdef Field field
        cdef list filters = []
        cdef dict ignored = {}
        cdef int status = next_field(&cursor, &field)
        while status == WIRE_FIELD:
            if field.number == 1 and field.wire_type == WIRE_LENGTH:
                name, expression, sessions = _list_filter(&field)
                try:
                    filters.append((compile_filter(expression), sessions))
                except FilterError as error:
                    ignored[name] = str(error)
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"ListFilters")
        self.scanner_filters = filters
        self.filters_version += 1
        self.ignored_filters = ignored
        self.filters_message = (<const char*>message)[:length]
        return 0

    cdef list refresh(self, MarketState state, const Moment* moment):
        """Publishes every built-in list anew; the ListUpdates of those that changed."""
        cdef bint take_all = state.window_mark_ns != self.window_mark_ns
        cdef RankedList ranked
        cdef ListUpdate update
        cdef Base base
        cdef list updates = []
        cdef list filters = self.filters_now(state)
        if self.filters_session != state.session:
            self.filters_session = state.session
            self.filters_version += 1
        for name, ranked in self.lists.items():
            base = <Base>self.list_bases[name]
            update = ranked.refresh(state, self.work, base, filters, self.filters_version, take_all, moment,
                                    self.encode_deltas)
            if update is not None:
                updates.append(update)
        self.window_mark_ns = state.window_mark_ns
        self.refreshed = moment[0]
        return updates

    cdef ListUpdate refresh_scan(self, MarketState state, const Moment* moment, RankedList ranked):
        """Publishes a custom scan anew; None when it is what it was."""
        cdef bint take_all = state.window_mark_ns != ranked.window_mark_ns
        ranked.window_mark_ns = state.window_mark_ns
        return ranked.refresh(state, self.work, self.no_base, [], 0, take_all, moment, True)

    cdef RankedList scan_of_rules(self, str name, str filter, str order_by, int limit):
        """A scan that is not published, but ranked by rank_scan(): a function of the state, like the built-in lists."""
        return RankedList(name, SCAN, compile_filter(filter), None, compile_order(order_by), limit)

    cdef int rank_scan(self, MarketState state, RankedList ranked) except -1:
        """Brings such a scan's rows to now; they stand in its `ordered`."""
        ranked.rank(state, self.work, self.no_base, [], 0)
        return 0

    cdef RankedList add_scan(self, MarketState state, const Moment* moment, Filter filter, Order order, int limit):
        """A custom scan, filled with the rows of now at its sequence 1 (0 when there are none)."""
        cdef RankedList ranked
        cdef str name = f"{SCAN.decode()}:{next(self.scan_numbers)}"
        ranked = RankedList(name, SCAN, filter, None, order, limit)
        ranked.window_mark_ns = state.window_mark_ns
        ranked.refresh(state, self.work, self.no_base, [], 0, True, moment, False)
        self.scans[name] = ranked
        return ranked

    cdef bytes query(self, MarketState state, const Moment* moment, Filter filter, Order order, int limit,
                     bint as_built_in):
        """A custom scan once: an encoded RankedList at sequence 0."""
        cdef Base base = self.built_in_base if as_built_in else self.no_base
        cdef RankedList ranked = RankedList("scan", SCAN, filter, None, order, limit)
        return ranked.fresh(state, self.work, base, self.filters_now(state), moment, limit)

    cdef bytes fresh(self, MarketState state, const Moment* moment, str name, int limit):
        """A built-in list with the rows of now, more than it publishes."""
        cdef Base base = <Base>self.list_bases[name]
        return self.get(name).fresh(state, self.work, base, self.filters_now(state), moment, limit)

    # --- snapshots: the message of write() has the fields
    # 1 window mark, 2 time and 3 stream sequence of the last refresh, 4 the last ListFilters, 5 lists, 6 their definitions

    cdef int write(self, Writer* writer, MarketState state) except -1:
        cdef RankedList ranked
        cdef bytes definition
        cdef size_t begin
        write_varint_field(writer, 1, <uint64_t>self.window_mark_ns)
        write_varint_field(writer, 2, <uint64_t>self.refreshed.time_ns)
        write_varint_field(writer, 3, self.refreshed.sequence)
        write_length_field(writer, 4, PyBytes_AS_STRING(self.filters_message), len(self.filters_message))
        for ranked in self.lists.values():
            begin = begin_message(writer, 5)
            ranked.write(writer, state)
            end_message(writer, begin)
        definition = self._definitions()
        write_length_field(writer, 6, PyBytes_AS_STRING(definition), len(definition))
        return 0

    def _definitions(self):
        """The definitions that decide the lists' rows: books that differ in them cannot go on from the same state."""
        return repr([
            (spec.name, spec.filter, spec.order_by, spec.stay, spec.base_filter, bool(spec.uses_scanner_filters),
             spec.limit)
            for spec in self.specs
        ]).encode()

    cdef int read(self, const Field* field, MarketState state, uint32_t epoch) except -1:
        """Takes over what write() wrote; ValueError when it cannot be that, or is of other lists."""
        cdef Cursor cursor = enter(field)
        cdef Field part
        cdef list ranked = list(self.lists.values())
        cdef int at = 0
        cdef int status = next_field(&cursor, &part)
        definitions = None
        while status == WIRE_FIELD:
            if part.number == 1 and part.wire_type == WIRE_VARINT:
                self.window_mark_ns = <int64_t>part.value
            elif part.number == 2 and part.wire_type == WIRE_VARINT:
                self.refreshed.time_ns = <int64_t>part.value
            elif part.number == 3 and part.wire_type == WIRE_VARINT:
                self.refreshed.sequence = <uint32_t>part.value
            elif part.number == 4 and part.wire_type == WIRE_LENGTH:
                self.set_filters(part.data, part.length)
            elif part.number == 5 and part.wire_type == WIRE_LENGTH:
                if at < len(ranked):
                    (<RankedList>ranked[at]).read(&part, state)
                at += 1
            elif part.number == 6 and part.wire_type == WIRE_LENGTH:
                definitions = (<const char*>part.data)[:part.length]
            status = next_field(&cursor, &part)
        if status != WIRE_END:
            raise_wire_error(status, b"lists of a snapshot")
        if definitions != self._definitions() or at != len(ranked):
            raise ValueError("expected a snapshot with the same definitions of the lists, was one with others")
        self.refreshed.epoch = epoch
        for one in ranked:
            (<RankedList>one).moment = self.refreshed
        return 0

    cdef uint64_t hash(self, uint64_t seed, MarketState state):
        """64 bits of all that decides what the built-in lists publish next."""
        cdef RankedList ranked
        seed = mixed(seed, &self.window_mark_ns, sizeof(self.window_mark_ns))
        seed = mixed(seed, PyBytes_AS_STRING(self.filters_message), len(self.filters_message))
        for ranked in self.lists.values():
            seed = ranked.hash(seed, state)
        return seed


cdef tuple _list_filter(const Field* message):
    """Name, expression and sessions (bit i for code i, 0 for all) of an encoded ListFilter."""
    cdef Cursor cursor = enter(message)
    cdef Cursor packed
    cdef Field field
    cdef uint64_t session = 0
    cdef uint32_t sessions = 0
    cdef int status = next_field(&cursor, &field)
    name = expression = ""
    while status == WIRE_FIELD:
        if field.number == 1 and field.wire_type == WIRE_LENGTH:
            name = (<const char*>field.data)[:field.length].decode()
        elif field.number == 2 and field.wire_type == WIRE_LENGTH:
            expression = (<const char*>field.data)[:field.length].decode()
        elif field.number == 3 and field.wire_type == WIRE_VARINT:
            sessions |= _session_bit(field.value)
        elif field.number == 3 and field.wire_type == WIRE_LENGTH:
            packed = enter(&field)
            while packed.pos < packed.end:
                status = take_varint(&packed, &session)
                if status != WIRE_FIELD:
                    raise_wire_error(status, b"sessions of ListFilter")
                sessions |= _session_bit(session)
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"ListFilter")
    return name, expression, sessions


cdef inline uint32_t _session_bit(uint64_t session) noexcept:
    """An unknown session is one that never is."""
    return <uint32_t>1 << (session if 0 < session < 31 else 31)
