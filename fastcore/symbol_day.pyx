# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""How messages change a symbol's day; the rules are those of docs/semantics.md."""

from libc.math cimport isnan
from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memset

from fastcore.anchored_volume cimport (
    add_trade, anchor, free_volume, init_volume, may_tell_more, tell_shares, total_shares,
)
from fastcore.chains cimport ChunkPool, fetch_chunk
from fastcore.day_table cimport (
    CACHE_LINE, DERIVED_BEFORE, RANGES_CHANGED, SECONDS_OF_DAY, TRADE_LINE, TRADE_LINES, DayTable, StandInBars, SymbolDay,
    session_of, touch, widen_span,
)
from fastcore.halt_words cimport free_words
from fastcore.halts cimport limit_halt, settle_halt, trade_halt
from fastcore.memory cimport fetch_line
from fastcore.opening_ranges cimport RANGES, OpeningRange, widen_by_bar, widen_by_trade
from fastcore.recent_trades cimport keep_trade, shares_to_second
from fastcore.suspects cimport (
    MAX_HELD, Band, HeldPrint, confirm_by_bar, confirm_by_trade, expected_band, free_recent, hold, init_recent, is_calm,
    note_price, recent_price, settle, still_waits, unsettle,
)
from fastcore.trade_rules cimport (
    COND_EXTENDED, COND_FORM_T, COND_OFFICIAL, COND_OFFICIAL_CLOSE, COND_OFFICIAL_OPEN,
)
from fastcore.window_sums cimport OlderSums, fetch_leaving
from fastcore.windows cimport (
    NOTHING_SUMMED, Bucket, Window, free_window, init_window, window_add, window_add_bar,
)
from fastcore.wire cimport load_f64, load_i64, load_u32, load_u64

cdef enum:
    SECOND_SPAN = 1
    MINUTE_SPAN = 2
    FAR = 48                    # rows ahead whose struct is fetched
    NEAR = 16                   # rows ahead whose window is fetched
    WINDOWS_AHEAD = 4           # rows ahead whose buckets are fetched where all windows move
    HALT = 17
    RESUME = 18

cdef double NAN = float("nan")
cdef int64_t NS = 1_000_000_000
# How old the bands may be that a print is compared with.
cdef int64_t BANDS_NS = 60 * NS
# A bar that reports less by more than rounding has corrected the volume.
cdef double LESS = 1 - 1e-9


cdef inline int64_t ceil_second(int64_t time_ns) noexcept nogil:
    return (time_ns + NS - 1) // NS


cdef int check_trade_lines() except -1:
    """A field more or less must not move what trades touch to other lines without anybody noticing."""
    cdef SymbolDay row
    cdef size_t first = <char*>&row.volume.end - <char*>&row
    cdef size_t end = <char*>&row.window.summed - <char*>&row
    if first != TRADE_LINE * CACHE_LINE or end != (TRADE_LINE + TRADE_LINES) * CACHE_LINE:
        raise AssertionError(f"a trade touches bytes {first} to {end} of a row, expected whole lines of the cache")
    if sizeof(OlderSums) % CACHE_LINE:
        raise AssertionError(f"a row's sums have {sizeof(OlderSums)} bytes, expected whole lines of the cache")
    if sizeof(SymbolDay) % CACHE_LINE:
        raise AssertionError(f"a row has {sizeof(SymbolDay)} bytes, expected whole lines of the cache")
    return 0


check_trade_lines()


