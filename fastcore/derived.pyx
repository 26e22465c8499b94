# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Derived columns. Percentages, ratios and vwap are rounded to 6 decimals where they are stored."""

from libc.math cimport fabs, isnan
from libc.stdint cimport int32_t, int64_t

from fastcore.anchored_volume cimport is_told, priced_shares, total_dollars, total_shares
from fastcore.baselines cimport LEAST_DAYS, SLOT_SECONDS, SLOTS, Baselines
from fastcore.day_table cimport DayTable, SymbolDay
from fastcore.derived_kernels cimport (
    age_of, on_line, ratio6, round6, rvol_of, score6, score_of, seconds_since, z6, z_score_of,
)
from fastcore.field_numbers cimport *
from fastcore.windows cimport NEWEST_CLASS, WINDOWS, Bucket, OlderSums, Window, WindowSums, grid_of, window_sums

cdef double NAN = float("nan")
cdef int64_t SLOT_NS = <int64_t>SLOT_SECONDS * 1_000_000_000


cdef inline double percent(double value, double base) noexcept nogil:
    """How far value is from base, in percent of it."""
    return round6(100 * (value - base) / base) if base != 0 else NAN


cdef inline double ratio(double value, double base) noexcept nogil:
    return round6(value / base) if base > 0 else NAN


cdef Moment moment_of(const DayTable* table) noexcept nogil:
    return moment_at(table, table.now_ns)


