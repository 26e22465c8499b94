# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Derived columns. Percentages, ratios and vwap are rounded to 6 decimals where they are stored."""

from libc.math cimport INFINITY, NAN, fabs, isnan
from libc.stdint cimport int32_t, int64_t

from fastcore.anchored_volume cimport is_told, priced_shares, total_dollars, total_shares
from fastcore.baselines cimport (
    BASELINE_KINDS, LEAST_DAYS, SLOT_SECONDS, SLOTS, Baselines, SlotLine, slot_value, volume_line,
)
from fastcore.day_table cimport DayTable, SymbolDay
from fastcore.derived_kernels cimport (
    age_of, between6, between_of, on_line, ratio6, round6, rvol_of, score6, score_of, seconds_since, z6, z_score_of,
)
from fastcore.field_numbers cimport *
from fastcore.memory cimport fetch_line
from fastcore.opening_ranges cimport RANGES, OpeningRange
from fastcore.row_values cimport Column, at, fetch_row, row_of
from fastcore.window_sums cimport Billionths, OlderSums, bring_older, billionths, of_billionths, sum_windows
from fastcore.windows cimport (
    GRID_NS, NEWEST_CLASS, NOTHING_SUMMED, RANGE_WINDOWS, SHORT_WINDOWS, WINDOWS, Bucket, Window, grid_of, newest_bucket,
)

# The decline from which short sales are restricted, percent.
cdef double RESTRICTED = -10
cdef int64_t SLOT_NS = <int64_t>SLOT_SECONDS * 1_000_000_000
cdef int[SHORT_WINDOWS] SHORT_MINUTES
SHORT_MINUTES[:] = [1, 5]
cdef int[RANGE_WINDOWS] HIGH_PLACES
cdef int[RANGE_WINDOWS] LOW_PLACES
HIGH_PLACES[:] = [at(F_HIGH_5M), at(F_HIGH_15M), at(F_HIGH_30M)]
LOW_PLACES[:] = [at(F_LOW_5M), at(F_LOW_15M), at(F_LOW_30M)]


cdef inline double ratio(double value, double base) noexcept nogil:
    return round6(value / base) if base > 0 else NAN


cdef Moment moment_of(const DayTable* table) noexcept nogil:
    return moment_at(table, table.now_ns)


