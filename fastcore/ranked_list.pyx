# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""WHERE filter ORDER BY order LIMIT k over the rows of a state, and what changed since it was last published.

What is published of a member is its row as it was when it was last taken: on
entering, when its revision had changed, or with all rows when the window mark
had moved. Its order value may move with time alone (rvol, score, z-score, age):
then a row is also taken where the values shown would contradict the order. A list
is empty at sequence 0, before its first change.

Which rows are in it follows from the state alone. While only some rows have changed
since it was selected (change_log.pxd), these are put in or taken out; otherwise it
is selected from all rows, with the same result.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport INFINITY, NAN
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy, memset

from google.protobuf.message import DecodeError
from tradeul.v1.ticker_row_pb2 import TickerRow

from fastcore.wire import only_field

from fastcore.change_log cimport is_all_changed
from fastcore.changed_fields cimport write_changed_fields
from fastcore.changed_rows cimport ChangedRows
from fastcore.filters cimport Filter, Order
from fastcore.list_messages cimport (
    Action, Moment, Row, begin_delta, end_delta, ranked_list, row_of, write_changed_row, write_removed, write_reranked,
)
from fastcore.list_numbers cimport WATCH_DELTA
from fastcore.market_state cimport MarketState
from fastcore.memory cimport ROOM
from fastcore.row_values cimport fetch_row
from fastcore.row_view cimport RowView
from fastcore.ordered_rows cimport MOST_KEYS, OrderedRows
from fastcore.state_bytes cimport mixed
from fastcore.top_rows cimport Candidate, LaterKeys, best_rows
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_LENGTH, WIRE_VARINT, Cursor, Field, Writer, enter, load_u32, next_field,
    raise_wire_error, write_length_field, write_varint_field, writer_bytes, writer_field, writer_free, writer_init,
)

cdef extern from *:
    int lowest_bit "__builtin_ctzll"(unsigned long long) noexcept nogil

cdef enum:
    KEPT = 1 << 30      # beside a rank: the member is one afterwards too
    AHEAD = 4           # places ahead, of which a row that is to be encoded is fetched


cdef inline uint64_t _bits(const uint8_t* match) noexcept nogil:
    """Eight bytes of 0 or 1 as eight bits, the first the lowest."""
    cdef uint64_t eight
    memcpy(&eight, match, 8)
    return (eight * <uint64_t>0x0102040810204080) >> 56


cdef int32_t _matching(const uint8_t* match, int32_t count, int32_t* ids) noexcept nogil:
    """The ids of the rows whose byte is 1, ascending; how many."""
    cdef int32_t n = 0, first = 0, i
    cdef uint64_t rows
    # By 64 rows, since whether one matches cannot be foreseen: a wrong guess a word, not a row.
    while first + 64 <= count:
        rows = 0
        for i in range(8):
            rows |= _bits(match + first + 8 * i) << (8 * i)
        while rows != 0:
            ids[n] = first + lowest_bit(rows)
            n += 1
            rows &= rows - 1
        first += 64
    for i in range(first, count):
        ids[n] = i
        n += match[i]
    return n


