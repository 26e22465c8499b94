# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""RankedList, ListDelta and ListChange as bytes, field by field as protobuf itself would write them.

Tests compare with the generated classes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastcore.list_numbers cimport *
from fastcore.wire cimport (
    WIRE_LENGTH, WIRE_VARINT, Writer, put_varint, reserve, varint_size, write_length_field,
    write_varint_field, writer_bytes, writer_free, writer_init,
)

cdef enum:
    SYMBOL_TAG = SYMBOL << 3 | WIRE_LENGTH
    RANK_TAG = ROW_RANK << 3 | WIRE_VARINT
    ROWS_TAG = RANKED_ROWS << 3 | WIRE_LENGTH
    DELTAS_TAG = DELTAS << 3 | WIRE_LENGTH
    ACTION_TAG = ACTION << 3 | WIRE_VARINT
    CHANGE_RANK_TAG = CHANGE_RANK << 3 | WIRE_VARINT
    OLD_RANK_TAG = OLD_RANK << 3 | WIRE_VARINT
    NEW_RANK_TAG = NEW_RANK << 3 | WIRE_VARINT
    DATA_TAG = DATA << 3 | WIRE_LENGTH

cdef int64_t SECOND_NS = 1_000_000_000


cdef int row_of(bytes encoded, Row* row) except -1:
    """The bytes of an encoded row, which must begin with a symbol."""
    row.data = <const unsigned char*>PyBytes_AS_STRING(encoded)
    row.length = PyBytes_GET_SIZE(encoded)
    if row.length < 2 or row.data[0] != SYMBOL_TAG or row.data[1] >= 0x80 or row.length < 2 + <size_t>row.data[1]:
        raise ValueError(f"expected a row that begins with its symbol, was {encoded[:16]!r}")
    return 0


cdef inline size_t _symbol_size(Row row) noexcept nogil:
    """With tag and length."""
    return 2 + <size_t>row.data[1]


cdef inline unsigned char* _begin_change(unsigned char* pos, Action action, Row row, size_t size) noexcept nogil:
    pos[0] = DELTAS_TAG
    pos = put_varint(pos + 1, size)
    pos[0] = ACTION_TAG
    pos[1] = <unsigned char>action
    pos += 2
    memcpy(pos, row.data, _symbol_size(row))
    return pos + _symbol_size(row)


cdef inline unsigned char* _put_number(unsigned char* pos, unsigned char tag, uint32_t value) noexcept nogil:
    pos[0] = tag
    return put_varint(pos + 1, value)


cdef int write_removed(Writer* writer, Row row) except -1 nogil:
    cdef size_t size = 2 + _symbol_size(row)
    reserve(writer, size + 16)
    writer.size = _begin_change(writer.data + writer.size, Action.REMOVE, row, size) - writer.data
    return 0


cdef int write_reranked(Writer* writer, Row row, uint32_t old_rank, uint32_t new_rank) except -1 nogil:
    cdef size_t size = 4 + _symbol_size(row) + varint_size(old_rank) + varint_size(new_rank)
    cdef unsigned char* pos
    reserve(writer, size + 16)
    pos = _begin_change(writer.data + writer.size, Action.RERANK, row, size)
    pos = _put_number(pos, OLD_RANK_TAG, old_rank)
    pos = _put_number(pos, NEW_RANK_TAG, new_rank)
    writer.size = pos - writer.data
    return 0


cdef int write_changed_row(Writer* writer, Action action, Row row, uint32_t rank) except -1 nogil:
    """An ADD or UPDATE; the rank stands in the change and in the row."""
    cdef size_t data_size = 1 + varint_size(rank) + row.length
    cdef size_t size = 4 + _symbol_size(row) + varint_size(rank) + varint_size(data_size) + data_size
    cdef unsigned char* pos
    reserve(writer, size + 16)
    pos = _begin_change(writer.data + writer.size, action, row, size)
    pos = _put_number(pos, CHANGE_RANK_TAG, rank)
    pos[0] = DATA_TAG
    pos = put_varint(pos + 1, data_size)
    pos = _put_number(pos, RANK_TAG, rank)
    memcpy(pos, row.data, row.length)
    writer.size = (pos + row.length) - writer.data
    return 0


cdef int _write_head(Writer* writer, bytes label, const Moment* moment) except -1:
    if label:
        write_length_field(writer, 1, PyBytes_AS_STRING(label), len(label))
    write_nonzero(writer, 2, moment.epoch)
    return 0


cdef int write_nonzero(Writer* writer, uint32_t number, uint64_t value) except -1 nogil:
    """As protobuf writes a number without presence."""
    return write_varint_field(writer, number, value) if value else 0


cdef int _write_moment(Writer* writer, const Moment* moment, uint32_t time_field, uint32_t position_field) except -1:
    cdef Writer part
    writer_init(&part, 64)
    try:
        if moment.time_ns > 0:
            write_nonzero(&part, 1, moment.time_ns // SECOND_NS)
            write_nonzero(&part, 2, moment.time_ns % SECOND_NS)
            write_length_field(writer, time_field, part.data, part.size)
            part.size = 0
        write_nonzero(&part, 1, moment.epoch)
        write_nonzero(&part, 2, moment.sequence)
        write_length_field(writer, position_field, part.data, part.size)
    finally:
        writer_free(&part)
    return 0


cdef int begin_delta(Writer* writer, bytes label, const Moment* moment, uint32_t previous_sequence, uint32_t sequence
                     ) except -1:
    """Begins an encoded ListDelta; its `deltas` follow, then end_delta()."""
    _write_head(writer, label, moment)
    write_nonzero(writer, 3, previous_sequence)
    write_nonzero(writer, 4, sequence)
    return 0


cdef int end_delta(Writer* writer, const Moment* moment, uint32_t change_count) except -1:
    write_nonzero(writer, 6, change_count)
    return _write_moment(writer, moment, 7, 8)


cdef bytes ranked_list(bytes label, const Moment* moment, uint32_t sequence, list rows):
    """An encoded RankedList of encoded rows, the best first."""
    cdef Writer writer
    cdef Row row
    cdef unsigned char* pos
    cdef size_t size
    cdef uint32_t rank = 0
    cdef bytes encoded
    writer_init(&writer, 128 + 700 * <size_t>len(rows))
    try:
        _write_head(&writer, label, moment)
        write_nonzero(&writer, 3, sequence)
        for encoded in rows:
            rank += 1
            row_of(encoded, &row)
            size = 1 + varint_size(rank) + row.length
            reserve(&writer, size + 16)
            pos = writer.data + writer.size
            pos[0] = ROWS_TAG
            pos = put_varint(pos + 1, size)
            pos = _put_number(pos, RANK_TAG, rank)
            memcpy(pos, row.data, row.length)
            writer.size = (pos + row.length) - writer.data
        write_nonzero(&writer, 5, rank)
        _write_moment(&writer, moment, 6, 7)
        return writer_bytes(&writer)
    finally:
        writer_free(&writer)
