# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""How LULD messages, the trade-halt feed, trades and now make a row halted; docs/semantics.md, "Halts"."""

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t

from fastcore.columns cimport HaltSpans, check_ids, check_times
from fastcore.day_table cimport DayTable, SymbolDay, touch
from fastcore.halt_words cimport (
    LIMIT_HALT, LIMIT_RESUME, TRADED, Halt, HaltWord, add_listed, add_word, halt_of, has_trade, newest_word,
    new_words,
)
from fastcore.wire cimport load_i64, load_u32

# A trade that is at most so much later than a halt's beginning may have been made before it.
cdef int64_t TRADE_AFTER_NS = 1_000_000_000


cdef int settle_halt(DayTable* table, SymbolDay* row) except -1 nogil:
    cdef Halt halt
    cdef int64_t next_ns = halt_of(row.halt_words, table.now_ns, table.day.start, &halt)
    row.halt_watch = next_ns
    if next_ns < table.halts_due:
        table.halts_due = next_ns
    if (
        halt.halted != row.halted or halt.halted_at != row.halted_at or halt.resumes_at != row.resumes_at
        or halt.reason != row.halt_reason or halt.count > row.halts
    ):
        table.halted_count += (halt.halted == 1) - (row.halted == 1)
        row.halted = <int>halt.halted
        row.halted_at = halt.halted_at
        row.resumes_at = halt.resumes_at
        row.halt_reason = halt.reason
        # An announcement that is taken back may make one of two; what was counted stays.
        if halt.count > row.halts:
            row.halts = <double>halt.count
        touch(table, <uint32_t>(row - table.rows))
    return 0


cdef inline int listen(DayTable* table, SymbolDay* row) except -1 nogil:
    """Before a word: what is due takes effect first, so that it does not matter which words share a frame."""
    if row.halt_words == NULL:
        row.halt_words = new_words()
    elif table.now_ns >= row.halt_watch:
        settle_halt(table, row)
    return 0


cdef int traded(DayTable* table, SymbolDay* row, int64_t time_ns) except -1 nogil:
    """A trade that may set the price is a word when the symbol was halted then."""
    cdef Halt halt
    cdef HaltWord word
    halt_of(row.halt_words, time_ns, table.day.start, &halt)
    if halt.halted != 1 or time_ns <= halt.halted_at + TRADE_AFTER_NS or has_trade(row.halt_words, time_ns):
        return 0
    word.time_ns = time_ns
    word.kind = TRADED
    word.item_ns = word.reason = 0
    return add_word(row.halt_words, &word, table.now_ns, table.day.start)


cdef int limit_halt(DayTable* table, SymbolDay* row, int64_t time_ns, bint is_halt) except -1 nogil:
    cdef HaltWord word
    listen(table, row)
    word.time_ns = time_ns
    word.kind = LIMIT_HALT if is_halt else LIMIT_RESUME
    word.item_ns = word.reason = 0
    add_word(row.halt_words, &word, table.now_ns, table.day.start)
    traded(table, row, row.trade_time)
    return settle_halt(table, row)


cdef int trade_halt(DayTable* table, SymbolDay* row, int64_t time_ns) except -1 nogil:
    # Mostly it is later than all reports, and the symbol trades.
    if row.halted == 1 or time_ns <= newest_word(row.halt_words):
        traded(table, row, time_ns)
        settle_halt(table, row)
    return 0


cdef int settle_due(DayTable* table, int32_t count) except -1 nogil:
    cdef int32_t i
    if table.now_ns < table.halts_due:
        return 0
    table.halts_due = INT64_MAX
    for i in range(count):
        if table.rows[i].halt_watch <= table.now_ns:
            settle_halt(table, &table.rows[i])
        elif table.rows[i].halt_watch < table.halts_due:
            table.halts_due = table.rows[i].halt_watch
    return 0


cdef int check_halts(const HaltSpans* spans, int32_t count) except -1:
    cdef Py_ssize_t i
    cdef int64_t halted_at, resumes_at
    check_ids(spans.symbol_id, spans.rows, <uint32_t>count)
    check_times(spans.halted_at_ns, spans.rows, b"HaltBatch.halted_at_ns")
    check_times(spans.resumes_at_ns, spans.rows, b"HaltBatch.resumes_at_ns")
    for i in range(spans.rows):
        halted_at = load_i64(spans.halted_at_ns, i)
        resumes_at = load_i64(spans.resumes_at_ns, i)
        if halted_at == 0 or (resumes_at != 0 and resumes_at <= halted_at):
            raise ValueError(
                f"HaltBatch: expected a halt and a later resumption or none, was {halted_at} and {resumes_at} in row {i}"
            )
    return 0


cdef int apply_halts(DayTable* table, const HaltSpans* spans, const int32_t* codes) except -1 nogil:
    cdef Py_ssize_t i
    cdef uint32_t symbol_id
    cdef SymbolDay* row
    for i in range(spans.rows):
        symbol_id = load_u32(spans.symbol_id, i)
        row = &table.rows[symbol_id]
        touch(table, symbol_id)
        listen(table, row)
        add_listed(
            row.halt_words, load_i64(spans.halted_at_ns, i), load_i64(spans.resumes_at_ns, i), codes[i], table.now_ns,
            table.day.start,
        )
        traded(table, row, row.trade_time)
        settle_halt(table, row)
    return 0
