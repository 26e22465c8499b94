# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Prints that are too far off to be believed at once: docs/semantics.md, Suspect prints.
#
# Nearly every trade lies in the calm interval of its symbol, in which no print
# can be suspect, and is let through by two comparisons. The interval follows from
# the rest, is computed when a trade lies outside of it, and is no part of the state.

from libc.stdint cimport int64_t, uint64_t

from fastcore.wire cimport Cursor, Writer

cdef enum:
    RECENT = 5                  # price-setting trades whose median is taken
    MAX_HELD = 16               # prints of a symbol that can wait at once

cdef struct RecentPrice:
    double price
    int64_t time                # -1 without one

# The prices that a print is compared with.
cdef struct Band:
    double low
    double high
    double above                # tolerance of prints above, and of those below; USD
    double below

cdef struct HeldPrint:
    int64_t time
    double price
    double reach                # how near a trade must come to confirm it, USD
    uint64_t conditions
    int64_t side                # 1 when it lies above what was expected, -1 below
    int64_t awaits_trade        # 0 once only a bar can confirm it

cdef struct HeldPrints:
    int64_t count
    HeldPrint[MAX_HELD] prints  # in order of arrival

cdef struct Recent:
    double calm_low
    double calm_high            # below calm_low when no price is calm
    uint64_t newest             # place of the newest price
    HeldPrints* held            # NULL without one
    RecentPrice[RECENT] prices  # a ring; none is older than the one before it

# Of a market's day.
cdef struct SuspectCounts:
    int64_t prints
    int64_t confirmed_by_trade
    int64_t confirmed_by_bar


cdef inline bint is_calm(const Recent* recent, double price) noexcept nogil:
    """That the price needs no second look; wherever it is false, confirm_by_trade() and the rest decide."""
    return price >= recent.calm_low and price <= recent.calm_high


cdef inline void unsettle(Recent* recent) noexcept nogil:
    """From now on every trade is looked at, until settle()."""
    recent.calm_low = 1
    recent.calm_high = 0


cdef inline const RecentPrice* recent_price(const Recent* recent, uint64_t k) noexcept nogil:
    """The price that k others are newer than."""
    return &recent.prices[recent.newest - k if recent.newest >= k else recent.newest + RECENT - k]


cdef inline void note_price(Recent* recent, int64_t time_ns, double price) noexcept nogil:
    """A trade that sets the price; a late one does not, and is left out."""
    if time_ns < recent.prices[recent.newest].time:
        return
    recent.newest = recent.newest + 1 if recent.newest < RECENT - 1 else 0
    recent.prices[recent.newest].price = price
    recent.prices[recent.newest].time = time_ns


cdef void init_recent(Recent* recent) noexcept nogil
cdef void free_recent(Recent* recent) noexcept nogil

# The prints that a trade confirms: moved to `confirmed`, which has room for MAX_HELD. Returns how many.
cdef int confirm_by_trade(Recent* recent, int64_t time_ns, double price, HeldPrint* confirmed) noexcept nogil
# The same for a bar.
cdef int confirm_by_bar(
    Recent* recent, int64_t start_ns, double high, double low, HeldPrint* confirmed
) noexcept nogil
# True if a print of this time and price still waits, for sources that give only these two.
cdef bint still_waits(const Recent* recent, int64_t time_ns, double price) noexcept nogil
# True if there is a price to compare a print of this time with; `band` then holds it.
cdef bint expected_band(const Recent* recent, int64_t time_ns, double lower, double upper, Band* band) noexcept nogil
cdef int hold(Recent* recent, int64_t time_ns, double price, uint64_t conditions, const Band* band) except -1 nogil
# Finds the calm interval anew before a trade that is let through; NaN bands are none.
cdef void settle(Recent* recent, double price, double lower, double upper) noexcept nogil

cdef int write_recent(Writer* writer, const Recent* recent) except -1
# ValueError when it cannot be; `recent`, fresh from init_recent, can be freed in any case.
cdef int read_recent(Cursor* cursor, Recent* recent) except -1