cdef class Workspace:
    """Buffers for as many rows as the state has, and the rows encoded in this generation."""

    def __cinit__(self):
        self.rows = []
        self.changed = ChangedRows()
        writer_init(&self.changes, 1 << 16)
        writer_init(&self.changed_fields, 1 << 12)

    def __dealloc__(self):
        self._free()
        writer_free(&self.changes)
        writer_free(&self.changed_fields)

    cdef void _free(self) noexcept:
        free(self.match)
        free(self.stays)
        free(self.ids)
        free(self.keys)
        free(self.candidates)
        free(self.places)
        free(self.selected)
        free(self.old_rank)
        free(self.encoded_at)
        self.match = self.stays = NULL
        self.ids = self.places = self.selected = self.old_rank = NULL
        self.keys = NULL
        self.candidates = NULL
        self.encoded_at = NULL
        self.room = 0

    cdef int begin(self, MarketState state) except -1:
        """Begins a new generation: rows encoded before are no longer current."""
        cdef size_t room
        self.generation += 1
        if self.room >= state.count and self.room > 0:
            return 0
        self._free()
        room = <size_t>state.count + ROOM
        self.match = <uint8_t*>malloc(room)
        self.stays = <uint8_t*>malloc(room)
        self.ids = <int32_t*>malloc(room * sizeof(int32_t))
        self.keys = <double*>malloc(room * MOST_KEYS * sizeof(double))
        self.candidates = <Candidate*>malloc(room * sizeof(Candidate))
        # By rank, from 1 on; 0 is of rows without one.
        self.places = <int32_t*>malloc((room + 1) * sizeof(int32_t))
        self.selected = <int32_t*>malloc(room * sizeof(int32_t))
        self.old_rank = <int32_t*>calloc(room, sizeof(int32_t))
        self.encoded_at = <uint64_t*>calloc(room, sizeof(uint64_t))
        if (self.match == NULL or self.stays == NULL or self.ids == NULL or self.keys == NULL
                or self.candidates == NULL or self.places == NULL or self.selected == NULL
                or self.old_rank == NULL or self.encoded_at == NULL):
            self._free()
            raise MemoryError(f"no memory to rank {room} rows")
        self.rows = [None] * <Py_ssize_t>room
        self.room = <int32_t>room
        return 0

    cdef bytes row(self, MarketState state, int32_t symbol_id):
        """The row now, encoded once for all lists."""
        cdef bytes row
        if self.encoded_at[symbol_id] == self.generation:
            return <bytes>self.rows[symbol_id]
        row = state.encode_row(symbol_id)
        self.rows[symbol_id] = row
        self.encoded_at[symbol_id] = self.generation
        return row

    cdef int mark(self, const int32_t* ids, int32_t count) except -1:
        """Marks these rows: old_rank holds their ranks until unmark()."""
        cdef int32_t i
        if count > self.room:
            raise ValueError(f"expected at most {self.room} members, was {count}")
        for i in range(count):
            self.old_rank[ids[i]] = i + 1
        return 0

    cdef void unmark(self, const int32_t* ids, int32_t count) noexcept nogil:
        cdef int32_t i
        for i in range(count):
            self.old_rank[ids[i]] = 0

    cdef void select(self, MarketState state, Order order, OrderedRows ordered) noexcept nogil:
        """Puts the best of the rows in `match` into `ordered`.

        Which rows it had, and which are marked, decides nothing, but most rows that are no
        better than the last of them need not be looked at.
        """
        cdef RowView rows = state.view()
        cdef int32_t n = _matching(self.match, state.count, self.ids)
        cdef int32_t i, rank, kept, wanted
        cdef int32_t members = 0, others = 0
        cdef double worst = -INFINITY
        cdef LaterKeys later
        if order.key_count > 0:
            order.evaluate(&rows, self.ids, n, self.keys)
        else:
            memset(self.keys, 0, n * sizeof(double))
        later.keys = self.keys
        later.stride = n
        later.count = order.key_count
        for rank in range(ordered.count + 1):
            self.places[rank] = -1
        for i in range(n):
            self.places[self.old_rank[self.ids[i]]] = i
        for rank in range(1, ordered.count + 1):
            i = self.places[rank]
            if i >= 0:
                self._put(members, i, self.ids[i], state)
                members += 1
                worst = max(worst, self.keys[i])
        # While enough are left that it had, no more are looked for.
        wanted = members if members >= ordered.limit + ordered.limit // 4 else ordered.room
        if members < wanted:
            worst = INFINITY
        for i in range(n):
            if self.keys[i] <= worst and not self.old_rank[self.ids[i]]:
                self._put(members + others, i, self.ids[i], state)
                others += 1
        kept = best_rows(
            self.candidates, members, self.candidates + members, others, wanted, &later, self.selected
        )
        # Its rows are still marked.
        self.unmark(ordered.ids, ordered.count)
        ordered.begin()
        for i in range(kept):
            ordered.append(self.ids[self.selected[i]], self.keys + self.selected[i], n)
        ordered.end(kept == n)

    cdef bint change(self, MarketState state, Order order, ChangedRows changed, OrderedRows ordered) noexcept nogil:
        """Brings the changed rows, of which those in `match` match, to where they belong; see OrderedRows.change()."""
        cdef int32_t n = _matching(self.match, changed.count, self.ids)
        cdef int32_t i, count = 0
        cdef LaterKeys later
        if order.key_count > 0:
            order.evaluate(&changed.view, self.ids, n, self.keys)
        else:
            memset(self.keys, 0, n * sizeof(double))
        later.keys = self.keys
        later.stride = n
        later.count = order.key_count
        for i in range(n):
            self.ids[i] = changed.ids[self.ids[i]]
            if not ordered.is_beyond(self.ids[i], self.keys + i, n, state.symbol_order):
                self._put(count, i, self.ids[i], state)
                count += 1
        count = best_rows(self.candidates, 0, self.candidates, count, count, &later, self.selected)
        return ordered.change(changed.has, self.ids, &later, self.selected, count, state.symbol_order)

    cdef inline void _put(self, int32_t at, int32_t i, int32_t symbol_id, MarketState state) noexcept nogil:
        self.candidates[at].key = self.keys[i]
        self.candidates[at].place = <uint32_t>state.symbol_order[symbol_id]
        self.candidates[at].index = i


