# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Several deltas of a list as one, which leads to the same rows; no row is decoded.

Of a symbol only its first place, its last row and the fields that changed on the way matter. The pointers into the
deltas' bytes last as long as those, which the caller holds.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memset

from fastcore.changed_fields cimport RECORD
from fastcore.list_messages cimport Action, write_nonzero
from fastcore.list_numbers cimport *
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_LENGTH, WIRE_VARINT, Cursor, Field, Writer, bytes_ptr, cursor_of, enter, next_field,
    raise_wire_error, reserve, write_length_field, write_raw, write_varint_field, writer_bytes, writer_free, writer_init,
)

# One symbol: what it was before the first delta, and what it is after the last.
cdef struct Merged:
    bytes_ptr symbol
    size_t symbol_length
    bint was_member
    bint is_member
    bint has_first_rank
    uint32_t first_rank             # 0 where it is not known, or was that of another stay
    uint32_t rank
    bint has_row
    bytes_ptr row                   # its last row, encoded
    size_t row_length
    uint64_t[2] changed             # fields in which that may differ from the one before the first delta

# A ListChange, with its row in place.
cdef struct Change:
    int32_t action
    bytes_ptr symbol
    size_t symbol_length
    uint32_t rank
    uint32_t old_rank
    uint32_t new_rank
    bytes_ptr row
    size_t row_length

# The fields of a ListDelta beside its changes.
cdef struct Head:
    bytes_ptr list
    size_t list_length
    uint32_t epoch
    uint32_t previous_sequence
    uint32_t sequence
    Field timestamp                 # number 0 without one
    Field position


cdef int read_change(const Field* delta, Change* change) except -1 nogil:
    cdef Cursor cursor = enter(delta)
    cdef Field field
    cdef int status = next_field(&cursor, &field)
    memset(change, 0, sizeof(Change))
    while status == WIRE_FIELD:
        if field.wire_type == WIRE_VARINT:
            if field.number == ACTION:
                # As protobuf reads an enum: its lower 32 bits.
                change.action = <int32_t>field.value
            elif field.number == CHANGE_RANK:
                change.rank = <uint32_t>field.value
            elif field.number == OLD_RANK:
                change.old_rank = <uint32_t>field.value
            elif field.number == NEW_RANK:
                change.new_rank = <uint32_t>field.value
        elif field.wire_type == WIRE_LENGTH:
            if field.number == SYMBOL:
                change.symbol = field.data
                change.symbol_length = field.length
            elif field.number == DATA:
                change.row = field.data
                change.row_length = field.length
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"ListChange")
    return 0


cdef void read_head_field(Head* head, const Field* field) noexcept nogil:
    """One of the fields beside the changes."""
    if field.wire_type == WIRE_VARINT:
        if field.number == EPOCH:
            head.epoch = <uint32_t>field.value
        elif field.number == PREVIOUS_SEQUENCE:
            head.previous_sequence = <uint32_t>field.value
        elif field.number == DELTA_SEQUENCE:
            head.sequence = <uint32_t>field.value
    elif field.wire_type == WIRE_LENGTH:
        if field.number == LIST_NAME:
            head.list = field.data
            head.list_length = field.length
        elif field.number == DELTA_TIMESTAMP:
            head.timestamp = field[0]
        elif field.number == DELTA_POSITION:
            head.position = field[0]


