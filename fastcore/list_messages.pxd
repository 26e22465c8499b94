# The messages of lists (scanner.proto), written without decoding the rows in
# them: a row is what MarketState.encode_row made, which begins with its symbol.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastcore.wire cimport Writer

# ListChange.Action.
cdef enum Action:
    ADD = 1
    REMOVE = 2
    RERANK = 3
    UPDATE = 4

# Where in the market's stream, and when by the events' time, a list stood so.
cdef struct Moment:
    uint32_t epoch
    uint32_t sequence
    int64_t time_ns         # 0 before the first event

cdef struct Row:
    const unsigned char* data
    size_t length

cdef int row_of(bytes encoded, Row* row) except -1
cdef int write_nonzero(Writer* writer, uint32_t number, uint64_t value) except -1 nogil
cdef int write_removed(Writer* writer, Row row) except -1 nogil
cdef int write_reranked(Writer* writer, Row row, uint32_t old_rank, uint32_t new_rank) except -1 nogil
cdef int write_changed_row(Writer* writer, Action action, Row row, uint32_t rank) except -1 nogil
cdef int begin_delta(Writer* writer, bytes label, const Moment* moment, uint32_t previous_sequence, uint32_t sequence
                     ) except -1
cdef int end_delta(Writer* writer, const Moment* moment, uint32_t change_count) except -1
cdef bytes ranked_list(bytes label, const Moment* moment, uint32_t sequence, list rows)