cdef class Base:
    """A base filter, with the scanner filters of now or without them."""

    def __cinit__(self, Filter filter not None, bint uses_scanner_filters):
        self.filter = filter
        self.uses_scanner_filters = uses_scanner_filters

    def __dealloc__(self):
        free(self.match)
        free(self.changed_match)

    cdef void _set_depends(self, list scanner_filters) noexcept:
        cdef Filter filter
        self.depends = self.filter.program.depends
        if self.uses_scanner_filters:
            for filter in scanner_filters:
                self.depends |= filter.program.depends

    cdef const uint8_t* evaluate(self, MarketState state, Workspace work, list scanner_filters) except NULL:
        """Which rows pass, [symbol id]; evaluated once in each generation of the workspace."""
        cdef Filter filter
        cdef RowView rows = state.view()
        cdef int32_t count = state.count
        if self.match != NULL and self.evaluated_at == work.generation and count <= self.room:
            return self.match
        if count > self.room or self.match == NULL:
            free(self.match)
            self.match = <uint8_t*>malloc(<size_t>count + ROOM)
            if self.match == NULL:
                self.room = 0
                raise MemoryError(f"no memory to filter {count} rows")
            self.room = count + ROOM
        self.filter.bind_whole(state)
        self.filter.evaluate(&rows, self.match, count)
        if self.uses_scanner_filters:
            for filter in scanner_filters:
                filter.bind_whole(state)
                filter.narrow(&rows, self.match, count)
        self.evaluated_at = work.generation
        return self.match

    cdef const uint8_t* evaluate_changed(self, MarketState state, Workspace work, list scanner_filters) except NULL:
        """Which of the changed rows pass; evaluated once for each set of them."""
        cdef Filter filter
        cdef ChangedRows changed = work.changed
        cdef int32_t count = changed.count
        if self.changed_match != NULL and self.changed_at == changed.serial:
            return self.changed_match
        if count > self.changed_room or self.changed_match == NULL:
            free(self.changed_match)
            self.changed_match = <uint8_t*>malloc(<size_t>count + ROOM)
            if self.changed_match == NULL:
                self.changed_room = 0
                raise MemoryError(f"no memory to filter {count} rows")
            self.changed_room = count + ROOM
        self.filter.bind(state)
        changed.gather(state, self.filter.program)
        self.filter.evaluate(&changed.view, self.changed_match, count)
        if self.uses_scanner_filters:
            for filter in scanner_filters:
                filter.bind(state)
                changed.gather(state, filter.program)
                filter.narrow(&changed.view, self.changed_match, count)
        self.changed_at = changed.serial
        return self.changed_match


cdef class Members:
    """Rows of a list by rank, best first."""

    def __cinit__(self, int32_t count):
        self.ids = <int32_t*>malloc((count + 1) * sizeof(int32_t))
        self.revisions = <uint32_t*>malloc((count + 1) * sizeof(uint32_t))
        self.keys = <double*>malloc((count + 1) * sizeof(double))
        if self.ids == NULL or self.revisions == NULL or self.keys == NULL:
            raise MemoryError(f"no memory for a list of {count} rows")
        self.count = count
        self.rows = [None] * count

    def __dealloc__(self):
        free(self.ids)
        free(self.revisions)
        free(self.keys)