cdef class _Conflation:
    """The symbols of consecutive deltas, in the order in which they came."""

    cdef Merged* merged
    cdef int32_t count
    cdef int32_t room
    cdef dict places                # by symbol
    cdef bint has_first
    cdef Head first
    cdef Head last

    def __cinit__(self):
        self.places = {}

    def __dealloc__(self):
        free(self.merged)

    cdef Merged* of_symbol(self, const Change* change) except NULL:
        """The entry of its symbol; in a new one only whether it was a member before is known."""
        cdef bytes symbol = (<const char*>change.symbol)[:change.symbol_length] if change.symbol_length else b""
        cdef object place = self.places.get(symbol)
        cdef Merged* merged
        cdef void* larger
        if place is not None:
            return &self.merged[<int32_t>place]
        if self.count == self.room:
            larger = realloc(self.merged, (2 * self.room + 64) * sizeof(Merged))
            if larger == NULL:
                raise MemoryError(f"no memory for {2 * self.room + 64} symbols")
            self.merged = <Merged*>larger
            self.room = 2 * self.room + 64
        self.places[symbol] = self.count
        merged = &self.merged[self.count]
        self.count += 1
        memset(merged, 0, sizeof(Merged))
        merged.symbol = change.symbol
        merged.symbol_length = change.symbol_length
        # An ADD as the first change: it was no member before.
        merged.was_member = merged.is_member = change.action != <int32_t>Action.ADD
        return merged

    cdef int take_change(self, const Change* change, const unsigned char* record) except -1:
        """`record`: that of an update, NULL where all fields count as changed."""
        cdef Merged* merged = self.of_symbol(change)
        cdef uint32_t old_rank = 0
        cdef uint64_t[2] changed
        if change.action == <int32_t>Action.REMOVE:
            merged.is_member = merged.has_row = False
            # The ranks that follow are those of another stay.
            merged.has_first_rank = True
        elif change.action == <int32_t>Action.RERANK:
            if not merged.has_first_rank:
                merged.has_first_rank = True
                merged.first_rank = change.old_rank
            merged.rank = change.new_rank
        else:
            merged.is_member = merged.has_row = True
            merged.rank = change.rank
            merged.row = change.row
            merged.row_length = change.row_length
            if change.action == <int32_t>Action.UPDATE and record != NULL:
                memcpy(&old_rank, record, 4)
                memcpy(changed, record + 4, 16)
            else:
                # Of an ADD: whatever row was there before it left.
                changed[0] = changed[1] = ~<uint64_t>0
            merged.changed[0] |= changed[0]
            merged.changed[1] |= changed[1]
            if change.action == <int32_t>Action.UPDATE and not merged.has_first_rank:
                merged.has_first_rank = True
                merged.first_rank = old_rank
        return 0

    cdef int take(self, const Py_buffer* delta, bytes changed) except -1:
        """Takes the next delta, whose bytes have to stay, and the records of its updates."""
        cdef Cursor cursor = cursor_of(<bytes_ptr>delta.buf, delta.len)
        cdef const unsigned char* records = <const unsigned char*>PyBytes_AS_STRING(changed)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(changed), place = 0
        cdef const unsigned char* record
        cdef Field field
        cdef Change change
        cdef Head head
        cdef int status = next_field(&cursor, &field)
        memset(&head, 0, sizeof(Head))
        while status == WIRE_FIELD:
            if field.number == DELTAS and field.wire_type == WIRE_LENGTH:
                read_change(&field, &change)
                record = NULL
                if change.action == <int32_t>Action.UPDATE and size:
                    if place + RECORD > size:
                        raise ValueError(f"expected a record for each update, was {size} bytes")
                    record = records + place
                    place += RECORD
                self.take_change(&change, record)
            else:
                read_head_field(&head, &field)
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"ListDelta")
        if place != size:
            raise ValueError(f"expected {place} bytes of records, was {size}")
        return self.follow(&head)

    cdef int follow(self, const Head* head) except -1:
        """Checks that the delta follows the one before."""
        if not self.has_first:
            self.has_first = True
            self.first = head[0]
        elif head.epoch != self.first.epoch or head.previous_sequence != self.last.sequence:
            name = (<const char*>self.first.list)[:self.first.list_length].decode(errors="replace")
            raise ValueError(
                f"list {name}: expected a delta from {self.first.epoch}/{self.last.sequence}, "
                f"was from {head.epoch}/{head.previous_sequence}"
            )
        self.last = head[0]
        return 0

    cdef tuple encoded(self):
        """The one delta, and the records of its updates."""
        cdef Writer out, change, row, records
        cdef uint32_t changes = 0
        cdef int32_t i
        writer_init(&out, 4096)
        writer_init(&change, 1024)
        writer_init(&row, 1024)
        writer_init(&records, 1024)
        try:
            if self.first.list_length:
                write_length_field(&out, LIST_NAME, self.first.list, self.first.list_length)
            write_nonzero(&out, EPOCH, self.first.epoch)
            write_nonzero(&out, PREVIOUS_SEQUENCE, self.first.previous_sequence)
            write_nonzero(&out, DELTA_SEQUENCE, self.last.sequence)
            for i in range(self.count):
                change.size = 0
                write_change(&change, &row, &records, &self.merged[i])
                if change.size:
                    changes += 1
                    write_length_field(&out, DELTAS, change.data, change.size)
            write_nonzero(&out, CHANGE_COUNT, changes)
            if self.last.timestamp.number:
                write_length_field(&out, DELTA_TIMESTAMP, self.last.timestamp.data, self.last.timestamp.length)
            if self.last.position.number:
                write_length_field(&out, DELTA_POSITION, self.last.position.data, self.last.position.length)
            return writer_bytes(&out), writer_bytes(&records)
        finally:
            writer_free(&out)
            writer_free(&change)
            writer_free(&row)
            writer_free(&records)


cdef int begin_change(Writer* out, Action action, const Merged* merged) except -1:
    write_varint_field(out, ACTION, action)
    if merged.symbol_length:
        write_length_field(out, SYMBOL, merged.symbol, merged.symbol_length)
    return 0


cdef int write_change(Writer* out, Writer* row, Writer* records, const Merged* merged) except -1:
    """The content of the change from before to after, nothing if there is none; `row` is room for its row."""
    if not merged.is_member:
        if merged.was_member:
            begin_change(out, Action.REMOVE, merged)
    elif merged.has_row:
        begin_change(out, Action.UPDATE if merged.was_member else Action.ADD, merged)
        write_varint_field(out, CHANGE_RANK, merged.rank)
        row.size = 0
        write_ranked_row(row, merged)
        write_length_field(out, DATA, row.data, row.size)
        if merged.was_member:
            reserve(records, RECORD)
            memcpy(records.data + records.size, &merged.first_rank, 4)
            memcpy(records.data + records.size + 4, merged.changed, 16)
            records.size += RECORD
    elif merged.rank != merged.first_rank:
        begin_change(out, Action.RERANK, merged)
        write_varint_field(out, OLD_RANK, merged.first_rank)
        write_varint_field(out, NEW_RANK, merged.rank)
    return 0


cdef int write_ranked_row(Writer* out, const Merged* merged) except -1:
    """The row with the last rank, which it may have got by a RERANK after that."""
    cdef Cursor cursor = cursor_of(merged.row, merged.row_length)
    cdef Field field
    cdef bytes_ptr begin = cursor.pos
    cdef int status = next_field(&cursor, &field)
    write_varint_field(out, ROW_RANK, merged.rank)
    while status == WIRE_FIELD:
        if field.number != ROW_RANK:
            write_raw(out, begin, cursor.pos - begin)
        begin = cursor.pos
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"TickerRow")
    return 0


def conflated(steps not None):
    """Returns the delta and the records with the effect of consecutive ones; see list_conflation.pyi."""
    cdef _Conflation conflation = _Conflation()
    # Rows are copied out of the deltas in the end.
    cdef list held = []
    for delta, changed in steps:
        view = PyMemoryView_FromObject(delta).cast("B")
        held.append(view)
        conflation.take(PyMemoryView_GET_BUFFER(view), changed)
    return conflation.encoded()
