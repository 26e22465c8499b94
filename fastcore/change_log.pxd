# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Which rows' columns have changed since a reader last looked. Every reader has its own place in
# the log; what has changed for all rows at once, or too much to tell, it reads as "everything".

from libc.stdint cimport int32_t, uint64_t

from fastcore.field_numbers cimport *

cdef enum:
    NO_ROW = -1

# What of a row a reader looks at.
cdef enum Depends:
    ON_TOUCHES = 0
    ON_WINDOWS = 1              # columns that change when the windows move: chg_5m, vol_5m ...
    ON_SECONDS = 2              # columns that change with every second: rvol, age_seconds ...
    ON_SYMBOLS = 4              # the order of the symbols

cdef struct ChangeLog:
    int32_t* ids                # the newest, entry n at n % room
    uint64_t room
    uint64_t end                # entries so far
    # Ends of the log when something last changed for all rows.
    uint64_t all_changed
    uint64_t windows_moved
    uint64_t second_began
    uint64_t symbols_moved

cdef int grow_log(ChangeLog* log, int32_t rows) except -1
cdef void free_log(ChangeLog* log) noexcept
cdef void note_rows(ChangeLog* log, const int32_t* ids, int32_t count) noexcept nogil


# What a field's column follows besides its row's touches.
cdef inline int depends_of(int field) noexcept nogil:
    cdef int depends = ON_TOUCHES
    if F_CHG_1M <= field <= F_VOL_30M or F_DOLLAR_VOLUME_1M <= field <= F_VOL_5M_RATIO:
        depends |= ON_WINDOWS
    if (
        field == F_RVOL or field == F_RVOL_SLOT or field == F_TRADES_Z_SCORE or field == F_SCORE
        or field == F_AGE_SECONDS or field == F_VOL_1M_RATIO or field == F_VOL_5M_RATIO
        or field == F_MINUTES_SINCE_OPEN or F_SPY_CHANGE_PERCENT <= field <= F_SPY_CHG_30M
    ):
        depends |= ON_SECONDS
    return depends


# Something has changed for all rows: log.all_changed = next_place(log), and so on.
cdef inline uint64_t next_place(ChangeLog* log) noexcept nogil:
    log.ids[log.end % log.room] = NO_ROW
    log.end += 1
    return log.end


# Whether a reader that has looked at `begin` has to look at every row.
cdef inline bint is_all_changed(const ChangeLog* log, uint64_t begin, int depends) noexcept nogil:
    return (
        begin < log.all_changed
        or log.end - begin > log.room
        or (depends & ON_WINDOWS and begin < log.windows_moved)
        or (depends & ON_SECONDS and begin < log.second_began)
        or (depends & ON_SYMBOLS and begin < log.symbols_moved)
    )