cdef class ListUpdate:
    """One change of a list. `message`: the encoded WatchListResponse with its ListDelta, as subscribers get it, and
    `changed` that one's records of changed_fields.pyx; both are empty when deltas are not encoded. `added` and
    `removed` are the numbers of rows that entered and left.
    """

    def __init__(self, str list not None, unsigned int previous_sequence, unsigned int sequence,
                 bytes message not None, bytes changed not None, int added, int removed):
        self.list = list
        self.previous_sequence = previous_sequence
        self.sequence = sequence
        self.message = message
        self.changed = changed
        self.added = added
        self.removed = removed

    @property
    def delta(self):
        """The encoded ListDelta, where it is in the message."""
        return only_field(self.message)[1] if self.message else memoryview(b"")

    def __repr__(self):
        return (f"ListUpdate(list={self.list!r}, previous_sequence={self.previous_sequence}, "
                f"sequence={self.sequence}, message=<{len(self.message)} bytes>, "
                f"changed=<{len(self.changed)} bytes>, added={self.added}, removed={self.removed})")


cdef inline bint _same(bytes a, bytes b):
    return a is b or (
        PyBytes_GET_SIZE(a) == PyBytes_GET_SIZE(b)
        and memcmp(PyBytes_AS_STRING(a), PyBytes_AS_STRING(b), PyBytes_GET_SIZE(a)) == 0
    )


cdef inline bint _has_changed(Members old, int32_t symbol_id, MarketState state, Workspace work) noexcept:
    """Returns whether a row is not what it was as an old member, or was none; the old ones are marked."""
    cdef int32_t rank = work.old_rank[symbol_id]
    return rank == 0 or old.revisions[rank - 1] != state.revision[symbol_id]


cdef int _write_changes(Members old, Members new, Workspace work, bint encode) except -1:
    """Appends the changes from `old` to `new` to work.changes, removals first, then by rank; returns their number.

    What changed in the rows that stay goes to work.changed_fields, and how many came and left to work.added and removed.
    """
    cdef int32_t i, old_rank
    cdef int changes = 0
    cdef Row row
    cdef bytes encoded
    cdef int32_t* ranks = work.old_rank
    work.changed_fields.size = 0
    work.added = work.removed = 0
    for i in range(new.count):
        if ranks[new.ids[i]]:
            ranks[new.ids[i]] |= KEPT
    for i in range(old.count):
        if ranks[old.ids[i]] & KEPT:
            continue
        changes += 1
        work.removed += 1
        if encode:
            row_of(<bytes>old.rows[i], &row)
            write_removed(&work.changes, row)
    for i in range(new.count):
        old_rank = ranks[new.ids[i]] & ~KEPT
        encoded = <bytes>new.rows[i]
        if old_rank and _same(encoded, <bytes>old.rows[old_rank - 1]):
            if old_rank == i + 1:
                continue
            changes += 1
            if encode:
                row_of(encoded, &row)
                write_reranked(&work.changes, row, old_rank, i + 1)
            continue
        changes += 1
        work.added += old_rank == 0
        if encode:
            row_of(encoded, &row)
            write_changed_row(&work.changes, Action.UPDATE if old_rank else Action.ADD, row, i + 1)
            if old_rank:
                write_changed_fields(&work.changed_fields, <bytes>old.rows[old_rank - 1], encoded, old_rank)
    return changes


