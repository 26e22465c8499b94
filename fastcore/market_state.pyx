# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The state of the market: a function of the stream's frames, of nothing else.

A frame changes the symbols' days (symbol_day.pyx), their reference columns
(reference_frames.pyx) or now. refresh() brings what follows from these to the
columns of rows that were touched. What moves with time alone is that of the row's
moment: of the last watermark that found it touched or that began a second of event
time, and of now while it is touched and no watermark has come since.
"""

from array import array
from bisect import bisect_left

from cpython.bytes cimport PyBytes_AS_STRING
from libc.math cimport isnan
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastcore.alert_memory cimport AlertMemory
from fastcore.baselines cimport (
    Baselines, fill_slot, forget_baseline, free_baselines, grow_baselines, move_baselines, read_baseline,
    write_baseline,
)
from fastcore.change_log cimport free_log, grow_log, next_place, note_rows
from fastcore.chains cimport free_pool, init_pool, pool_bytes
from fastcore.columns cimport (
    BarSpans, HaltSpans, LimitSpans, QuoteSpans, SnapshotSpans, TradeSpans, check_ids, check_times, is_time, parse_bars,
    parse_halts, parse_limits, parse_quotes, parse_snapshot, parse_trades,
)
from fastcore.day_bytes cimport read_day, write_day
from fastcore.day_table cimport (
    DERIVED_BEFORE, NOT_MARKED, RANGES_CHANGED, DayBounds, PriceSpan, SymbolDay, derive_again,
    moment_ns_of, session_of, touch,
)
from fastcore.derived cimport (
    Moment, derive_from_now, derive_ranges, derive_row, derive_row_from_now, derive_windows, fetch_derived, moment_at,
)
from fastcore.field_numbers cimport *
from fastcore.halts cimport apply_halts, check_halts, settle_due
from fastcore.market_scalars cimport forget_scalars, take_scalars
from fastcore.memory cimport ROOM, grow_array, grow_block
from fastcore.opening_ranges cimport OpeningRange, find_range_ends, init_range
from fastcore.recent_trades cimport free_recent, init_recent, read_recent, write_recent
from fastcore.reference_frames cimport (
    DAY_BEFORE_FIELDS, HISTORY_COLUMNS, HISTORY_FIELDS, NUMBER_COLUMNS, NUMBER_FIELDS, TEXT_COLUMNS, TEXT_FIELDS,
    Splits, apply_baselines, apply_reference, parse_reasons, parse_symbols, parse_trading_day, parse_watermark,
)
from fastcore.row_encoder cimport encoded_row, row_dict
from fastcore.row_values cimport free_values, grow_values, init_row, init_values, put_value, value_of
from fastcore.row_view cimport RowView
from fastcore.state_bytes cimport mixed, read_block, write_block
from fastcore.suspects cimport SuspectCounts
from fastcore.symbol_day cimport (
    apply_bars, apply_limits, apply_quotes, apply_snapshot, apply_trades, fetch_buckets, fetch_day, fetch_window,
    drop_windows, fetch_windows_ahead, free_day, init_day, order_dirty,
)
from fastcore.text_pool cimport TextPool, read_text, write_text
from fastcore.trade_rules cimport RuleMasks, builtin_rules, parse_rules
from fastcore.window_sums cimport OlderSums
from fastcore.windows cimport GRID_NS, grid_of
from fastcore.whole_columns cimport WholeColumns
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_LENGTH, Cursor, Field, Writer, cursor_of, load_u32, next_field, raise_wire_error,
    writer_bytes, writer_free, writer_init,
)

from fastcore import fields

cdef enum:
    # The bodies of Frame.
    SYMBOLS = 2
    REFERENCE = 3
    BASELINES = 4
    TRADING_DAY = 5
    TRADE_RULES = 6
    LIST_FILTERS = 7
    VENDOR_SNAPSHOT = 8
    TRADES = 9
    BARS = 10
    QUOTES = 11
    LIMITS = 12
    WATERMARK = 13
    HALTS = 14
    ALERT_RULES = 15
    # Rows ahead that are fetched: their day, and what is derived of them.
    AHEAD = 16
    CLOSE = 3
    FEW_SYMBOLS = 16            # so many are put into the order one by one

cdef double NAN = float("nan")
cdef int64_t SECOND_NS = 1_000_000_000
# Fields whose columns hold codes of texts; a symbol is its row's name.
cdef list TEXT_NUMBERS = [field.number for field in fields.FIELDS if field.kind == "text" and field.name != "symbol"]
# Begins every snapshot: another layout is another text.
cdef bytes FORMAT_NAME = b"tradeul state "
cdef bytes FORMAT = FORMAT_NAME + f"14 {sizeof(SymbolDay)} {COLUMN_COUNT}\n".encode()


cdef str format_error(bytes found):
    """Says how the first bytes of a state differ from FORMAT."""
    if found.startswith(FORMAT_NAME) and b"\n" in found:
        expected = FORMAT.removeprefix(FORMAT_NAME).decode().strip()
        was = found.removeprefix(FORMAT_NAME).split(b"\n")[0].decode(errors="replace")
        return f"expected format {expected!r}, was {was!r}, which another version of Tradeul writes"
    return f"expected bytes that begin with {FORMAT!r}, was {found!r}"


cdef int check_fields() except -1:
    """That the numbers of field_numbers.pxd are those of fields.py."""
    named = {
        "symbol": F_SYMBOL, "is_etf": F_IS_ETF, "price": F_PRICE, "prev_close": F_PREV_CLOSE, "open": F_OPEN,
        "close": F_CLOSE, "vwap": F_VWAP, "rvol": F_RVOL, "trades_z_score": F_TRADES_Z_SCORE, "chg_1m": F_CHG_1M,
        "vol_1m": F_VOL_1M, "vol_30m": F_VOL_30M, "beta": F_BETA, "halted": F_HALTED, "session": F_SESSION,
        "updated_at": F_UPDATED_AT, "age_seconds": F_AGE_SECONDS, "score": F_SCORE, "security_type": F_SECURITY_TYPE,
        "halts_today": F_HALTS_TODAY, "or1_high": F_OR1_HIGH, "or60_low": F_OR60_LOW, "trades_1m": F_TRADES_1M,
        "low_15m": F_LOW_15M, "low_30m": F_LOW_30M, "last_size": F_LAST_SIZE, "spy_chg_30m": F_SPY_CHG_30M,
        "prev_open": F_PREV_OPEN, "sma_200d": F_SMA_200D, "ssr": F_SSR,
    }
    ours = {name: fields.BY_NAME[name].number for name in named}
    if ours != named or fields.FIELD_COUNT != F_COUNT:
        raise ImportError(f"expected the fields' numbers {named}, was {ours}: build fastcore anew")
    return 0


check_fields()


cdef class MarketState:
    """One row per symbol, with every field of docs/fields.md; ids are dense, in the order of the symbol table.

    Rows, columns and filters show the state as of the last refresh(). Before trade rules come, the
    built-in ones hold. Not for several threads at once. One that keeps no windows needs half the memory; it
    has what fastcore/measures.pyx tells, and its rows, columns and bytes are refused.
    """

    def __cinit__(self, bint keeps_windows=True):
        cdef int field
        self.table.keeps_windows = keeps_windows
        self.names = []
        self.encoded_names = []
        self.ids = {}
        self.ascending = []
        self.pool = TextPool()
        self.alerts = AlertMemory()
        self.trading_date = ""
        self.next_trading_date = ""
        self.baselines.slot = -1
        self.derived_grid = self.derived_ns = self.table.mark_ns = -1
        self.table.halts_due = INT64_MAX
        self.spy = -1
        forget_scalars(&self.table)
        builtin_rules(&self.table.rules)
        init_recent(&self.table.recent_trades)
        init_pool(&self.table.chunks)
        self.whole = WholeColumns()
        init_values(&self.values)
        self.columns = self.values.columns
        self.text_columns = <int32_t**>calloc(F_COUNT, sizeof(int32_t*))
        if self.text_columns == NULL:
            raise MemoryError("no memory for a market's columns")
        writer_init(&self.scratch, 4096)
        self._grow(ROOM)

    def __dealloc__(self):
        cdef int32_t i
        cdef int field
        if self.table.rows != NULL:
            for i in range(self.count):
                free_day(&self.table.chunks, &self.table.rows[i])
        free(self.table.rows)
        free_pool(&self.table.chunks)
        free_recent(&self.table.recent_trades)
        free(self.table.revision)
        free(self.table.touches)
        free(self.table.dirty)
        free(self.table.unmarked)
        free(self.table.marked)
        free(self.table.spans)
        free(self.table.moments)
        free(self.table.older_sums)
        free(self.table.ranges)
        free_log(&self.changes)
        free(self.table.updated_at)
        free(self.symbol_order)
        free_values(&self.values)
        if self.text_columns != NULL:
            for field in range(F_COUNT):
                free(self.text_columns[field])
        free(self.text_columns)
        free_baselines(&self.baselines)
        writer_free(&self.scratch)

    def __reduce__(self):
        raise TypeError("MarketState cannot be pickled: send to_bytes()")

    # ---- rows ----

    cdef int _grow(self, int32_t count) except -1:
        """Room for `count` rows. _add_rows() initialises them: a wide row takes memory once it is written to."""
        cdef int32_t old = self.capacity, room = max(count, <int32_t>ROOM)
        cdef int field
        if count <= old:
            return 0
        room = max(room, 2 * old)
        grow_block(<void**>&self.table.rows, old * sizeof(SymbolDay), room * sizeof(SymbolDay))
        grow_values(&self.values, old, room)
        self.whole.make_room(room)
        grow_array(<void**>&self.table.revision, room, sizeof(uint32_t))
        grow_array(<void**>&self.table.touches, room, sizeof(uint8_t))
        grow_array(<void**>&self.table.dirty, room, sizeof(int32_t))
        grow_array(<void**>&self.table.unmarked, room, sizeof(int32_t))
        grow_array(<void**>&self.table.marked, room, sizeof(int32_t))
        grow_array(<void**>&self.table.spans, room, sizeof(PriceSpan))
        grow_array(<void**>&self.table.moments, room, sizeof(int64_t))
        grow_block(<void**>&self.table.older_sums, old * sizeof(OlderSums), room * sizeof(OlderSums))
        grow_block(<void**>&self.table.ranges, old * sizeof(OpeningRange), room * sizeof(OpeningRange))
        grow_log(&self.changes, room)
        grow_array(<void**>&self.table.updated_at, room, sizeof(int64_t))
        grow_array(<void**>&self.symbol_order, room, sizeof(int32_t))
        self.revision = self.table.revision
        for field in TEXT_NUMBERS:
            grow_array(<void**>&self.text_columns[field], room, sizeof(int32_t))
            memset(self.text_columns[field] + old, 0, (room - old) * sizeof(int32_t))
        grow_baselines(&self.baselines, room)
        self.capacity = room
        return 0

    cdef int _add_rows(self, int32_t count) except -1:
        """Rows that hold nothing."""
        cdef int32_t i
        self._grow(self.count + count)
        for i in range(self.count, self.count + count):
            init_day(&self.table.rows[i])
            init_range(&self.table.ranges[i])
            init_row(&self.values, i)
            self.table.revision[i] = 0
            self.table.touches[i] = 0
            self.table.moments[i] = -1
            self.table.spans[i].high = self.table.spans[i].low = NAN
            self.table.updated_at[i] = -1
        self.count += count
        return 0

    cdef int _add_symbols(self, list symbols) except -1:
        cdef int32_t i, first = self.count
        cdef str symbol
        if len(set(symbols)) != len(symbols) or not self.ids.keys().isdisjoint(symbols):
            twice = next(s for i, s in enumerate(symbols) if s in self.ids or s in symbols[:i])
            raise ValueError(f"SymbolTable.symbols: expected symbols that are new, was {twice!r} again")
        self._add_rows(<int32_t>len(symbols))
        for i, symbol in enumerate(symbols, first):
            self.ids[symbol] = i
            self.names.append(symbol)
            self.encoded_names.append(symbol.encode())
        if len(symbols) <= FEW_SYMBOLS:
            # Whoever trades for the first time comes alone, in the middle of the day.
            for i in range(first, self.count):
                self._put_in_order(i)
        else:
            self.ascending.extend(symbols)
            self.ascending.sort()
            for i, symbol in enumerate(self.ascending):
                self.symbol_order[<int32_t>self.ids[symbol]] = i
        self.changes.symbols_moved = next_place(&self.changes)
        self.spy = self.ids.get("SPY", -1)
        for i in range(first, self.count):
            touch(&self.table, <uint32_t>i)
        return 0

    cdef int _put_in_order(self, int32_t symbol_id) except -1:
        """Gives a symbol its place among those before it in the table."""
        cdef str symbol = self.names[symbol_id]
        cdef int32_t i, place = bisect_left(self.ascending, symbol)
        self.ascending.insert(place, symbol)
        for i in range(symbol_id):
            self.symbol_order[i] += self.symbol_order[i] >= place
        self.symbol_order[symbol_id] = place
        return 0

    # ---- frames ----

    cpdef int apply(self, const unsigned char[::1] frame) except -1:
        """Applies one encoded Frame, the position of which is the caller's to check.

        ValueError for one that cannot be applied; it may then have been in part, and the copy
        is no longer to be used.
        """
        if frame is None:
            raise TypeError("frame: expected an encoded Frame, was None")
        cdef Cursor cursor = cursor_of(&frame[0] if frame.shape[0] else NULL, frame.shape[0])
        cdef Field field
        cdef Field body
        cdef int status = next_field(&cursor, &field)
        body.number = 0
        while status == WIRE_FIELD:
            if SYMBOLS <= field.number <= ALERT_RULES:
                if field.wire_type != WIRE_LENGTH:
                    raise ValueError(f"Frame, field {field.number}: expected a message, was type {field.wire_type}")
                if body.number:
                    raise ValueError(f"Frame: expected one body, was {body.number} and {field.number}")
                body = field
            status = next_field(&cursor, &field)
        if status != WIRE_END:
            raise_wire_error(status, b"Frame")
        if body.number == 0:
            raise ValueError("Frame: expected a body that is known, was none")
        self._apply_body(&body)
        settle_due(&self.table, self.count)
        if body.number == WATERMARK:
            self._take_mark()
        self._take_now()
        return 0

    cdef int _apply_body(self, const Field* body) except -1:
        cdef RuleMasks rules
        cdef int64_t time_ns
        if VENDOR_SNAPSHOT <= body.number <= LIMITS:
            self._apply_batch(body)
        elif body.number == HALTS:
            self._apply_halts(body)
        elif body.number == WATERMARK:
            time_ns = parse_watermark(body)
            self.table.now_ns = max(self.table.now_ns, time_ns)
        elif body.number == SYMBOLS:
            self._add_symbols(parse_symbols(body, self.count))
        elif body.number == REFERENCE:
            apply_reference(body, &self.table, self.columns, self.text_columns, self.pool, self.count)
        elif body.number == BASELINES:
            apply_baselines(body, &self.table, &self.baselines, self.count)
        elif body.number == TRADING_DAY:
            self._begin_day(body)
        elif body.number == ALERT_RULES:
            self.alerts.set_rules((<const char*>body.data)[:body.length])
        elif body.number == TRADE_RULES:
            parse_rules(body.data, body.length, &rules)
            self.table.rules = rules
        # List filters change no row.
        return 0

    cdef int _apply_batch(self, const Field* body) except -1:
        """Everything that the kernels index with is checked before they run."""
        cdef TradeSpans trades
        cdef BarSpans bars
        cdef QuoteSpans quotes
        cdef LimitSpans limits
        cdef SnapshotSpans snapshot
        cdef uint32_t count = <uint32_t>self.count
        if self.table.day.end == 0:
            raise ValueError(f"Frame, field {body.number}: expected a trading day before the first events, was none")
        with nogil:
            if body.number == TRADES:
                parse_trades(body.data, body.length, &trades)
                check_ids(trades.symbol_id, trades.rows, count)
                check_times(trades.time_ns, trades.rows, b"TradeBatch.time_ns")
                apply_trades(&self.table, &trades)
            elif body.number == BARS:
                parse_bars(body.data, body.length, &bars)
                check_ids(bars.symbol_id, bars.rows, count)
                check_times(bars.start_ns, bars.rows, b"BarBatch.start_ns")
                check_times(bars.end_ns, bars.rows, b"BarBatch.end_ns")
                apply_bars(&self.table, &bars)
            elif body.number == QUOTES:
                parse_quotes(body.data, body.length, &quotes)
                check_ids(quotes.symbol_id, quotes.rows, count)
                check_times(quotes.time_ns, quotes.rows, b"QuoteBatch.time_ns")
                apply_quotes(&self.table, &quotes)
            elif body.number == LIMITS:
                parse_limits(body.data, body.length, &limits)
                check_ids(limits.symbol_id, limits.rows, count)
                check_times(limits.time_ns, limits.rows, b"LimitBatch.time_ns")
                apply_limits(&self.table, &limits)
            else:
                parse_snapshot(body.data, body.length, &snapshot)
                check_ids(snapshot.symbol_id, snapshot.rows, count)
                check_times(snapshot.updated_ns, snapshot.rows, b"VendorSnapshot.updated_ns")
                check_times(snapshot.last_trade_ns, snapshot.rows, b"VendorSnapshot.last_trade_ns")
                check_times(snapshot.minute_start_ns, snapshot.rows, b"VendorSnapshot.minute_start_ns")
                apply_snapshot(&self.table, &snapshot, count)
        return 0

    cdef int _apply_halts(self, const Field* body) except -1:
        cdef HaltSpans halts
        cdef int32_t[::1] codes
        if self.table.day.end == 0:
            raise ValueError("HaltBatch: expected a trading day before the first halts, was none")
        parse_halts(body.data, body.length, &halts)
        check_halts(&halts, self.count)
        codes = parse_reasons(body, halts.rows, self.pool)
        if halts.rows:
            apply_halts(&self.table, &halts, &codes[0])
        return 0

    cdef int _begin_day(self, const Field* body) except -1:
        cdef DayBounds bounds
        cdef Splits splits
        cdef str trading_date, next_trading_date
        trading_date, next_trading_date = parse_trading_day(body, &bounds, &splits, self.count)
        if self.trading_date and trading_date != self.trading_date:
            self._forget_day(&splits)
        self.trading_date = trading_date
        self.next_trading_date = next_trading_date
        self.table.day = bounds
        find_range_ends(bounds.open, self.table.range_ends)
        self.is_all_dirty = True
        # Where now stands in the volume slots is another matter.
        self.baselines.slot = -1
        return 0

    cdef int _forget_day(self, const Splits* splits) except -1:
        """Symbols and metadata outlast the day, and history that is not of one day alone, in shares that did not split."""
        cdef int32_t i
        cdef int k
        cdef Py_ssize_t at
        for i in range(self.count):
            free_day(&self.table.chunks, &self.table.rows[i])
            init_range(&self.table.ranges[i])
            self.table.spans[i].high = self.table.spans[i].low = NAN
            for k in range(DAY_BEFORE_FIELDS):
                put_value(self.columns, HISTORY_COLUMNS[k], i, NAN)
            if splits.is_unknown:
                self._forget_history(<uint32_t>i)
            touch(&self.table, <uint32_t>i)
        # None of it is in use, and the new day fills it slowly.
        free_pool(&self.table.chunks)
        for at in range(splits.ids.count):
            self._forget_history(load_u32(splits.ids.data, at))
        self.table.active_count = self.table.halted_count = 0
        self.table.halts_due = INT64_MAX
        memset(&self.table.suspects, 0, sizeof(SuspectCounts))
        self.table.recent_trades.count = 0
        forget_scalars(&self.table)
        self.alerts.forget_day()
        return 0

    cdef void _forget_history(self, uint32_t symbol_id) noexcept:
        """Forgets numbers in shares, or in prices of shares, from before a split."""
        cdef int k
        for k in range(DAY_BEFORE_FIELDS, HISTORY_FIELDS):
            put_value(self.columns, HISTORY_COLUMNS[k], symbol_id, NAN)
        forget_baseline(&self.baselines, symbol_id)

    cdef void _take_now(self) noexcept:
        self.now_ns = self.table.now_ns
        # Of the rows' moments: now may be ahead of them until the next watermark.
        self.window_mark_ns = grid_of(max(self.table.mark_ns, 0)) * (10 * <int64_t>GRID_NS)
        self.session = session_of(&self.table.day, self.now_ns)

    cdef void _take_mark(self) noexcept nogil:
        """A watermark: gives the touched rows its moment, and all rows when it is the first in a second."""
        cdef DayTable* table = &self.table
        cdef int32_t i, k
        if table.now_ns // SECOND_NS > table.mark_ns // SECOND_NS:
            table.mark_ns = table.now_ns
            take_scalars(table, self.columns, self.spy)
            self.is_second_due = True
        for k in range(table.unmarked_count):
            i = table.unmarked[k]
            if self.derived_ns != table.now_ns:
                derive_again(table, i)
            table.touches[i] &= ~NOT_MARKED
            table.moments[i] = table.now_ns
        table.marked, table.unmarked = table.unmarked, table.marked
        table.marked_count = table.unmarked_count
        table.unmarked_count = 0

    cpdef int refresh(self) except -1:
        """Brings all derived columns to the rows' moments; costs nothing when they are."""
        cdef DayTable* table = &self.table
        cdef int32_t k
        if self.derived_ns != table.now_ns:
            for k in range(table.unmarked_count):
                derive_again(table, table.unmarked[k])
            self.derived_ns = table.now_ns
        if not table.dirty_count and not self.is_all_dirty and not self.is_second_due:
            return 0
        with nogil:
            memcpy(self.values.scalars, table.scalars, sizeof(table.scalars))
            if self.is_second_due:
                self._begin_second()
            # In the order of ids, not of arrival: rows near each other share lines of every column.
            order_dirty(table, self.count)
            if self.is_all_dirty:
                self._derive_rows(NULL, self.count)
                self.changes.all_changed = next_place(&self.changes)
            else:
                self._derive_rows(table.dirty, table.dirty_count)
                note_rows(&self.changes, table.dirty, table.dirty_count)
            self.whole.follow(self.columns, &self.changes, self.count)
            for k in range(table.dirty_count):
                table.touches[table.dirty[k]] &= ~(DERIVED_BEFORE | RANGES_CHANGED)
            table.dirty_count = 0
        self.is_all_dirty = self.is_second_due = False
        return 0

    cdef void _begin_second(self) noexcept nogil:
        """Brings what moves with time to the mark, but for rows that are derived as a whole."""
        cdef DayTable* table = &self.table
        cdef Moment mark = moment_at(table, table.mark_ns)
        cdef int32_t i
        if mark.is_after_close != self.derived_after_close:
            self.is_all_dirty = True
        if not self.is_all_dirty:
            if self.baselines.slot != mark.slot:
                fill_slot(&self.baselines, mark.slot)
            if mark.grid != self.derived_grid and table.keeps_windows:
                for i in range(self.count):
                    fetch_windows_ahead(table, i, self.count, mark.grid)
                    # Most rows have nothing of which these ten seconds are the end of a window.
                    if (
                        not table.touches[i] & DERIVED_BEFORE and table.rows[i].any_message
                        and mark.grid >= table.older_sums[i].until
                    ):
                        derive_windows(self.columns, table, i, &mark)
                self.changes.windows_moved = next_place(&self.changes)
            derive_from_now(self.columns, table.updated_at, &self.baselines, self.count, &mark)
            self.changes.second_began = next_place(&self.changes)
        self.derived_after_close = mark.is_after_close
        self.derived_grid = mark.grid

    cdef void _derive_rows(self, const int32_t* ids, int32_t count) noexcept nogil:
        """Everything of these rows, of rows 0 to `count` without ids."""
        cdef DayTable* table = &self.table
        cdef Moment moment = moment_at(table, table.now_ns)
        cdef int32_t i, k
        cdef int64_t moment_ns
        for k in range(count):
            if ids != NULL and k + AHEAD < count:
                fetch_day(&table.rows[ids[k + AHEAD]])
            if ids != NULL and k + AHEAD // 2 < count:
                fetch_window(table, ids[k + AHEAD // 2])
            if ids != NULL and k + CLOSE < count:
                fetch_buckets(table, ids[k + CLOSE], moment.grid)
                fetch_derived(self.columns, &self.baselines, ids[k + CLOSE])
            i = k if ids == NULL else ids[k]
            moment_ns = moment_ns_of(table, i)
            if moment_ns != moment.now_ns:
                moment = moment_at(table, moment_ns)
            derive_row(self.columns, table, i, &moment)
            derive_row_from_now(self.columns, table.updated_at, &self.baselines, i, &moment)
            if ids == NULL or table.touches[i] & RANGES_CHANGED:
                derive_ranges(self.columns, table, i)
            self.text_columns[F_HALT_REASON][i] = <int32_t>table.rows[i].halt_reason
        self.derived_rows += count

    cdef int bring_columns(self, const int* field_numbers, int count) except -1:
        return self.whole.bring(self.columns, &self.changes, self.count, field_numbers, count)

    cdef RowView view(self) noexcept nogil:
        """All rows, for programs."""
        cdef RowView rows
        rows.columns = self.whole.columns
        rows.text_columns = self.text_columns
        rows.symbol_order = self.symbol_order
        rows.ids = NULL
        return rows

    cdef int64_t moment_ns(self, int32_t symbol_id) noexcept nogil:
        return moment_ns_of(&self.table, symbol_id)

    cdef int need_windows(self) except -1:
        """ValueError where there are none: what would be read is absent here, and is not in the market."""
        if not self.table.keeps_windows:
            raise ValueError("expected a state that keeps windows, was one that keeps none")
        return 0

    # ---- readers ----

    @property
    def symbols(self):
        """All symbols, by id."""
        return list(self.names)

    @property
    def active_count(self):
        """Symbols that have had a trade or bar today."""
        return self.table.active_count

    @property
    def halted_count(self):
        """Symbols that are halted now."""
        return self.table.halted_count

    @property
    def list_bytes(self):
        return pool_bytes(&self.table.chunks)

    @property
    def suspect_prints(self):
        """Today's suspect prints by outcome: unconfirmed (so far), confirmed_by_trade, confirmed_by_bar."""
        cdef const SuspectCounts* counts = &self.table.suspects
        return {
            "unconfirmed": counts.prints - counts.confirmed_by_trade - counts.confirmed_by_bar,
            "confirmed_by_trade": counts.confirmed_by_trade,
            "confirmed_by_bar": counts.confirmed_by_bar,
        }

    @property
    def lowered_volumes(self):
        """Number of bars with fewer shares than had been counted."""
        return self.table.lowered_volumes

    cpdef int32_t symbol_id(self, str symbol) except -2:
        """The id of a symbol; -1 when there is none."""
        return self.ids.get(symbol, -1)

    cpdef int32_t text_code(self, str text) except -2:
        """The code of a text in text columns; -1 when no row has had it."""
        return self.pool.code_of(text)

    cpdef bytes encode_row(self, int32_t symbol_id):
        """The encoded TickerRow, without rank. IndexError for no id."""
        self.need_windows()
        if not 0 <= symbol_id < self.count:
            raise IndexError(f"expected an id in [0, {self.count}), was {symbol_id}")
        return encoded_row(
            &self.scratch, <bytes>self.encoded_names[symbol_id], self.columns, self.text_columns, self.pool,
            &self.table.rows[symbol_id], symbol_id,
        )

    def row(self, str symbol not None, names=None):
        """The fields that can be known by name, or those of `names` and the symbol: enums as texts, times as ns.
        KeyError for no symbol, or no such field.
        """
        cdef int32_t i = self.symbol_id(symbol)
        self.need_windows()
        if i < 0:
            raise KeyError(symbol)
        return row_dict(symbol, self.columns, self.text_columns, self.pool, &self.table.rows[i], i, names)

    def column(self, str name not None):
        """A copy of a field's column by id: array of doubles, NaN absent. KeyError for no such field, or a text."""
        cdef int number = fields.BY_NAME[name].number
        cdef int32_t i
        cdef double[::1] copy
        self.need_windows()
        if self.columns[number].values == NULL:
            raise KeyError(f"expected a field that is no text, was {name!r}")
        values = array("d", bytes(self.count * sizeof(double)))
        if self.count:
            copy = values
            for i in range(self.count):
                copy[i] = value_of(self.columns, number, i)
        return values

    def number(self, str symbol not None, str name not None):
        """A field of one symbol as it is stored, NaN when absent. KeyError for no symbol, no such field, or a text."""
        cdef int number = fields.BY_NAME[name].number
        cdef int32_t i = self.symbol_id(symbol)
        self.need_windows()
        if i < 0 or self.columns[number].values == NULL:
            raise KeyError(f"expected a symbol and a field that is no text, was {symbol!r}, {name!r}")
        return value_of(self.columns, number, i)

    def texts(self, str name not None):
        """A copy of a text field's column by id: list of str, "" absent. KeyError for no such field, or no text."""
        cdef int number = fields.BY_NAME[name].number
        cdef int32_t i
        cdef const int32_t* codes = self.text_columns[number]
        cdef list texts = self.pool.texts
        if name == "symbol":
            return list(self.names)
        if codes == NULL:
            raise KeyError(f"expected a text field, was {name!r}")
        return [texts[codes[i]] for i in range(self.count)]

    # ---- the snapshot as bytes: what decides what comes, without the derived columns ----

    cdef int _write_head(self, Writer* writer) except -1:
        cdef int64_t count = self.count
        cdef int32_t i
        cdef bytes name
        write_block(writer, PyBytes_AS_STRING(FORMAT), len(FORMAT))
        write_block(writer, &self.table.day, sizeof(DayBounds))
        write_block(writer, &self.table.rules, sizeof(RuleMasks))
        write_block(writer, &self.table.now_ns, sizeof(int64_t))
        write_block(writer, &self.table.mark_ns, sizeof(int64_t))
        write_block(writer, self.table.scalars, sizeof(self.table.scalars))
        write_block(writer, &self.table.suspects, sizeof(SuspectCounts))
        write_block(writer, &self.table.lowered_volumes, sizeof(int64_t))
        write_text(writer, self.trading_date.encode())
        write_text(writer, self.next_trading_date.encode())
        self.pool.write(writer)
        write_block(writer, &count, sizeof(int64_t))
        for name in self.encoded_names:
            write_text(writer, name)
        write_recent(writer, &self.table.recent_trades)
        self.alerts.write(writer, self.count)
        return 0

    cdef int _write_row(self, Writer* writer, int32_t i, bint with_baselines) except -1:
        cdef int k
        cdef double number
        cdef int64_t no_baseline = 0
        cdef int64_t moment_ns = -1 if self.table.touches[i] & NOT_MARKED else self.moment_ns(i)
        write_block(writer, &moment_ns, sizeof(int64_t))
        if moment_ns < 0:
            write_block(writer, &self.table.spans[i], sizeof(PriceSpan))
        for k in range(NUMBER_FIELDS):
            number = value_of(self.columns, NUMBER_COLUMNS[k], i)
            write_block(writer, &number, sizeof(double))
        for k in range(TEXT_FIELDS):
            write_block(writer, &self.text_columns[TEXT_COLUMNS[k]][i], sizeof(int32_t))
        write_block(writer, &self.table.ranges[i], sizeof(OpeningRange))
        write_day(writer, &self.table.chunks, &self.table.rows[i])
        if with_baselines:
            write_baseline(writer, &self.baselines, i)
        else:
            write_block(writer, &no_baseline, sizeof(int64_t))
        return 0

    cdef int write(self, Writer* writer, bint with_baselines) except -1:
        cdef int32_t i
        self.need_windows()
        self._write_head(writer)
        for i in range(self.count):
            self._write_row(writer, i, with_baselines)
        return 0

    def to_bytes(self, bint with_baselines=True):
        """Returns the snapshot; a copy made of it continues exactly like this one.

        More than half of it are baselines, which only their frames change: a copy made without
        them does so once take_baselines() has brought it the same.
        """
        cdef Writer writer
        writer_init(&writer, (1 << 16) + (4096 if with_baselines else 1024) * <size_t>self.count)
        try:
            self.write(&writer, with_baselines)
            return writer_bytes(&writer)
        finally:
            writer_free(&writer)

    @staticmethod
    def from_bytes(const unsigned char[::1] data not None, bint keeps_windows=True):
        """The state that to_bytes() wrote; ValueError when it cannot be read. Not yet refreshed."""
        cdef MarketState state = MarketState(keeps_windows)
        cdef Cursor cursor = cursor_of(&data[0] if data.shape[0] else NULL, data.shape[0])
        state._read(&cursor)
        state._take_now()
        return state

    def take_baselines(self, MarketState earlier not None):
        """Takes over the baselines of an earlier copy of this market, which is left without.

        ValueError when the other's symbols are not the first of this one's.
        """
        if earlier.names != self.names[:earlier.count]:
            raise ValueError("expected baselines of an earlier copy of this market, was another market")
        move_baselines(&self.baselines, &earlier.baselines, earlier.count)
        self.is_all_dirty = earlier.is_all_dirty = True

    cdef int _read(self, Cursor* cursor) except -1:
        cdef int64_t count, i
        cdef DayTable* table = &self.table
        cdef SuspectCounts suspects
        cdef size_t length = len(FORMAT)
        if <size_t>(cursor.end - cursor.pos) < length or (<const char*>cursor.pos)[:length] != FORMAT:
            found = (<const char*>cursor.pos)[:min(<size_t>(cursor.end - cursor.pos), length + 8)]
            raise ValueError(f"state: {format_error(found)}")
        cursor.pos += length
        read_block(cursor, &table.day, sizeof(DayBounds))
        read_block(cursor, &table.rules, sizeof(RuleMasks))
        read_block(cursor, &table.now_ns, sizeof(int64_t))
        read_block(cursor, &table.mark_ns, sizeof(int64_t))
        read_block(cursor, table.scalars, sizeof(table.scalars))
        read_block(cursor, &table.suspects, sizeof(SuspectCounts))
        read_block(cursor, &table.lowered_volumes, sizeof(int64_t))
        self.trading_date = read_text(cursor)
        self.next_trading_date = read_text(cursor)
        if not (
            is_time(table.now_ns) and is_time(table.day.end) and -1 <= table.mark_ns <= table.now_ns
            and 0 <= table.day.start <= table.day.open <= table.day.close <= table.day.end
        ):
            raise ValueError("state: expected times of a day, was something else")
        find_range_ends(table.day.open, table.range_ends)
        if table.rules.takes_suspects > 1:
            raise ValueError(f"state: expected suspect prints to be taken or not, was {table.rules.takes_suspects}")
        suspects = table.suspects
        if not 0 <= suspects.confirmed_by_trade + suspects.confirmed_by_bar <= suspects.prints or (
            suspects.confirmed_by_trade < 0 or suspects.confirmed_by_bar < 0 or suspects.prints >> 40
        ):
            raise ValueError("state: expected counts of suspect prints, was something else")
        self.pool.read(cursor)
        read_block(cursor, &count, sizeof(int64_t))
        if not 0 <= count <= (cursor.end - cursor.pos) // <int64_t>sizeof(SymbolDay):
            raise ValueError(f"state: expected {count} symbols, the bytes end before")
        symbols = [read_text(cursor) for i in range(count)]
        if not all([0 < len(symbol.encode()) < 128 for symbol in symbols]):
            raise ValueError("state: expected symbols of 1 to 127 bytes, was another")
        self._add_symbols(symbols)
        self.is_all_dirty = True
        table.unmarked_count = 0
        read_recent(cursor, &table.recent_trades, <uint32_t>self.count)
        self.alerts.read(cursor, self.count)
        self._read_columns(cursor)
        if cursor.pos != cursor.end:
            raise ValueError(f"state: expected its end, was {cursor.end - cursor.pos} more bytes")
        return 0

    cdef int _read_moment(self, Cursor* cursor, int32_t i) except -1:
        cdef DayTable* table = &self.table
        cdef int64_t moment_ns
        read_block(cursor, &moment_ns, sizeof(int64_t))
        if not -1 <= moment_ns <= table.now_ns:
            raise ValueError(f"state: expected the moment of a row by {table.now_ns}, was {moment_ns}")
        if moment_ns < 0:
            read_block(cursor, &table.spans[i], sizeof(PriceSpan))
            table.unmarked[table.unmarked_count] = i
            table.unmarked_count += 1
        else:
            table.touches[i] &= ~NOT_MARKED
            table.moments[i] = moment_ns
        return 0

    cdef int _read_columns(self, Cursor* cursor) except -1:
        cdef int32_t i, code, codes = <int32_t>len(self.pool.texts)
        cdef double number
        cdef int k
        cdef SymbolDay* row
        for i in range(self.count):
            self._read_moment(cursor, i)
            for k in range(NUMBER_FIELDS):
                read_block(cursor, &number, sizeof(double))
                if NUMBER_COLUMNS[k] == F_IS_ETF and not (isnan(number) or number in (0, 1)):
                    raise ValueError(f"state: expected is_etf of 0 or 1, was {number}")
                if NUMBER_COLUMNS[k] == C_PREV_SSR and not (isnan(number) or number in (0, 1)):
                    raise ValueError(f"state: expected prev_ssr of 0 or 1, was {number}")
                put_value(self.columns, NUMBER_COLUMNS[k], i, number)
            for k in range(TEXT_FIELDS):
                read_block(cursor, &code, sizeof(int32_t))
                if not 0 <= code < codes:
                    raise ValueError(f"state: expected a text's code below {codes}, was {code}")
                self.text_columns[TEXT_COLUMNS[k]][i] = code
            read_block(cursor, &self.table.ranges[i], sizeof(OpeningRange))
            row = &self.table.rows[i]
            read_day(cursor, &self.table.chunks, row, codes)
            if not self.table.keeps_windows:
                drop_windows(&self.table.chunks, row)
            if row.updated_at >= 0 and not is_time(row.updated_at):
                raise ValueError(f"state: expected ns since 1970, was {row.updated_at}")
            self.table.active_count += 1 if row.any_message else 0
            self.table.halted_count += row.halted == 1
            self.table.halts_due = min(self.table.halts_due, row.halt_watch)
            read_baseline(cursor, &self.baselines, i)
        return 0

    def hash(self):
        """64 bits of all that decides what comes: equal for equal streams, however events are cut into batches."""
        cdef Writer* writer = &self.scratch
        cdef uint64_t value
        cdef int32_t i
        self.need_windows()
        writer.size = 0
        self._write_head(writer)
        value = mixed(0, writer.data, writer.size)
        for i in range(self.count):
            writer.size = 0
            self._write_row(writer, i, True)
            value = mixed(value, writer.data, writer.size)
        return value