cdef Moment moment_at(const DayTable* table, int64_t time_ns) noexcept nogil:
    cdef Moment moment
    cdef int64_t since = time_ns - table.day.start
    moment.now_ns = time_ns
    moment.grid = grid_of(time_ns)
    moment.is_after_close = time_ns >= table.day.close
    if since <= 0:
        moment.slot = 0
        moment.inside = 0
    elif since >= SLOTS * SLOT_NS:
        moment.slot = SLOTS - 1
        moment.inside = 1
    else:
        moment.slot = <int32_t>(since // SLOT_NS)
        moment.inside = <double>(since % SLOT_NS) / <double>SLOT_NS
    return moment


cdef inline double gap_code(double gap) noexcept nogil:
    """Code of fields.GAP_SIZES."""
    if isnan(gap):
        return NAN
    gap = fabs(gap)
    return 1 if gap < 2 else 2 if gap < 5 else 3 if gap < 10 else 4


cdef void derive_row(double** columns, const DayTable* table, int32_t i, const Moment* moment) noexcept nogil:
    """Everything of one row but what moves with now alone."""
    cdef const SymbolDay* row = &table.rows[i]
    cdef double price = row.price, prev_close = columns[F_PREV_CLOSE][i], atr = columns[F_ATR][i]
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

    columns[F_PRICE][i] = price
    columns[F_BID][i] = row.bid
    columns[F_ASK][i] = row.ask
    columns[F_SPREAD_PERCENT][i] = (
        round6(100 * (row.ask - row.bid) / ((row.ask + row.bid) / 2)) if row.ask + row.bid > 0 else NAN
    )
    columns[F_VOLUME_TODAY][i] = volume
    columns[F_TRADES_TODAY][i] = row.trades if row.trades > 0 else NAN
    columns[F_DOLLAR_VOLUME][i] = dollars
    columns[F_OPEN][i] = open
    columns[F_HIGH][i] = row.high
    columns[F_LOW][i] = row.low
    columns[F_INTRADAY_HIGH][i] = row.intraday_high
    columns[F_INTRADAY_LOW][i] = row.intraday_low
    columns[F_CLOSE][i] = close
    columns[F_CHANGE][i] = round6(price - prev_close)
    columns[F_CHANGE_PERCENT][i] = percent(price, prev_close)
    gap = percent(price if isnan(open) else open, prev_close)
    columns[F_GAP_PERCENT][i] = gap
    columns[F_GAP_SIZE][i] = gap_code(gap)
    columns[F_CHANGE_FROM_OPEN][i] = percent(price, open)
    columns[F_PREMARKET_HIGH][i] = row.premarket_high
    columns[F_PREMARKET_LOW][i] = row.premarket_low
    columns[F_PREMARKET_VOLUME][i] = total_shares(&row.premarket) if row.any_message else NAN
    columns[F_PREMARKET_CHANGE_PERCENT][i] = percent(row.premarket_price, prev_close)
    columns[F_POSTMARKET_CHANGE_PERCENT][i] = percent(price, close) if moment.is_after_close else NAN
    columns[F_POSTMARKET_VOLUME][i] = postmarket_volume(row) if row.any_message else NAN
    columns[F_GAP_FILL_PERCENT][i] = gap_fill(price, open, prev_close)
    columns[F_PRICE_FROM_HIGH][i] = percent(price, row.high)
    columns[F_PRICE_FROM_LOW][i] = percent(price, row.low)
    columns[F_PRICE_FROM_INTRADAY_HIGH][i] = percent(price, row.intraday_high)
    columns[F_PRICE_FROM_INTRADAY_LOW][i] = percent(price, row.intraday_low)
    range_ = row.intraday_high - row.intraday_low
    columns[F_POSITION_IN_RANGE][i] = round6(100 * (price - row.intraday_low) / range_) if range_ != 0 else NAN
    # A snapshot may report shares whose prices are unknown.
    vwap = ratio(dollars, priced_shares(&row.volume))
    columns[F_VWAP][i] = vwap
    columns[F_PRICE_VS_VWAP][i] = percent(price, vwap)
    columns[F_VOLUME_RATIO][i] = ratio(volume, columns[F_AVG_VOLUME_30D][i])
    columns[F_ATR_PERCENT][i] = round6(100 * atr / price) if price != 0 else NAN
    columns[F_HALTED][i] = NAN if row.halted < 0 else <double>row.halted
    columns[F_LULD_UPPER][i] = row.luld_upper
    columns[F_LULD_LOWER][i] = row.luld_lower
    columns[F_SESSION][i] = <double>row.updated_session if row.updated_at >= 0 else NAN
    columns[F_UPDATED_AT][i] = <double>row.updated_at if row.updated_at >= 0 else NAN
    columns[F_SUSPECT_PRINTS][i] = row.suspect_prints if row.any_message else NAN
    columns[F_HALTED_AT][i] = <double>row.halted_at if row.halted_at >= 0 else NAN
    columns[F_RESUMES_AT][i] = <double>row.resumes_at if row.resumes_at >= 0 else NAN
    columns[F_HALTS_TODAY][i] = row.halts if row.any_message or row.halt_words != NULL else NAN
    table.updated_at[i] = row.updated_at
    derive_windows(columns, table, i, moment)


cdef inline double postmarket_volume(const SymbolDay* row) noexcept nogil:
    if row.trades > 0:
        return row.postmarket_volume
    if row.second_bars.window != NULL:
        return row.second_bars.postmarket_volume
    return row.minute_bars.postmarket_volume


cdef inline double gap_fill(double price, double open, double prev_close) noexcept nogil:
    """Share of the gap that is given back; absent when there is no gap."""
    cdef double share
    if not (open != prev_close):
        return NAN
    share = round6(100 * (open - price) / (open - prev_close))
    return 0 if share < 0 else share


cdef void derive_windows(double** columns, const DayTable* table, int32_t i, const Moment* moment) noexcept nogil:
    cdef SymbolDay* row = &table.rows[i]
    cdef OlderSums* older = &table.older_sums[i]
    cdef const Bucket* newest = NULL
    cdef double volume = 0
    cdef int w
    if not row.any_message:
        for w in range(WINDOWS):
            columns[F_CHG_1M + w][i] = columns[F_VOL_1M + w][i] = NAN
        return
    if row.trades > 0 and row.window.count:
        newest = &row.window.buckets[row.window.head + row.window.count - 1]
    if newest == NULL or newest.number < moment.grid - NEWEST_CLASS:
        row.window.is_summed = 0
        _sum_windows(row, row.window.count, moment.grid, older)
    else:
        if not row.window.is_summed or older.number != moment.grid:
            _sum_windows(row, row.window.count - 1, moment.grid, older)
            older.number = moment.grid
            row.window.is_summed = 1
        volume = newest.volume
    # As if each class had been added up to its end: the newest bucket is the last of its class.
    volume = older.volume[0] + volume
    for w in range(WINDOWS):
        if w > 0:
            volume += older.volume[w]
        columns[F_VOL_1M + w][i] = volume
        columns[F_CHG_1M + w][i] = percent(row.price, older.before[w])


cdef void _sum_windows(const SymbolDay* row, int32_t count, int64_t grid, OlderSums* older) noexcept nogil:
    """Of the first `count` buckets, and of bars where they stand in for trades."""
    cdef WindowSums sums, of_bars
    cdef const Window* bars = NULL
    cdef double before = NAN
    cdef int64_t before_time = -1
    cdef int w, k
    window_sums(&row.window, count, grid, &sums)
    if row.trades == 0:
        bars = row.second_bars.window if row.second_bars.window != NULL else row.minute_bars.window
    if bars != NULL:
        window_sums(bars, bars.count, grid, &of_bars)
        for k in range(WINDOWS + 1):
            sums.volume[k] += of_bars.volume[k]
            if of_bars.price_time[k] > sums.price_time[k]:
                sums.price_time[k] = of_bars.price_time[k]
                sums.price[k] = of_bars.price[k]
    # The last price before a window is the newest of the classes beyond it.
    for w in range(WINDOWS - 1, -1, -1):
        if sums.price_time[w + 1] > before_time:
            before_time = sums.price_time[w + 1]
            before = sums.price[w + 1]
        older.volume[w] = sums.volume[w]
        older.before[w] = before


cdef void derive_from_now(
    double** columns, const int64_t* updated_at, const Baselines* baselines, int32_t count, const Moment* moment
) noexcept nogil:
    """The columns that change while time passes: straight lines inside the slot, age, score."""
    rvol_of(
        columns[F_VOLUME_TODAY], baselines.begin[0], baselines.finish[0], moment.inside, columns[F_RVOL],
        columns[F_RVOL_SLOT], count,
    )
    z_score_of(
        columns[F_TRADES_TODAY], baselines.begin[1], baselines.finish[1], baselines.begin[2], baselines.finish[2],
        moment.inside, columns[F_TRADES_Z_SCORE], count,
    )
    score_of(columns[F_RVOL], columns[F_VOLUME_RATIO], columns[F_SCORE], count)
    age_of(moment.now_ns, updated_at, columns[F_AGE_SECONDS], count)


cdef double baseline_at(const Baselines* baselines, int kind, int32_t i, const Moment* moment) noexcept nogil:
    """A symbol's usual value at a time of day; NaN without a baseline."""
    cdef const double* ends
    if baselines.slot == moment.slot:
        return on_line(baselines.begin[kind][i], baselines.finish[kind][i], moment.inside)
    ends = baselines.blocks[i]
    if ends == NULL or baselines.days[i] < LEAST_DAYS:
        return NAN
    ends += kind * SLOTS + moment.slot
    # Nothing has been traded at 04:00.
    return on_line((ends - 1)[0] if moment.slot else 0, ends[0], moment.inside)


cdef void derive_row_from_now(
    double** columns, const int64_t* updated_at, const Baselines* baselines, int32_t i, const Moment* moment
) noexcept nogil:
    """The same of one row."""
    cdef double volume = columns[F_VOLUME_TODAY][i], finish = NAN, rvol
    if baselines.slot == moment.slot:
        finish = baselines.finish[0][i]
    elif baselines.blocks[i] != NULL and baselines.days[i] >= LEAST_DAYS:
        finish = baselines.blocks[i][moment.slot]
    rvol = ratio6(volume, baseline_at(baselines, 0, i, moment))
    columns[F_RVOL][i] = rvol
    columns[F_RVOL_SLOT][i] = ratio6(volume, finish)
    columns[F_TRADES_Z_SCORE][i] = z6(
        columns[F_TRADES_TODAY][i], baseline_at(baselines, 1, i, moment), baseline_at(baselines, 2, i, moment)
    )
    columns[F_SCORE][i] = score6(rvol, columns[F_VOLUME_RATIO][i])
    columns[F_AGE_SECONDS][i] = seconds_since(moment.now_ns, updated_at[i])