cdef void init_day(SymbolDay* row) noexcept nogil:
    row.price = row.intraday_high = row.intraday_low = row.high = row.low = NAN
    row.price_time = row.updated_at = row.regular_time = row.close_print_time = -1
    row.quote_time = row.luld_time = row.bands_time = row.trade_time = -1
    row.halted = -1
    row.halt_watch = INT64_MAX
    row.halt_words = NULL
    row.trades = row.postmarket_volume = 0
    row.updated_session = 0
    row.any_message = row.any_trade = row.has_open_trade = row.no_flag = 0
    row.regular_price = row.premarket_price = row.premarket_high = row.premarket_low = NAN
    row.open_of_bar = row.open_print = row.open_trade = row.close_print = NAN
    row.bid = row.ask = row.bid_size = row.ask_size = row.luld_upper = row.luld_lower = NAN
    row.last_size = NAN
    row.last_size_time = -1
    row.halted_at = row.resumes_at = -1
    row.halt_reason = 0
    row.halts = row.suspect_prints = 0
    row.intraday_high_time = row.intraday_low_time = -1
    memset(row.unused, 0, sizeof(row.unused))
    init_recent(&row.recent)
    init_window(&row.window)
    init_volume(&row.volume)
    init_volume(&row.premarket)
    init_bars(&row.second_bars)
    init_bars(&row.minute_bars)


cdef inline void fetch_trade_lines(const SymbolDay* row, bint is_premarket) noexcept nogil:
    """Asks for the lines of a row that a trade touches."""
    cdef int line
    for line in range(TRADE_LINES):
        fetch_line(<const char*>row + (TRADE_LINE + line) * CACHE_LINE)
    if is_premarket:
        fetch_line(row)