cdef class RankedList:
    """A list of at most `limit` rows; see the module. Also the handle of a custom scan."""

    def __cinit__(self, str name not None, bytes label not None, Filter filter not None, Filter stay,
                  Order order not None, int limit):
        if limit < 1:
            raise ValueError(f"list {name}: expected a limit of at least 1, was {limit}")
        self.name = name
        self.label = label
        self.filter = filter
        self.stay = stay
        self.order = order
        self.limit = limit
        self.members = Members(0)

    @property
    def count(self):
        """Rows published."""
        return self.members.count

    def __repr__(self):
        return f"RankedList({self.name!r}, sequence={self.sequence}, count={self.members.count})"

    cdef int select(self, MarketState state, Workspace work, Base base, list scanner_filters, OrderedRows ordered
                    ) except -1:
        """Puts the rows that are in the list now into `ordered`, looking at all rows."""
        cdef RowView rows = state.view()
        cdef int32_t count = state.count
        cdef int32_t i, symbol_id
        cdef const uint8_t* passing = base.evaluate(state, work, scanner_filters)
        self.filter.bind_whole(state)
        self.order.bind_whole(state)
        if self.stay is not None:
            self.stay.bind_whole(state)
        work.mark(ordered.ids, ordered.count)
        work.ranked_rows += count
        with nogil:
            memcpy(work.match, passing, count)
            self.filter.narrow(&rows, work.match, count)
            if self.stay is not None and self.members.count > 0:
                memcpy(work.stays, passing, count)
                self.stay.narrow(&rows, work.stays, count)
                for i in range(self.members.count):
                    symbol_id = self.members.ids[i]
                    work.match[symbol_id] = work.stays[symbol_id]
            work.select(state, self.order, ordered)
        return 0

    cdef bint select_changed(self, MarketState state, Workspace work, Base base, list scanner_filters) except -1:
        """The same, looking at no rows but those that have changed; False when that does not do."""
        cdef ChangedRows changed = work.changed
        cdef const uint8_t* passing
        cdef bint is_known
        # Who is a member decides what a row must pass to stay.
        if self.ordered is None or self.stay is not None or is_all_changed(
            &state.changes, self.place, base.depends | self.filter.program.depends | self.order.program.depends
        ):
            return False
        if 2 * (state.changes.end - self.place) > <uint64_t>state.count:
            return False
        changed.take(state, self.place)
        passing = base.evaluate_changed(state, work, scanner_filters)
        self.filter.bind(state)
        self.order.bind(state)
        changed.gather(state, self.filter.program)
        changed.gather(state, self.order.program)
        work.ranked_rows += changed.count
        with nogil:
            memcpy(work.match, passing, changed.count)
            self.filter.narrow(&changed.view, work.match, changed.count)
            is_known = work.change(state, self.order, changed, self.ordered)
        return is_known

    cdef int rank(self, MarketState state, Workspace work, Base base, list scanner_filters, uint64_t filters_version
                  ) except -1:
        """Brings `ordered` to now; returns 1 when it was enough to look at the rows that have changed."""
        cdef bint is_known
        base._set_depends(scanner_filters)
        is_known = self.filters_version == filters_version and self.select_changed(state, work, base, scanner_filters)
        if not is_known:
            if self.ordered is None:
                self.ordered = OrderedRows(self.limit, self.order.key_count)
            self.place = 0
            self.select(state, work, base, scanner_filters, self.ordered)
        self.place = state.changes.end
        self.filters_version = filters_version
        return is_known

    cdef ListUpdate refresh(self, MarketState state, Workspace work, Base base, list scanner_filters,
                            uint64_t filters_version, bint take_all, const Moment* moment, bint encode_delta):
        """Publishes what the list is now; None when that is what it was."""
        cdef Members old = self.members
        cdef Members new
        cdef int changes
        if self.rank(state, work, base, scanner_filters, filters_version) and not take_all \
                and self._is_as_published(work):
            self.moment = moment[0]
            return None
        work.changes.size = 0
        if encode_delta:
            begin_delta(&work.changes, self.label, moment, self.sequence, self.sequence + 1)
        new = Members(min(self.ordered.count, self.limit))
        work.mark(old.ids, old.count)
        try:
            self._take_rows(old, new, state, work, take_all)
            changes = _write_changes(old, new, work, encode_delta)
        finally:
            work.unmark(old.ids, old.count)
        self.members = new
        self.moment = moment[0]
        if changes == 0:
            return None
        self.sequence += 1
        if encode_delta:
            end_delta(&work.changes, moment, changes)
        return ListUpdate(
            self.name, self.sequence - 1, self.sequence,
            writer_field(&work.changes, WATCH_DELTA) if encode_delta else b"",
            writer_bytes(&work.changed_fields), work.added, work.removed,
        )

    cdef bint _is_as_published(self, Workspace work) noexcept:
        """Returns whether the members are the same, in the same order, and none of them has changed."""
        cdef Members members = self.members
        cdef int32_t i
        cdef int32_t count = min(self.ordered.count, self.limit)
        if count != members.count or memcmp(members.ids, self.ordered.ids, count * sizeof(int32_t)) != 0:
            return False
        for i in range(count):
            if work.changed.has[members.ids[i]]:
                return False
        return True

    cdef int _take_rows(self, Members old, Members new, MarketState state, Workspace work, bint take_all) except -1:
        """Fills in the rows selected: as they were taken before, or as they are now."""
        cdef int32_t i, symbol_id, old_place
        cdef bytes row
        for i in range(new.count):
            if i + AHEAD < new.count and _has_changed(old, self.ordered.ids[i + AHEAD], state, work):
                fetch_row(state.columns, self.ordered.ids[i + AHEAD])
            symbol_id = self.ordered.ids[i]
            if take_all or _has_changed(old, symbol_id, state, work):
                row = work.row(state, symbol_id)
                new.keys[i] = self.ordered.keys[i * self.ordered.width]
            else:
                old_place = work.old_rank[symbol_id] - 1
                row = <bytes>old.rows[old_place]
                new.keys[i] = old.keys[old_place]
            new.ids[i] = symbol_id
            new.revisions[i] = state.revision[symbol_id]
            new.rows[i] = row
        # A symbol's place among all symbols is not its value: it changes when others are added.
        return 0 if self.order.is_by_symbol else self._take_disordered(new, state, work)

    cdef int _take_disordered(self, Members new, MarketState state, Workspace work) except -1:
        """Takes neighbours anew whose first order values, as shown, contradict their ranks; as of now they never do."""
        cdef int32_t i, k
        cdef int32_t last, width = self.ordered.width
        cdef const double* keys = self.ordered.keys
        for i in range(1, new.count):
            last = i
            while last > 0 and new.keys[last - 1] > new.keys[last]:
                for k in range(last - 1, last + 1):
                    if new.keys[k] != keys[k * width]:
                        new.keys[k] = keys[k * width]
                        new.rows[k] = work.row(state, new.ids[k])
                last -= 1
        return 0

    cdef bytes snapshot(self, int32_t limit):
        """The first `limit` rows as published: an encoded RankedList."""
        return ranked_list(self.label, &self.moment, self.sequence, self.members.rows[:limit])

    cdef bytes fresh(self, MarketState state, Workspace work, Base base, list scanner_filters, const Moment* moment,
                     int32_t limit):
        """The first `limit` rows as they are now, published or not: an encoded RankedList."""
        cdef int32_t i
        cdef OrderedRows ordered = OrderedRows(limit, self.order.key_count)
        self.select(state, work, base, scanner_filters, ordered)
        return ranked_list(self.label, moment, self.sequence,
                           [work.row(state, ordered.ids[i]) for i in range(min(ordered.count, limit))])

    cdef bytes difference(self, RankedList old, Workspace work):
        """Returns the encoded ListDelta that turns `old`, an earlier state of this list, into this one."""
        cdef int changes
        work.changes.size = 0
        begin_delta(&work.changes, self.label, &self.moment, old.sequence, self.sequence)
        work.mark(old.members.ids, old.members.count)
        try:
            changes = _write_changes(old.members, self.members, work, True)
        finally:
            work.unmark(old.members.ids, old.members.count)
        end_delta(&work.changes, &self.moment, changes)
        return writer_bytes(&work.changes)

    # --- snapshots: the message of write() has the fields
    # 1 name, 2 sequence, 3 packed ids, 4 one byte per row (1 where it changed since it was taken), 5 rows,
    # 6 packed first order values, as keys

    cdef int write(self, Writer* writer, MarketState state) except -1:
        cdef Members members = self.members
        cdef int32_t i
        cdef bytes row
        cdef bytes name = self.name.encode()
        cdef bytes touched = self._touched(state)
        write_length_field(writer, 1, PyBytes_AS_STRING(name), len(name))
        write_varint_field(writer, 2, self.sequence)
        write_length_field(writer, 3, members.ids, members.count * sizeof(int32_t))
        write_length_field(writer, 4, PyBytes_AS_STRING(touched), len(touched))
        for i in range(members.count):
            row = <bytes>members.rows[i]
            write_length_field(writer, 5, PyBytes_AS_STRING(row), len(row))
        write_length_field(writer, 6, members.keys, members.count * sizeof(double))
        return 0

    cdef int read(self, const Field* field, MarketState state) except -1:
        """Takes over what write() wrote of this list; ValueError when it cannot be that."""
        cdef Cursor cursor = enter(field)
        cdef Field part
        cdef Field ids
        cdef Field touched
        cdef Field keys
        cdef uint64_t sequence = 0
        cdef int32_t i, symbol_id
        cdef Members members
        cdef list rows = []
        cdef set seen = set()
        cdef int status = next_field(&cursor, &part)
        ids.data = touched.data = keys.data = NULL
        ids.length = touched.length = keys.length = 0
        while status == WIRE_FIELD:
            if part.number == 1 and part.wire_type == WIRE_LENGTH:
                if (<const char*>part.data)[:part.length] != self.name.encode():
                    raise ValueError(f"expected list {self.name}, was {(<const char*>part.data)[:part.length]!r}")
            elif part.number == 2 and part.wire_type == WIRE_VARINT:
                sequence = part.value
            elif part.number == 3 and part.wire_type == WIRE_LENGTH:
                ids = part
            elif part.number == 4 and part.wire_type == WIRE_LENGTH:
                touched = part
            elif part.number == 5 and part.wire_type == WIRE_LENGTH:
                rows.append((<const char*>part.data)[:part.length])
            elif part.number == 6 and part.wire_type == WIRE_LENGTH:
                keys = part
            status = next_field(&cursor, &part)
        if status != WIRE_END:
            raise_wire_error(status, b"list of a snapshot")
        if len(rows) > self.limit or ids.length != 4 * <size_t>len(rows) or touched.length != <size_t>len(rows):
            raise ValueError(f"list {self.name}: expected at most {self.limit} rows with an id each, "
                             f"was {len(rows)} rows, {ids.length} bytes of ids")
        # Snapshots of earlier versions have none.
        if keys.length != 0 and keys.length != sizeof(double) * <size_t>len(rows):
            raise ValueError(f"list {self.name}: expected {sizeof(double) * <size_t>len(rows)} bytes of order values, "
                             f"was {keys.length}")
        if sequence >> 32:
            raise ValueError(f"list {self.name}: expected a sequence below 2**32, was {sequence}")
        members = Members(<int32_t>len(rows))
        members.rows = rows
        for i in range(members.count):
            symbol_id = <int32_t>load_u32(ids.data, i)
            if not 0 <= symbol_id < state.count or symbol_id in seen:
                raise ValueError(f"list {self.name}: expected distinct ids below {state.count}, was {symbol_id}")
            seen.add(symbol_id)
            _check_row(rows[i], state.names[symbol_id])
            members.ids[i] = symbol_id
            members.revisions[i] = state.revision[symbol_id] - (1 if touched.data[i] else 0)
            members.keys[i] = NAN
        if keys.length != 0:
            memcpy(members.keys, keys.data, keys.length)
        self.members = members
        self.ordered = None
        self.sequence = <uint32_t>sequence
        return 0

    cdef bytes _touched(self, MarketState state):
        """Per row 1 when the symbol was touched since the row was taken; revisions themselves count otherwise."""
        cdef Members members = self.members
        cdef int32_t i
        return bytes([members.revisions[i] != state.revision[members.ids[i]] for i in range(members.count)])

    cdef uint64_t hash(self, uint64_t seed, MarketState state):
        """64 bits of all that decides what is published next."""
        cdef Members members = self.members
        cdef bytes row
        cdef bytes touched = self._touched(state)
        cdef bytes name = self.name.encode()
        seed = mixed(seed, PyBytes_AS_STRING(name), len(name))
        seed = mixed(seed, &self.sequence, sizeof(self.sequence))
        seed = mixed(seed, members.ids, members.count * sizeof(int32_t))
        seed = mixed(seed, PyBytes_AS_STRING(touched), len(touched))
        seed = mixed(seed, members.keys, members.count * sizeof(double))
        for row in members.rows:
            seed = mixed(seed, PyBytes_AS_STRING(row), len(row))
        return seed


cdef int _check_row(bytes encoded, str symbol) except -1:
    """ValueError unless it is a TickerRow of this symbol: lists publish it as it is, whole or its symbol alone."""
    cdef Row row
    row_of(encoded, &row)
    try:
        shown = TickerRow.FromString(encoded).symbol
    except DecodeError as error:
        raise ValueError(f"row of {symbol} in a list: expected a TickerRow: {error}") from None
    begin = encoded[2 : 2 + encoded[1]]
    if shown != symbol or begin != symbol.encode():
        raise ValueError(f"row of {symbol} in a list: expected its symbol, was {begin!r}")
    return 0
