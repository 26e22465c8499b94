"""Derived columns. Percentages, ratios and vwap are rounded to 6 decimals where they are stored."""

from libc.math cimport fabs, isnan
from libc.stdint cimport int32_t, int64_t

from fastcore.anchored_volume cimport total_dollars, total_shares
from fastcore.baselines cimport SLOT_SECONDS, SLOTS, Baselines
from fastcore.field_numbers cimport *
from fastcore.symbol_day cimport DayTable, SymbolDay
from fastcore.windows cimport WINDOWS, Window, WindowSums, grid_of, no_sums, window_sums

cdef double NAN = float("nan")
cdef int64_t SLOT_NS = <int64_t>SLOT_SECONDS * 1_000_000_000

# Adding and taking away 1.5 x 2**52 rounds a double below 2**51 to the nearest integer, ties to even.
cdef double ROUNDER = 6755399441055744.0
cdef double LARGEST_ROUNDED = 2251799813685248.0


cdef inline double round6(double value) noexcept nogil:
    """To 6 decimals; NaN stays NaN."""
    cdef double scaled = value * 1e6
    if fabs(scaled) < LARGEST_ROUNDED:
        scaled = (scaled + ROUNDER) - ROUNDER
        return scaled / 1e6
    # So large a number has no decimals.
    return value


cdef inline double percent(double value, double base) noexcept nogil:
    """How far value is from base, in percent of it."""
    return round6(100 * (value - base) / base) if base != 0 else NAN


cdef inline double ratio(double value, double base) noexcept nogil:
    return round6(value / base) if base > 0 else NAN


cdef Moment moment_of(const DayTable* table) noexcept nogil:
    cdef Moment moment
    cdef int64_t since = table.now_ns - table.day.start
    moment.now_ns = table.now_ns
    moment.grid = grid_of(table.now_ns)
    moment.is_after_close = table.now_ns >= table.day.close
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
    columns[F_CHANGE][i] = price - prev_close
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
    vwap = ratio(dollars, volume)
    columns[F_VWAP][i] = vwap
    columns[F_PRICE_VS_VWAP][i] = percent(price, vwap)
    columns[F_VOLUME_RATIO][i] = ratio(volume, columns[F_AVG_VOLUME_30D][i])
    columns[F_ATR_PERCENT][i] = round6(100 * atr / price) if price != 0 else NAN
    columns[F_HALTED][i] = NAN if row.halted < 0 else <double>row.halted
    columns[F_LULD_UPPER][i] = row.luld_upper
    columns[F_LULD_LOWER][i] = row.luld_lower
    columns[F_SESSION][i] = <double>row.updated_session if row.updated_at >= 0 else NAN
    columns[F_UPDATED_AT][i] = <double>row.updated_at if row.updated_at >= 0 else NAN
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
    cdef const SymbolDay* row = &table.rows[i]
    cdef WindowSums sums, of_bars
    cdef const Window* bars = NULL
    cdef double volume = 0, before
    cdef int64_t before_time
    cdef int w, k
    if not row.any_message:
        for w in range(WINDOWS):
            columns[F_CHG_1M + w][i] = columns[F_VOL_1M + w][i] = NAN
        return
    if row.window != NULL:
        window_sums(row.window, moment.grid, &sums)
    else:
        no_sums(&sums)
    if row.trades == 0:
        bars = row.second_bars.window if row.second_bars.window != NULL else row.minute_bars.window
    if bars != NULL:
        window_sums(bars, moment.grid, &of_bars)
        for k in range(WINDOWS + 1):
            sums.volume[k] += of_bars.volume[k]
            if of_bars.price_time[k] > sums.price_time[k]:
                sums.price_time[k] = of_bars.price_time[k]
                sums.price[k] = of_bars.price[k]
    for w in range(WINDOWS):
        volume += sums.volume[w]
        columns[F_VOL_1M + w][i] = volume
    # The last price before a window is the newest of the classes beyond it.
    before = NAN
    before_time = -1
    for w in range(WINDOWS - 1, -1, -1):
        if sums.price_time[w + 1] > before_time:
            before_time = sums.price_time[w + 1]
            before = sums.price[w + 1]
        columns[F_CHG_1M + w][i] = percent(row.price, before)


cdef void derive_from_now(
    double** columns, const int64_t* updated_at, const Baselines* baselines, int32_t count, const Moment* moment
) noexcept nogil:
    """What changes while time passes: straight lines inside the slot, age, score."""
    cdef int32_t i
    cdef double inside = moment.inside
    cdef bint is_over = inside == 1
    cdef double at, mean, sd
    cdef const double* volume = columns[F_VOLUME_TODAY]
    cdef const double* trades = columns[F_TRADES_TODAY]
    cdef const double* volume_ratio = columns[F_VOLUME_RATIO]
    cdef double* rvol = columns[F_RVOL]
    cdef double* rvol_slot = columns[F_RVOL_SLOT]
    cdef double* z_score = columns[F_TRADES_Z_SCORE]
    cdef double* score = columns[F_SCORE]
    cdef double* age = columns[F_AGE_SECONDS]
    cdef const double* begin
    cdef const double* finish
    cdef const double* sd_begin
    cdef const double* sd_finish

    begin = baselines.begin[0]
    finish = baselines.finish[0]
    for i in range(count):
        at = finish[i] if is_over else begin[i] + (finish[i] - begin[i]) * inside
        rvol[i] = ratio(volume[i], at)
        rvol_slot[i] = ratio(volume[i], finish[i])
    begin = baselines.begin[1]
    finish = baselines.finish[1]
    sd_begin = baselines.begin[2]
    sd_finish = baselines.finish[2]
    for i in range(count):
        mean = finish[i] if is_over else begin[i] + (finish[i] - begin[i]) * inside
        sd = sd_finish[i] if is_over else sd_begin[i] + (sd_finish[i] - sd_begin[i]) * inside
        z_score[i] = round6((trades[i] - mean) / sd) if sd > 0 else NAN
    for i in range(count):
        at = 10 * (0 if isnan(rvol[i]) else rvol[i]) + 5 * (0 if isnan(volume_ratio[i]) else volume_ratio[i])
        score[i] = NAN if isnan(rvol[i]) and isnan(volume_ratio[i]) else round6(at)
    for i in range(count):
        # In whole nanoseconds first: a double is too coarse for the times themselves.
        age[i] = <double>(moment.now_ns - updated_at[i]) / 1e9 if updated_at[i] >= 0 else NAN