cdef inline int32_t slot_at(const DayTable* table, int64_t time_ns, double* inside) noexcept nogil:
    """The volume slot of a time, and how much of it has passed."""
    cdef int64_t since = time_ns - table.day.start
    if since <= 0:
        inside[0] = 0
        return 0
    if since >= SLOTS * SLOT_NS:
        inside[0] = 1
        return SLOTS - 1
    inside[0] = <double>(since % SLOT_NS) / <double>SLOT_NS
    return <int32_t>(since // SLOT_NS)


cdef Moment moment_at(const DayTable* table, int64_t time_ns) noexcept nogil:
    cdef Moment moment
    cdef int w
    moment.now_ns = time_ns
    moment.grid = grid_of(time_ns)
    moment.is_after_close = time_ns >= table.day.close
    moment.slot = slot_at(table, time_ns, &moment.inside)
    for w in range(SHORT_WINDOWS):
        moment.mark_slot[w] = slot_at(
            table, (moment.grid - 6 * SHORT_MINUTES[w]) * 10 * GRID_NS, &moment.mark_inside[w]
        )
    return moment


cdef inline double gap_code(double gap) noexcept nogil:
    """Code of fields.GAP_SIZES."""
    if isnan(gap):
        return NAN
    gap = fabs(gap)
    return 1 if gap < 2 else 2 if gap < 5 else 3 if gap < 10 else 4


cdef void fetch_derived(const Column* columns, const Baselines* baselines, int32_t i) noexcept nogil:
    cdef int kind
    fetch_row(columns, i)
    for kind in range(BASELINE_KINDS):
        fetch_line(&baselines.begin[kind][i])
        fetch_line(&baselines.finish[kind][i])
    fetch_line(&baselines.before[i])


cdef void derive_row(Column* columns, const DayTable* table, int32_t i, const Moment* moment) noexcept nogil:
    """Everything of one row but what moves with now alone."""
    cdef const SymbolDay* row = &table.rows[i]
    cdef double* values = row_of(columns, i)
    cdef double price = row.price, prev_close = values[at(F_PREV_CLOSE)], atr = values[at(F_ATR)]
    cdef double open, close, volume = NAN, dollars = NAN, vwap, gap, range_
    open = row.open_of_bar if not isnan(row.open_of_bar) else row.open_print
    open = open if not isnan(open) else row.open_trade
    close = row.close_print
    if isnan(close) and moment.is_after_close:
        close = row.regular_price
    if row.any_trade or row.volume.end >= 0:
        volume = total_shares(&row.volume)
        dollars = total_dollars(&row.volume)
    elif is_told(&row.volume):
        volume = total_shares(&row.volume)

    values[at(F_PRICE)] = price
    values[at(F_BID)] = row.bid
    values[at(F_ASK)] = row.ask
    values[at(F_SPREAD_PERCENT)] = (
        round6(100 * (row.ask - row.bid) / ((row.ask + row.bid) / 2)) if row.ask + row.bid > 0 else NAN
    )
    columns[F_VOLUME_TODAY].values[i] = volume
    columns[F_TRADES_TODAY].values[i] = row.trades if row.trades > 0 else NAN
    values[at(F_DOLLAR_VOLUME)] = dollars
    values[at(F_OPEN)] = open
    values[at(F_HIGH)] = row.high
    values[at(F_LOW)] = row.low
    values[at(F_INTRADAY_HIGH)] = row.intraday_high
    values[at(F_INTRADAY_LOW)] = row.intraday_low
    values[at(F_CLOSE)] = close
    values[at(F_CHANGE)] = round6(price - prev_close)
    values[at(F_CHANGE_PERCENT)] = percent(price, prev_close)
    gap = percent(price if isnan(open) else open, prev_close)
    values[at(F_GAP_PERCENT)] = gap
    values[at(F_GAP_SIZE)] = gap_code(gap)
    values[at(F_CHANGE_FROM_OPEN)] = percent(price, open)
    values[at(F_PREMARKET_HIGH)] = row.premarket_high
    values[at(F_PREMARKET_LOW)] = row.premarket_low
    values[at(F_PREMARKET_VOLUME)] = total_shares(&row.premarket) if row.any_message else NAN
    values[at(F_PREMARKET_CHANGE_PERCENT)] = percent(row.premarket_price, prev_close)
    values[at(F_POSTMARKET_CHANGE_PERCENT)] = percent(price, close) if moment.is_after_close else NAN
    values[at(F_POSTMARKET_VOLUME)] = postmarket_volume(row) if row.any_message else NAN
    values[at(F_GAP_FILL_PERCENT)] = gap_fill(price, open, prev_close)
    values[at(F_PRICE_FROM_HIGH)] = percent(price, row.high)
    values[at(F_PRICE_FROM_LOW)] = percent(price, row.low)
    values[at(F_PRICE_FROM_INTRADAY_HIGH)] = percent(price, row.intraday_high)
    values[at(F_PRICE_FROM_INTRADAY_LOW)] = percent(price, row.intraday_low)
    range_ = row.intraday_high - row.intraday_low
    values[at(F_POSITION_IN_RANGE)] = round6(100 * (price - row.intraday_low) / range_) if range_ != 0 else NAN
    # A snapshot may report shares whose prices are unknown.
    vwap = ratio(dollars, priced_shares(&row.volume))
    values[at(F_VWAP)] = vwap
    values[at(F_PRICE_VS_VWAP)] = percent(price, vwap)
    columns[F_VOLUME_RATIO].values[i] = ratio(volume, values[at(F_AVG_VOLUME_30D)])
    values[at(F_ATR_PERCENT)] = round6(100 * atr / price) if price != 0 else NAN
    values[at(F_HALTED)] = NAN if row.halted < 0 else <double>row.halted
    values[at(F_LULD_UPPER)] = row.luld_upper
    values[at(F_LULD_LOWER)] = row.luld_lower
    values[at(F_SESSION)] = <double>row.updated_session if row.updated_at >= 0 else NAN
    values[at(F_UPDATED_AT)] = <double>row.updated_at if row.updated_at >= 0 else NAN
    values[at(F_CHANGE_5D)] = percent(price, values[at(C_CLOSE_5D)])
    values[at(F_CHANGE_20D)] = percent(price, values[at(C_CLOSE_20D)])
    values[at(F_SSR)] = restricted(row.low, prev_close, values[at(C_PREV_SSR)]) if table.day.end else NAN
    values[at(F_LAST_SIZE)] = row.last_size
    values[at(F_BID_SIZE)] = row.bid_size
    values[at(F_ASK_SIZE)] = row.ask_size
    values[at(F_SUSPECT_PRINTS)] = row.suspect_prints if row.any_message else NAN
    values[at(F_HALTED_AT)] = <double>row.halted_at if row.halted_at >= 0 else NAN
    values[at(F_RESUMES_AT)] = <double>row.resumes_at if row.resumes_at >= 0 else NAN
    values[at(F_HALTS_TODAY)] = row.halts if row.any_message or row.halt_words != NULL else NAN
    table.updated_at[i] = row.updated_at
    if table.keeps_windows:
        derive_windows(columns, table, i, moment)


cdef inline double postmarket_volume(const SymbolDay* row) noexcept nogil:
    if row.trades > 0:
        return row.postmarket_volume
    if row.second_bars.window != NULL:
        return row.second_bars.postmarket_volume
    return row.minute_bars.postmarket_volume


cdef inline double restricted(double low, double prev_close, double was_restricted) noexcept nogil:
    """True (1) if the regular session was a tenth below the close before it, today or on the day before."""
    if isnan(prev_close):
        return NAN
    return was_restricted == 1 or percent(low, prev_close) <= RESTRICTED


cdef inline double gap_fill(double price, double open, double prev_close) noexcept nogil:
    """Share of the gap that is given back; absent when there is no gap."""
    cdef double share
    if not (open != prev_close):
        return NAN
    share = round6(100 * (open - price) / (open - prev_close))
    return 0 if share < 0 else share


cdef void derive_ranges(Column* columns, const DayTable* table, int32_t i) noexcept nogil:
    cdef const OpeningRange* range_ = &table.ranges[i]
    cdef double* values = row_of(columns, i)
    cdef int k
    for k in range(RANGES):
        values[at(F_OR1_HIGH) + 2 * k] = range_.minutes[k].high
        values[at(F_OR1_LOW) + 2 * k] = range_.minutes[k].low


cdef const Window* bars_window(const SymbolDay* row) noexcept nogil:
    """Of the bars that stand in for the trades of a row without any; NULL where there are trades, or no bars."""
    if row.trades > 0:
        return NULL
    return row.second_bars.window if row.second_bars.window != NULL else row.minute_bars.window


cdef inline void put_volume(Column* columns, double* values, int w, int32_t i, double volume) noexcept nogil:
    """The volume of window w; those of the short ones move (row_values.pxd)."""
    if w < SHORT_WINDOWS:
        columns[F_VOL_1M + w].values[i] = volume
    else:
        values[at(F_VOL_10M) + w - SHORT_WINDOWS] = volume


cdef void derive_windows(Column* columns, const DayTable* table, int32_t i, const Moment* moment) noexcept nogil:
    cdef SymbolDay* row = &table.rows[i]
    cdef double* values = row_of(columns, i)
    cdef OlderSums* older = &table.older_sums[i]
    cdef const Bucket* newest = NULL
    cdef Billionths volume = 0, dollars = 0
    cdef double trades = 0, largest = 0, high = -INFINITY, low = INFINITY, most
    cdef int w
    if not row.any_message:
        for w in range(WINDOWS):
            put_volume(columns, values, w, i, NAN)
            values[at(F_CHG_1M) + w] = NAN
        for w in range(SHORT_WINDOWS):
            values[at(F_DOLLAR_VOLUME_1M) + w] = values[at(F_TRADES_1M) + w] = values[at(F_LARGEST_1M) + w] = NAN
        for w in range(RANGE_WINDOWS):
            values[HIGH_PLACES[w]] = values[LOW_PLACES[w]] = NAN
        return
    if row.trades > 0:
        newest = newest_bucket(&row.window)
    # Ahead of now only in bytes that no state has written.
    if newest == NULL or not moment.grid - NEWEST_CLASS <= newest.number <= moment.grid:
        row.window.summed = NOTHING_SUMMED
        sum_windows(&table.chunks, &row.window, bars_window(row), False, moment.grid, older)
    else:
        bring_older(&table.chunks, &row.window, moment.grid, older)
        volume = billionths(newest.volume)
        dollars = billionths(newest.dollars)
        trades = newest.trades
        largest = newest.largest
        high = newest.high
        low = newest.low
    for w in range(WINDOWS):
        put_volume(columns, values, w, i, of_billionths(older.volume[w] + volume))
        values[at(F_CHG_1M) + w] = percent(row.price, older.before[w])
    for w in range(SHORT_WINDOWS):
        most = max(largest, older.largest[w])
        values[at(F_DOLLAR_VOLUME_1M) + w] = of_billionths(older.dollars[w] + dollars)
        values[at(F_TRADES_1M) + w] = older.trades[w] + trades if row.trades > 0 else NAN
        values[at(F_LARGEST_1M) + w] = most if most > 0 else NAN
    for w in range(RANGE_WINDOWS):
        most = max(high, older.high[w])
        values[HIGH_PLACES[w]] = most if most != -INFINITY else NAN
        most = min(low, older.low[w])
        values[LOW_PLACES[w]] = most if most != INFINITY else NAN


cdef double ratio_to_usual(
    double shares, const Baselines* baselines, int32_t i, const Moment* moment, int w
) noexcept nogil:
    """The shares of a window against what is usual between its mark and now."""
    cdef SlotLine at_mark = volume_line(baselines, i, moment.mark_slot[w])
    cdef SlotLine at_now = volume_line(baselines, i, moment.slot)
    return between6(
        shares, on_line(at_mark.begin, at_mark.finish, moment.mark_inside[w]),
        on_line(at_now.begin, at_now.finish, moment.inside),
    )


cdef void derive_from_now(
    Column* columns, const int64_t* updated_at, const Baselines* baselines, int32_t count, const Moment* moment
) noexcept nogil:
    """The columns that change while time passes: straight lines inside the slot, age, score."""
    cdef const double* begin
    cdef const double* finish
    cdef int32_t i
    cdef int w
    rvol_of(
        columns[F_VOLUME_TODAY].values, baselines.begin[0], baselines.finish[0], moment.inside,
        columns[F_RVOL].values, columns[F_RVOL_SLOT].values, count,
    )
    z_score_of(
        columns[F_TRADES_TODAY].values, baselines.begin[1], baselines.finish[1], baselines.begin[2],
        baselines.finish[2], moment.inside, columns[F_TRADES_Z_SCORE].values, count,
    )
    for w in range(SHORT_WINDOWS):
        if moment.mark_slot[w] == moment.slot:
            begin = baselines.begin[0]
            finish = baselines.finish[0]
        elif moment.mark_slot[w] == moment.slot - 1:
            begin = baselines.before
            finish = baselines.begin[0]
        else:
            # Of a day that does not begin on the windows' grid.
            for i in range(count):
                columns[F_VOL_1M_RATIO + w].values[i] = ratio_to_usual(columns[F_VOL_1M + w].values[i], baselines, i, moment, w)
            continue
        between_of(
            columns[F_VOL_1M + w].values, begin, finish, moment.mark_inside[w], baselines.begin[0], baselines.finish[0],
            moment.inside, columns[F_VOL_1M_RATIO + w].values, count,
        )
    score_of(columns[F_RVOL].values, columns[F_VOLUME_RATIO].values, columns[F_SCORE].values, count)
    age_of(moment.now_ns, updated_at, columns[F_AGE_SECONDS].values, count)


cdef double baseline_at(const Baselines* baselines, int kind, int32_t i, const Moment* moment) noexcept nogil:
    """A symbol's usual value at a time of day; NaN without a baseline."""
    if baselines.slot == moment.slot:
        return on_line(baselines.begin[kind][i], baselines.finish[kind][i], moment.inside)
    if baselines.blocks[i] == NULL or baselines.days[i] < LEAST_DAYS:
        return NAN
    # Nothing has been traded at 04:00.
    return on_line(
        slot_value(baselines, i, kind, moment.slot - 1) if moment.slot else 0,
        slot_value(baselines, i, kind, moment.slot),
        moment.inside,
    )


cdef void derive_row_from_now(
    Column* columns, const int64_t* updated_at, const Baselines* baselines, int32_t i, const Moment* moment
) noexcept nogil:
    """The same of one row."""
    cdef double volume = columns[F_VOLUME_TODAY].values[i], finish = NAN, rvol
    cdef int w
    if baselines.slot == moment.slot:
        finish = baselines.finish[0][i]
    elif baselines.blocks[i] != NULL and baselines.days[i] >= LEAST_DAYS:
        finish = slot_value(baselines, i, 0, moment.slot)
    rvol = ratio6(volume, baseline_at(baselines, 0, i, moment))
    columns[F_RVOL].values[i] = rvol
    columns[F_RVOL_SLOT].values[i] = ratio6(volume, finish)
    columns[F_TRADES_Z_SCORE].values[i] = z6(
        columns[F_TRADES_TODAY].values[i], baseline_at(baselines, 1, i, moment), baseline_at(baselines, 2, i, moment)
    )
    for w in range(SHORT_WINDOWS):
        # F_VOL_5M stands behind F_VOL_1M, and so do their ratios.
        columns[F_VOL_1M_RATIO + w].values[i] = ratio_to_usual(columns[F_VOL_1M + w].values[i], baselines, i, moment, w)
    columns[F_SCORE].values[i] = score6(rvol, columns[F_VOLUME_RATIO].values[i])
    columns[F_AGE_SECONDS].values[i] = seconds_since(moment.now_ns, updated_at[i])
