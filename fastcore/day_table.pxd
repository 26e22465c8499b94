# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# The rows of a market: the result of each symbol's messages of the day, before anything is derived from it.

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from fastcore.anchored_volume cimport AnchoredVolume
from fastcore.chains cimport ChunkPool
from fastcore.halt_words cimport HaltWords
from fastcore.opening_ranges cimport RANGES, OpeningRange
from fastcore.recent_trades cimport RecentTrades
from fastcore.suspects cimport Recent, SuspectCounts
from fastcore.trade_rules cimport RuleMasks
from fastcore.window_sums cimport OlderSums
from fastcore.windows cimport Window

cdef extern from "math.h" nogil:
    double NO_PRICE "NAN"

# Codes of fields.SESSIONS.
cdef enum:
    NO_SESSION = 0
    PRE_MARKET = 1
    MARKET_OPEN = 2
    POST_MARKET = 3
    CLOSED = 4

# Ends of the sessions in ns since 1970 UTC; all 0 before a day is known.
cdef struct DayBounds:
    int64_t start
    int64_t open
    int64_t close
    int64_t end

# Bars of one span, standing in for the trades of a symbol that has none.
cdef struct StandInBars:
    Window* window              # NULL before the first bar
    uint64_t* seen              # bit i: the bar that starts i spans after 04:00 has come
    int64_t words
    double postmarket_volume

# NaN is "absent", times of -1 are "never". What nearly every trade in regular hours touches lies in five lines of
# the cache when the rows are aligned to one. Before the open it touches the line before them and `premarket`, too.
cdef enum:
    CACHE_LINE = 64
    TRADE_LINE = 1              # the first of the lines that a trade touches
    TRADE_LINES = 5
    SECONDS_OF_DAY = 57_600     # 04:00 to 20:00

    # What is the same in all rows: minutes_since_open and the spy_ fields, in the order of market_scalars.pyx.
    SCALARS = 5

# Of a touched row.
cdef enum:
    DERIVED_BEFORE = 1          # its derived columns are from before the touch
    NOT_MARKED = 2              # no watermark has come since
    RANGES_CHANGED = 4          # its opening ranges are others than its columns show

cdef struct SymbolDay:
    double postmarket_volume
    double premarket_price
    double premarket_high
    double premarket_low
    double open_trade           # see below; NaN unless has_open_trade

    AnchoredVolume volume       # its last line is the first that a trade touches

    double price
    int64_t price_time
    int64_t updated_at
    int64_t trade_time          # of the newest trade that may set the price
    double regular_price
    int64_t regular_time
    double last_size            # of the newest volume-eligible trade
    int64_t last_size_time      # -1 before the first

    double high
    double low
    double intraday_high
    double intraday_low
    double trades               # volume-eligible
    int64_t halt_watch          # from when on something about the halts is to take effect, INT64_MAX for never
    int16_t updated_session     # session of updated_at
    int16_t halted              # -1 unknown, 0, 1
    int8_t any_message          # whether a trade or bar has come
    int8_t any_trade
    int8_t has_open_trade
    int8_t no_flag              # 0

    Recent recent               # what a print is compared with
    Window window               # its buckets are the last that a trade touches

    # Sources of the open, each the first to arrive: a bar's, the official print, a regular trade (above).
    double open_of_bar
    double open_print
    double close_print
    int64_t close_print_time
    double bid
    double ask
    double bid_size             # of the newest quote, whatever a snapshot has brought since
    double ask_size
    int64_t quote_time
    double luld_upper
    double luld_lower
    int64_t luld_time
    int64_t bands_time          # of the newest message with both bands, -1 without one
    HaltWords* halt_words       # NULL before the first
    # The last halt of the day, whether or not it has ended.
    int64_t halt_reason         # code of the text, 0 without one
    int64_t halted_at           # -1 before the first
    int64_t resumes_at          # -1 until it is announced
    double halts
    double suspect_prints

    AnchoredVolume premarket    # the same volume, counted to the open
    StandInBars second_bars
    StandInBars minute_bars
    # When the intraday extremes were reached first; of a bar its end.
    int64_t intraday_high_time
    int64_t intraday_low_time
    int64_t[5] unused           # to whole lines

