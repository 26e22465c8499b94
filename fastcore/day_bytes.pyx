# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A symbol's day as bytes; what its pointers point to stands behind it."""

from libc.math cimport isnan
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport calloc

from fastcore.anchored_volume cimport init_volume, read_volume, write_volume
from fastcore.chains cimport ChunkPool
from fastcore.columns cimport is_time
from fastcore.day_table cimport CLOSED, SECONDS_OF_DAY, StandInBars, SymbolDay
from fastcore.halt_words cimport read_words, write_words
from fastcore.state_bytes cimport read_block, write_block
from fastcore.suspects cimport init_recent, read_recent, write_recent
from fastcore.symbol_day cimport init_bars, new_window
from fastcore.windows cimport init_window, read_window, write_window
from fastcore.wire cimport Cursor, Writer


cdef int write_bars(Writer* writer, const ChunkPool* pool, const StandInBars* bars) except -1:
    cdef int64_t words = bars.words if bars.window != NULL else 0
    write_block(writer, &words, sizeof(int64_t))
    write_block(writer, &bars.postmarket_volume, sizeof(double))
    if words:
        write_block(writer, bars.seen, words * 8)
        write_window(writer, pool, bars.window)
    return 0


cdef int read_bars(Cursor* cursor, ChunkPool* pool, StandInBars* bars, int64_t expected) except -1:
    cdef int64_t words
    init_bars(bars)
    read_block(cursor, &words, sizeof(int64_t))
    read_block(cursor, &bars.postmarket_volume, sizeof(double))
    if words == 0:
        return 0
    if words != expected:
        raise ValueError(f"state: expected {expected} words of bars seen, was {words}")
    bars.seen = <uint64_t*>calloc(words, 8)
    if bars.seen == NULL:
        raise MemoryError("no memory for the bars that have been seen")
    bars.words = words
    read_block(cursor, bars.seen, words * 8)
    bars.window = new_window()
    read_window(cursor, pool, bars.window)
    return 0


cdef int write_day(Writer* writer, const ChunkPool* pool, const SymbolDay* row) except -1:
    # Pointers are no part of the state: they are written as nothing, and what they point to behind it.
    cdef SymbolDay plain = row[0]
    init_recent(&plain.recent)
    init_window(&plain.window)
    init_volume(&plain.volume)
    init_volume(&plain.premarket)
    init_bars(&plain.second_bars)
    init_bars(&plain.minute_bars)
    plain.halt_words = NULL
    write_block(writer, &plain, sizeof(SymbolDay))
    write_volume(writer, pool, &row.volume)
    write_volume(writer, pool, &row.premarket)
    write_window(writer, pool, &row.window)
    write_bars(writer, pool, &row.second_bars)
    write_bars(writer, pool, &row.minute_bars)
    write_words(writer, row.halt_words)
    write_recent(writer, &row.recent)
    return 0


cdef bint is_time_or_none(int64_t time_ns) noexcept nogil:
    return time_ns == -1 or is_time(time_ns)


cdef int read_day(Cursor* cursor, ChunkPool* pool, SymbolDay* row, int64_t codes) except -1:
    """ValueError when it cannot be; `row`, fresh from init_day, can be freed in any case."""
    cdef SymbolDay plain
    read_block(cursor, &plain, sizeof(SymbolDay))
    if not (0 <= plain.updated_session <= CLOSED and -1 <= plain.halted <= 1):
        raise ValueError("state: expected a session of 0 to 4 and halted of -1 to 1")
    if plain.no_flag or not (
        plain.any_message in (0, 1) and plain.any_trade in (0, 1) and plain.has_open_trade in (0, 1)
    ):
        raise ValueError("state: expected flags of 0 or 1")
    if plain.has_open_trade == isnan(plain.open_trade):
        raise ValueError("state: expected the first regular trade's price where there is one, and nothing else")
    # A row shows the session of its last update.
    if plain.updated_at >= 0 and plain.updated_session == 0:
        raise ValueError("state: expected the session of the last update, was none")
    if not (
        0 <= plain.halt_reason < codes and is_time_or_none(plain.halted_at) and is_time_or_none(plain.resumes_at)
        and is_time_or_none(plain.trade_time)
    ):
        raise ValueError("state: expected a halt, was something else")
    init_recent(&plain.recent)
    init_window(&plain.window)
    init_volume(&plain.volume)
    init_volume(&plain.premarket)
    init_bars(&plain.second_bars)
    init_bars(&plain.minute_bars)
    plain.halt_words = NULL
    row[0] = plain
    read_volume(cursor, pool, &row.volume)
    read_volume(cursor, pool, &row.premarket)
    read_window(cursor, pool, &row.window)
    read_bars(cursor, pool, &row.second_bars, SECONDS_OF_DAY // 64)
    read_bars(cursor, pool, &row.minute_bars, (SECONDS_OF_DAY // 60 + 63) // 64)
    read_words(cursor, &row.halt_words, codes)
    # What guards the words is not looked up again.
    if row.halt_words == NULL:
        if row.halted != -1 or row.halt_watch != INT64_MAX:
            raise ValueError("state: expected the reports of a halt, was none")
    read_recent(cursor, &row.recent)
    return 0