cdef void fetch_day(const SymbolDay* row) noexcept nogil:
    cdef int line
    for line in range(<int>(sizeof(SymbolDay) // CACHE_LINE)):
        fetch_line(<const char*>row + line * CACHE_LINE)


cdef inline void fetch_newest(const Window* window) noexcept nogil:
    if window.buckets.count:
        fetch_line(window.buckets.newest)
        if window.buckets.count > 1:
            # The bucket before it, which mostly lies there.
            fetch_line(window.buckets.newest - sizeof(Bucket))


cdef void fetch_window(const DayTable* table, int32_t i) noexcept nogil:
    cdef int line
    for line in range(<int>(sizeof(OlderSums) // CACHE_LINE)):
        fetch_line(<const char*>&table.older_sums[i] + line * CACHE_LINE)
    fetch_newest(&table.rows[i].window)


cdef void fetch_buckets(const DayTable* table, int32_t i, int64_t grid) noexcept nogil:
    if grid >= table.older_sums[i].until:
        if table.rows[i].window.summed == NOTHING_SUMMED:
            fetch_chunk(&table.chunks, table.rows[i].window.buckets.first)
        else:
            fetch_leaving(&table.chunks, &table.older_sums[i])


cdef void fetch_windows_ahead(const DayTable* table, int32_t i, int32_t count, int64_t grid) noexcept nogil:
    if i + 2 * WINDOWS_AHEAD < count:
        fetch_line(&table.rows[i + 2 * WINDOWS_AHEAD].window)
    i += WINDOWS_AHEAD
    if i < count:
        fetch_newest(&table.rows[i].window)
        fetch_buckets(table, i, grid)


cdef void order_dirty(DayTable* table, int32_t count) noexcept nogil:
    cdef int32_t i, n = 0
    for i in range(count):
        table.dirty[n] = i
        n += table.touches[i] & DERIVED_BEFORE


cdef void free_day(ChunkPool* pool, SymbolDay* row) noexcept nogil:
    """Forgets the day; the row is as init_day leaves it."""
    free_recent(&row.recent)
    free_window(pool, &row.window)
    free_volume(pool, &row.volume)
    free_volume(pool, &row.premarket)
    free_bars(pool, &row.second_bars)
    free_bars(pool, &row.minute_bars)
    free_words(row.halt_words)
    init_day(row)


cdef void drop_windows(ChunkPool* pool, SymbolDay* row) noexcept nogil:
    free_window(pool, &row.window)
    if row.second_bars.window != NULL:
        free_window(pool, row.second_bars.window)
    if row.minute_bars.window != NULL:
        free_window(pool, row.minute_bars.window)


cdef inline void widen(double* high, double* low, double above, double below) noexcept nogil:
    # Written so that NaN, which is "none yet", gives way.
    if not (high[0] >= above):
        high[0] = above
    if not (low[0] <= below):
        low[0] = below


cdef inline void widen_intraday(SymbolDay* row, double above, double below, int64_t time_ns) noexcept nogil:
    if not (row.intraday_high >= above):
        row.intraday_high = above
        row.intraday_high_time = time_ns
    if not (row.intraday_low <= below):
        row.intraday_low = below
        row.intraday_low_time = time_ns


cdef inline void mark_updated(
    DayTable* table, SymbolDay* row, int64_t time_ns, int64_t place_ns
) noexcept nogil:
    if time_ns >= row.updated_at:
        row.updated_at = time_ns
        row.updated_session = session_of(&table.day, place_ns)


cdef inline void mark_active(DayTable* table, SymbolDay* row) noexcept nogil:
    if not row.any_message:
        row.any_message = 1
        table.active_count += 1


# ---- trades ----

cdef int apply_trades(DayTable* table, const TradeSpans* spans) except -1 nogil:
    cdef Py_ssize_t i, n = spans.rows
    cdef SymbolDay* ahead
    cdef uint32_t symbol_id
    # Later only late trades look at the opening ranges.
    cdef bint is_first_hour = table.day.open <= table.now_ns < table.range_ends[RANGES - 1]
    cdef bint is_premarket = table.now_ns < table.day.open
    for i in range(min(n, <Py_ssize_t>FAR)):
        fetch_trade_lines(&table.rows[load_u32(spans.symbol_id, i)], is_premarket)
    for i in range(n):
        if i + FAR < n:
            fetch_trade_lines(&table.rows[load_u32(spans.symbol_id, i + FAR)], is_premarket)
        if i + NEAR < n:
            symbol_id = load_u32(spans.symbol_id, i + NEAR)
            ahead = &table.rows[symbol_id]
            if is_first_hour:
                # Where its end lies, there are the ranges that are not yet over.
                fetch_line(&table.ranges[symbol_id].minutes[RANGES - 2])
            # NULL where there is none, which is nothing to fetch.
            fetch_line(ahead.window.buckets.newest)
            fetch_line(ahead.volume.seconds.newest)
        symbol_id = load_u32(spans.symbol_id, i)
        apply_trade(
            table, symbol_id, load_i64(spans.time_ns, i), load_f64(spans.price, i), load_f64(spans.size, i),
            load_u64(spans.conditions, i),
        )
    return 0


# What a trade may change, by its conditions and its time.
cdef struct Permits:
    bint is_premarket
    bint is_in_hours
    bint is_regular
    bint sets_price
    bint sets_high_low


cdef inline Permits permits_of(const DayTable* table, int64_t time_ns, uint64_t conditions) noexcept nogil:
    """Of a trade that is no official print."""
    cdef Permits permits
    cdef uint64_t judged
    permits.is_premarket = time_ns < table.day.open
    permits.is_in_hours = not permits.is_premarket and time_ns < table.day.close
    permits.is_regular = permits.is_in_hours or (not permits.is_premarket and not conditions & COND_EXTENDED())
    # Form T sets price and the extended high and low outside regular hours, unless another condition forbids it.
    judged = conditions if permits.is_in_hours else conditions & ~COND_FORM_T()
    permits.sets_price = (judged & table.rules.forbids_last) == 0
    permits.sets_high_low = (judged & table.rules.forbids_high_low) == 0
    return permits


cdef inline int apply_trade(
    DayTable* table, uint32_t symbol_id, int64_t time_ns, double price, double size, uint64_t conditions
) except -1 nogil:
    cdef SymbolDay* row = &table.rows[symbol_id]
    cdef Permits permits
    cdef bint has_volume, may_set_price
    cdef double price_before = row.price

    touch(table, symbol_id)
    mark_active(table, row)
    row.any_trade = 1
    mark_updated(table, row, time_ns, time_ns)
    if time_ns > table.now_ns:
        table.now_ns = time_ns
    if table.now_ns >= row.halt_watch:
        settle_halt(table, row)

    if (conditions & COND_OFFICIAL()) != 0:
        if conditions & COND_OFFICIAL_OPEN() and isnan(row.open_print):
            row.open_print = price
        if conditions & COND_OFFICIAL_CLOSE() and time_ns >= row.close_print_time:
            row.close_print = price
            row.close_print_time = time_ns
        return 0

    permits = permits_of(table, time_ns, conditions)
    has_volume = (conditions & table.rules.forbids_volume) == 0
    may_set_price = permits.sets_price
    if not is_calm(&row.recent, price) and (permits.sets_price or permits.sets_high_low):
        if is_held(table, symbol_id, time_ns, price, conditions, permits.is_in_hours):
            permits.sets_price = permits.sets_high_low = False
    set_prices(table, symbol_id, time_ns, price, &permits)
    if may_set_price:
        # A print that is held has traded, too.
        if time_ns > row.trade_time:
            row.trade_time = time_ns
        if row.halted >= 0:
            trade_halt(table, row, time_ns)
    if has_volume:
        keep_trade(&table.recent_trades, symbol_id, time_ns, size)
        count_trade(table, row, time_ns, price, size, permits.is_premarket)
        if not permits.is_premarket and not permits.is_in_hours and conditions & COND_EXTENDED():
            row.postmarket_volume += size
    if table.keeps_windows and (permits.sets_price or has_volume):
        window_add(
            &table.chunks, &row.window, time_ns, size, price * size, has_volume, permits.sets_price, price
        )
    if row.price != price_before:
        widen_span(table, symbol_id)
    return 0


cdef inline void set_prices(
    DayTable* table, uint32_t symbol_id, int64_t time_ns, double price, const Permits* permits
) noexcept nogil:
    cdef SymbolDay* row = &table.rows[symbol_id]
    cdef int64_t newest = recent_price(&row.recent, 0).time
    if permits.sets_price:
        note_price(&row.recent, time_ns, price)
        if time_ns >= row.price_time:
            row.price = price
            row.price_time = time_ns
            if permits.is_premarket:
                row.premarket_price = price
        if permits.is_regular:
            if time_ns >= row.regular_time:
                row.regular_price = price
                row.regular_time = time_ns
            if not row.has_open_trade:
                row.open_trade = price
                row.has_open_trade = price == price
    if permits.sets_high_low:
        widen_intraday(row, price, price, time_ns)
        if permits.is_premarket:
            widen(&row.premarket_high, &row.premarket_low, price, price)
        elif permits.is_regular:
            widen(&row.high, &row.low, price, price)
            if time_ns < table.range_ends[RANGES - 1]:
                if widen_by_trade(&table.ranges[symbol_id], table.range_ends, newest, time_ns, price):
                    table.touches[symbol_id] |= RANGES_CHANGED


# ---- suspect prints ----

cdef int is_held(
    DayTable* table, uint32_t symbol_id, int64_t time_ns, double price, uint64_t conditions, bint is_in_hours
) except -1 nogil:
    """True if a trade that may set something is suspect, and now held; one that confirms others is not."""
    cdef SymbolDay* row = &table.rows[symbol_id]
    cdef HeldPrint[MAX_HELD] confirmed
    cdef Band band
    cdef double lower = NAN, upper = NAN
    cdef int count = confirm_by_trade(&row.recent, time_ns, price, confirmed)
    if count:
        table.suspects.confirmed_by_trade += count
        take_confirmed(table, symbol_id, time_ns, confirmed, count)
    elif not table.rules.takes_suspects and row.halted != 1:
        if is_in_hours and row.bands_time >= 0 and row.bands_time >= time_ns - BANDS_NS:
            lower = row.luld_lower
            upper = row.luld_upper
        if expected_band(&row.recent, time_ns, lower, upper, &band) and (
            price - band.high > band.above or band.low - price > band.below
        ):
            hold(&row.recent, time_ns, price, conditions, &band)
            row.suspect_prints += 1
            table.suspects.prints += 1
            return True
    settle(&row.recent, price, row.luld_lower, row.luld_upper)
    return False


cdef int take_confirmed(
    DayTable* table, uint32_t symbol_id, int64_t time_ns, const HeldPrint* confirmed, int count
) except -1 nogil:
    """They count as trades of this time; their shares have been counted."""
    cdef Permits permits
    cdef int i
    for i in range(count):
        permits = permits_of(table, time_ns, confirmed[i].conditions)
        set_prices(table, symbol_id, time_ns, confirmed[i].price, &permits)
        if permits.sets_price and table.keeps_windows:
            window_add(
                &table.chunks, &table.rows[symbol_id].window, time_ns, 0, 0, False, True, confirmed[i].price
            )
    return 0


cdef int confirm_held(
    DayTable* table, uint32_t symbol_id, int64_t start_ns, int64_t end_ns, double high, double low
) except -1 nogil:
    """A bar confirms the prints of its minute that it reaches."""
    cdef HeldPrint[MAX_HELD] confirmed
    cdef int count = confirm_by_bar(&table.rows[symbol_id].recent, start_ns, high, low, confirmed)
    table.suspects.confirmed_by_bar += count
    return take_confirmed(table, symbol_id, end_ns - 1, confirmed, count)


cdef inline int count_trade(
    DayTable* table, SymbolDay* row, int64_t time_ns, double price, double size, bint is_premarket
) except -1 nogil:
    if row.trades == 0:
        # From now on the trades speak for themselves.
        free_bars(&table.chunks, &row.second_bars)
        free_bars(&table.chunks, &row.minute_bars)
    row.trades += 1
    if time_ns >= row.last_size_time:
        row.last_size = size
        row.last_size_time = time_ns
    add_trade(&table.chunks, &row.volume, time_ns, size, price * size)
    if is_premarket:
        add_trade(&table.chunks, &row.premarket, time_ns, size, price * size)
    return 0


# ---- bars ----

cdef void init_bars(StandInBars* bars) noexcept nogil:
    bars.window = NULL
    bars.seen = NULL
    bars.words = 0
    bars.postmarket_volume = 0


cdef Window* new_window() except NULL nogil:
    cdef Window* window = <Window*>malloc(sizeof(Window))
    if window == NULL:
        with gil:
            raise MemoryError("no memory for a window")
    init_window(window)
    return window


cdef void free_bars(ChunkPool* pool, StandInBars* bars) noexcept nogil:
    if bars.window != NULL:
        free_window(pool, bars.window)
        free(bars.window)
    free(bars.seen)
    init_bars(bars)


# What of a bar stands in for trades.
cdef struct BarShares:
    int64_t end_ns
    double close
    double high
    double low
    double volume
    double dollars
    bint is_postmarket


cdef int stand_in(
    DayTable* table, StandInBars* bars, int64_t place, int64_t places, const BarShares* bar
) except -1 nogil:
    """A bar of a symbol without trades; one that starts where another did changes nothing."""
    cdef uint64_t bit
    if bars.window == NULL:
        bars.window = new_window()
        bars.words = (places + 63) // 64
        bars.seen = <uint64_t*>calloc(bars.words, 8)
        if bars.seen == NULL:
            with gil:
                raise MemoryError("no memory for the bars that have been seen")
    if 0 <= place < places:
        bit = <uint64_t>1 << (place & 63)
        if bars.seen[place >> 6] & bit:
            return 0
        bars.seen[place >> 6] |= bit
    if table.keeps_windows:
        window_add_bar(
            &table.chunks, bars.window, bar.end_ns - 1, bar.volume, bar.dollars, bar.close, bar.high, bar.low
        )
    if bar.is_postmarket:
        bars.postmarket_volume += bar.volume
    return 0


cdef void widen_range(DayTable* table, uint32_t symbol_id, int64_t start_ns, const BarShares* bar) noexcept nogil:
    """The opening ranges of a symbol without trades, up to its first bar behind the last of them."""
    cdef OpeningRange* range_ = &table.ranges[symbol_id]
    if range_.bar_end > table.range_ends[RANGES - 1]:
        return
    if table.rows[symbol_id].trades == 0 and widen_by_bar(
        range_, table.day.open, table.range_ends, start_ns, bar.end_ns, bar.high, bar.low
    ):
        table.touches[symbol_id] |= RANGES_CHANGED
    range_.bar_end = max(range_.bar_end, bar.end_ns)


cdef int apply_bars(DayTable* table, const BarSpans* spans) except -1 nogil:
    cdef Py_ssize_t i
    cdef uint32_t symbol_id
    cdef SymbolDay* row
    cdef int64_t start, end, offset
    cdef double close, volume, high, low, vwap, accumulated, day_vwap, official_open, before, price_before
    cdef bint is_premarket, is_regular, is_postmarket
    cdef BarShares shares
    for i in range(spans.rows):
        symbol_id = load_u32(spans.symbol_id, i)
        row = &table.rows[symbol_id]
        start = load_i64(spans.start_ns, i)
        end = load_i64(spans.end_ns, i)
        price_before = row.price
        close = load_f64(spans.close, i)
        high = load_f64(spans.high, i)
        low = load_f64(spans.low, i)
        volume = load_f64(spans.volume, i)
        vwap = load_f64(spans.vwap, i)
        accumulated = load_f64(spans.accumulated_volume, i)
        day_vwap = load_f64(spans.day_vwap, i)
        official_open = load_f64(spans.official_open, i)
        is_premarket = start < table.day.open
        is_postmarket = start >= table.day.close
        is_regular = not is_premarket and not is_postmarket

        touch(table, symbol_id)
        mark_active(table, row)
        mark_updated(table, row, end, start)
        if end > table.now_ns:
            table.now_ns = end
        if row.recent.held != NULL:
            confirm_held(table, symbol_id, start, end, high, low)
        if end > row.price_time:
            row.price = close
            row.price_time = end
            if is_premarket:
                row.premarket_price = close
        if is_regular and end > row.regular_time:
            row.regular_price = close
            row.regular_time = end
        if row.price != price_before:
            widen_span(table, symbol_id)
        widen_intraday(row, high, low, end)
        if is_premarket:
            widen(&row.premarket_high, &row.premarket_low, high, low)
        elif is_regular:
            widen(&row.high, &row.low, high, low)
        if end > table.day.open and not isnan(official_open) and isnan(row.open_of_bar):
            row.open_of_bar = official_open
        if not isnan(accumulated) and not isnan(day_vwap):
            before = total_shares(&row.volume)
            anchor(&table.chunks, &row.volume, ceil_second(end), accumulated, day_vwap * accumulated)
            if total_shares(&row.volume) < before * LESS:
                table.lowered_volumes += 1
            if end <= table.day.open:
                anchor(&table.chunks, &row.premarket, ceil_second(end), accumulated, day_vwap * accumulated)
        shares = BarShares(
            end, close, high, low, volume, volume * (close if isnan(vwap) else vwap), is_postmarket
        )
        widen_range(table, symbol_id, start, &shares)
        if row.trades == 0:
            offset = start - table.day.start
            if spans.span == SECOND_SPAN:
                # Second bars, once there are any, stand in instead of minute bars.
                free_bars(&table.chunks, &row.minute_bars)
                stand_in(table, &row.second_bars, offset // NS if offset >= 0 else -1, SECONDS_OF_DAY, &shares)
            elif row.second_bars.window == NULL:
                stand_in(
                    table, &row.minute_bars, offset // (60 * NS) if offset >= 0 else -1, SECONDS_OF_DAY // 60, &shares
                )
    return 0


# ---- quotes, limits ----

cdef int apply_quotes(DayTable* table, const QuoteSpans* spans) except -1 nogil:
    cdef Py_ssize_t i
    cdef uint32_t symbol_id
    cdef SymbolDay* row
    cdef int64_t time_ns
    for i in range(spans.rows):
        symbol_id = load_u32(spans.symbol_id, i)
        row = &table.rows[symbol_id]
        time_ns = load_i64(spans.time_ns, i)
        touch(table, symbol_id)
        if time_ns > table.now_ns:
            table.now_ns = time_ns
        if time_ns >= row.quote_time:
            row.quote_time = time_ns
            row.bid = load_f64(spans.bid, i)
            row.ask = load_f64(spans.ask, i)
            row.bid_size = NAN if isnan(row.bid) else load_f64(spans.bid_size, i)
            row.ask_size = NAN if isnan(row.ask) else load_f64(spans.ask_size, i)
    return 0


cdef int apply_limits(DayTable* table, const LimitSpans* spans) except -1 nogil:
    cdef Py_ssize_t i
    cdef uint32_t symbol_id
    cdef SymbolDay* row
    cdef int64_t time_ns
    cdef uint64_t indicators
    cdef double upper, lower
    for i in range(spans.rows):
        symbol_id = load_u32(spans.symbol_id, i)
        row = &table.rows[symbol_id]
        time_ns = load_i64(spans.time_ns, i)
        touch(table, symbol_id)
        if time_ns > table.now_ns:
            table.now_ns = time_ns
        if time_ns < row.luld_time:
            continue
        row.luld_time = time_ns
        mark_updated(table, row, time_ns, time_ns)
        indicators = load_u64(spans.indicators, i)
        if indicators & (<uint64_t>1 << HALT | <uint64_t>1 << RESUME):
            limit_halt(table, row, time_ns, (indicators & <uint64_t>1 << HALT) != 0)
        upper = load_f64(spans.upper, i)
        lower = load_f64(spans.lower, i)
        if not isnan(upper):
            row.luld_upper = upper
        if not isnan(lower):
            row.luld_lower = lower
        if not isnan(upper) and not isnan(lower):
            row.bands_time = time_ns
        unsettle(&row.recent)
    return 0


# ---- the vendor's snapshot ----

cdef int apply_snapshot(DayTable* table, const SnapshotSpans* spans, uint32_t symbols) except -1 nogil:
    cdef Py_ssize_t i
    cdef uint32_t symbol_id
    cdef const SymbolDay* row
    cdef int64_t until
    cdef double shares, price_before
    cdef int64_t* since         # where inside its second a row's volume stands, where that matters
    cdef double* later
    cdef void* block = malloc(spans.rows * (sizeof(int64_t) + sizeof(double)))
    if block == NULL and spans.rows:
        with gil:
            raise MemoryError(f"no memory for {spans.rows} rows of a snapshot")
    since = <int64_t*>block
    later = <double*>block + spans.rows
    try:
        for i in range(spans.rows):
            symbol_id = load_u32(spans.symbol_id, i)
            until = snapshot_until(table, spans, i)
            row = &table.rows[symbol_id]
            shares = load_f64(spans.accumulated_volume, i)
            since[i] = 0
            if until and (
                may_tell_more(&table.chunks, &row.volume, until, shares)
                or (until <= table.day.open and may_tell_more(&table.chunks, &row.premarket, until, shares))
            ):
                since[i] = until
        shares_to_second(&table.recent_trades, spans.symbol_id, since, spans.rows, symbols, later)
        for i in range(spans.rows):
            symbol_id = load_u32(spans.symbol_id, i)
            touch(table, symbol_id)
            price_before = table.rows[symbol_id].price
            apply_snapshot_row(table, &table.rows[symbol_id], spans, i, later[i])
            if table.rows[symbol_id].price != price_before:
                widen_span(table, symbol_id)
    finally:
        free(block)
    return 0


cdef inline int64_t snapshot_until(const DayTable* table, const SnapshotSpans* spans, Py_ssize_t i) noexcept nogil:
    """The first ns that a row's accumulated volume does not cover; 0 when it has none of today."""
    cdef int64_t updated = load_i64(spans.updated_ns, i)
    cdef int64_t minute_start = load_i64(spans.minute_start_ns, i)
    if updated < table.day.start or updated >= table.day.end or not load_f64(spans.accumulated_volume, i) > 0:
        return 0
    if minute_start == 0:
        return updated + 1
    # The newest minute may still be open.
    return min(minute_start + 60 * NS, updated + 1) if minute_start >= table.day.start else 0


cdef int apply_snapshot_row(
    DayTable* table, SymbolDay* row, const SnapshotSpans* spans, Py_ssize_t i, double later
) except -1 nogil:
    """Adds what the row lacks and moves nothing back: docs/semantics.md, "The vendor's snapshot"."""
    cdef int64_t updated = load_i64(spans.updated_ns, i)
    cdef int64_t trade_time = load_i64(spans.last_trade_ns, i)
    cdef int64_t minute_start = load_i64(spans.minute_start_ns, i)
    cdef int64_t minute_end = min(minute_start + 60 * NS, updated)
    cdef int64_t until = snapshot_until(table, spans, i)
    cdef double high = load_f64(spans.day_high, i), low = load_f64(spans.day_low, i)
    cdef double price = load_f64(spans.last_trade_price, i)
    if updated < table.day.start or updated >= table.day.end:
        return 0
    if minute_start >= table.day.start:
        snapshot_price(table, row, load_f64(spans.minute_close, i), minute_end, minute_start)
        snapshot_range(
            table, row, load_f64(spans.minute_high, i), load_f64(spans.minute_low, i), minute_start, minute_end
        )
    if until:
        mark_active(table, row)
        tell_shares(&table.chunks, &row.volume, until, load_f64(spans.accumulated_volume, i), later)
        if until <= table.day.open:
            tell_shares(&table.chunks, &row.premarket, until, load_f64(spans.accumulated_volume, i), later)
    if trade_time >= table.day.start and not still_waits(&row.recent, trade_time, price):
        snapshot_price(table, row, price, trade_time, trade_time)
        # Or the price could lie outside of the day's range. After the close it may be no regular one.
        snapshot_range(table, row, price, price, trade_time, trade_time)
    if updated > table.day.open:
        if not isnan(load_f64(spans.day_open, i)) and isnan(row.open_of_bar):
            row.open_of_bar = load_f64(spans.day_open, i)
        if not isnan(high) and not isnan(low):
            widen(&row.high, &row.low, high, low)
            widen_intraday(row, high, low, updated)
        if not isnan(load_f64(spans.day_close, i)) and min(updated, table.day.close) > row.regular_time:
            row.regular_price = load_f64(spans.day_close, i)
            row.regular_time = min(updated, table.day.close)
    snapshot_quote(row, updated, load_f64(spans.bid, i), load_f64(spans.ask, i))
    return 0


cdef inline void snapshot_quote(SymbolDay* row, int64_t updated, double bid, double ask) noexcept nogil:
    """Both sides replace an older quote; one alone only stands where nothing is known."""
    if updated <= row.quote_time or (isnan(bid) and isnan(ask)):
        return
    if (isnan(bid) and not isnan(row.bid)) or (isnan(ask) and not isnan(row.ask)):
        return
    row.bid = bid
    row.ask = ask
    row.quote_time = updated


cdef inline void snapshot_price(
    DayTable* table, SymbolDay* row, double price, int64_t time_ns, int64_t place_ns
) noexcept nogil:
    if isnan(price):
        return
    mark_active(table, row)
    if time_ns > row.price_time:
        row.price = price
        row.price_time = time_ns
        if place_ns < table.day.open:
            row.premarket_price = price
    if time_ns > row.updated_at:
        mark_updated(table, row, time_ns, place_ns)


cdef inline void snapshot_range(
    DayTable* table, SymbolDay* row, double high, double low, int64_t start_ns, int64_t end_ns
) noexcept nogil:
    if isnan(high) or isnan(low):
        return
    widen_intraday(row, high, low, end_ns)
    if start_ns < table.day.open:
        widen(&row.premarket_high, &row.premarket_low, high, low)
    elif start_ns < table.day.close:
        widen(&row.high, &row.low, high, low)