# The highest and the lowest value that the price has moved to since the last watermark, NaN without one.
cdef struct PriceSpan:
    double high
    double low

# All symbols of a market.
cdef struct DayTable:
    bint keeps_windows          # else nothing comes into windows, and nothing is derived of them
    SymbolDay* rows
    ChunkPool chunks            # of the rows' windows and volumes
    uint32_t* revision
    uint8_t* touches            # DERIVED_BEFORE, NOT_MARKED and RANGES_CHANGED, of touched rows
    int32_t* dirty              # the rows that are DERIVED_BEFORE
    int32_t dirty_count
    int32_t* unmarked           # the rows that are NOT_MARKED
    int32_t unmarked_count
    int32_t* marked             # the rows that the last watermark found touched
    int32_t marked_count
    PriceSpan* spans            # of the rows that have been touched since the last watermark, or before it
    int64_t* moments            # now of the last watermark that found the row touched
    int64_t mark_ns             # now of the last watermark that began a second, -1 before the first
    OlderSums* older_sums       # of the rows' windows
    OpeningRange* ranges        # of the rows
    int64_t[RANGES] range_ends  # of today's opening ranges
    double[SCALARS] scalars     # the market's, as of mark_ns
    int64_t* updated_at         # the rows', when the derived columns were computed
    int32_t active_count        # symbols with a trade or bar today
    int32_t halted_count        # symbols that are halted
    int64_t halts_due           # no halt_watch is earlier
    DayBounds day
    RuleMasks rules
    RecentTrades recent_trades
    int64_t now_ns
    SuspectCounts suspects      # of the day
    int64_t lowered_volumes     # bars with fewer shares than had been counted


cdef inline void touch(DayTable* table, uint32_t symbol_id) noexcept nogil:
    table.revision[symbol_id] += 1
    if table.touches[symbol_id] & (DERIVED_BEFORE | NOT_MARKED) == DERIVED_BEFORE | NOT_MARKED:
        return
    if not table.touches[symbol_id] & NOT_MARKED:
        table.unmarked[table.unmarked_count] = <int32_t>symbol_id
        table.unmarked_count += 1
        table.spans[symbol_id].high = table.spans[symbol_id].low = NO_PRICE
    derive_again(table, <int32_t>symbol_id)
    table.touches[symbol_id] |= DERIVED_BEFORE | NOT_MARKED


cdef inline void widen_span(DayTable* table, uint32_t symbol_id) noexcept nogil:
    """The price has moved to what it is now."""
    cdef double price = table.rows[symbol_id].price
    cdef PriceSpan* span = &table.spans[symbol_id]
    if price == price:
        if not (span.high >= price):
            span.high = price
        if not (span.low <= price):
            span.low = price


cdef inline void derive_again(DayTable* table, int32_t symbol_id) noexcept nogil:
    if not table.touches[symbol_id] & DERIVED_BEFORE:
        table.touches[symbol_id] |= DERIVED_BEFORE
        table.dirty[table.dirty_count] = symbol_id
        table.dirty_count += 1


cdef inline int64_t moment_ns_of(const DayTable* table, int32_t symbol_id) noexcept nogil:
    """The time that the row's columns are of: now of its last watermark, or now when it was touched after that."""
    if table.touches[symbol_id] & NOT_MARKED:
        return table.now_ns
    return max(table.moments[symbol_id], table.mark_ns)


cdef inline int session_of(const DayBounds* day, int64_t time_ns) noexcept nogil:
    if time_ns < day.start or time_ns >= day.end:
        return CLOSED if day.end else NO_SESSION
    if time_ns < day.open:
        return PRE_MARKET
    return MARKET_OPEN if time_ns < day.close else POST_MARKET
