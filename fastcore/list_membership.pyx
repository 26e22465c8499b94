# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Who enters and who leaves a list, read from an encoded ListDelta without its rows."""

from libc.stdint cimport int32_t, uint32_t

from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_LENGTH, WIRE_VARINT, Cursor, Field, cursor_of, enter, next_field, raise_wire_error,
)

cdef enum:
    DELTAS = 5                      # ListDelta.deltas
    # Of ListChange.
    ACTION = 1
    SYMBOL = 2
    RANK = 3
    ADD = 1
    REMOVE = 2


cdef int _append(list changes, const Field* change) except -1:
    """Appends a ListChange if it is an entry or a removal."""
    cdef Cursor cursor = enter(change)
    cdef Field field
    cdef Field symbol
    cdef int32_t action = 0
    cdef uint32_t rank = 0
    cdef int status = next_field(&cursor, &field)
    symbol.data = NULL
    symbol.length = 0
    while status == WIRE_FIELD:
        if field.wire_type == WIRE_VARINT and field.number == ACTION:
            # As protobuf reads an enum: its lower 32 bits.
            action = <int32_t>field.value
        elif field.wire_type == WIRE_VARINT and field.number == RANK:
            rank = <uint32_t>field.value
        elif field.wire_type == WIRE_LENGTH and field.number == SYMBOL:
            symbol = field
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"ListChange")
    if action == ADD or action == REMOVE:
        changes.append(((<const char*>symbol.data)[:symbol.length].decode(), rank if action == ADD else 0))
    return 0


def membership_changes(const unsigned char[::1] list_delta not None):
    """The entries and removals of an encoded ListDelta, in its order: list of (symbol, rank), rank 0 for a removal.

    ValueError when the bytes are no ListDelta.
    """
    cdef Cursor cursor
    cdef Field field
    cdef list changes = []
    cdef int status = WIRE_END
    if list_delta.shape[0]:
        cursor = cursor_of(&list_delta[0], list_delta.shape[0])
        status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.wire_type == WIRE_LENGTH and field.number == DELTAS:
            _append(changes, &field)
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"ListDelta")
    return changes
