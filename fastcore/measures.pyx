# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Relative volume and the day's range of single symbols, and which symbols have changed."""

from array import array

from cpython cimport array as arrays
from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t, uint32_t

from fastcore.baselines cimport LEAST_DAYS, SLOTS, slot_value
from fastcore.columns cimport is_time
from fastcore.day_table cimport SymbolDay
from fastcore.derived cimport Moment, baseline_at, moment_at, moment_of
from fastcore.derived_kernels cimport shown6
from fastcore.field_numbers cimport *
from fastcore.market_state cimport MarketState
from fastcore.row_values cimport value_of

from typing import NamedTuple


class Measures(NamedTuple):
    """A symbol's relative volume and its range of the day; see measures.pyi."""

    volume_today: float | None
    rvol: float | None
    rvol_slot: float | None
    baseline: float | None
    days: int | None
    intraday_high: float | None
    high_ns: int | None
    intraday_low: float | None
    low_ns: int | None
    updated_ns: int | None


cdef object known(double value):
    return None if isnan(value) else value


def shown(double value):
    """A sum or average as it is shown: to 6 decimals; see docs/semantics.md, "Rounding"."""
    return shown6(value)


cdef object known_time(int64_t time_ns):
    return time_ns if is_time(time_ns) else None


cpdef int32_t slot_of_now(MarketState state) except -1:
    """The volume slot of now: 0 to 191."""
    if state is None:
        raise TypeError("state: expected a MarketState, was None")
    return moment_of(&state.table).slot


def measures(MarketState state not None, int32_t symbol_id):
    """Returns the measures of a symbol as of now; brings the state to now. IndexError when there is no such id."""
    cdef Moment moment
    cdef const SymbolDay* day
    if not 0 <= symbol_id < state.count:
        raise IndexError(f"expected an id in [0, {state.count}), was {symbol_id}")
    state.refresh()
    # rvol is the quotient of the volume and this baseline.
    moment = moment_at(&state.table, state.moment_ns(symbol_id))
    day = &state.table.rows[symbol_id]
    return Measures(
        known(value_of(state.columns, F_VOLUME_TODAY, symbol_id)),
        known(value_of(state.columns, F_RVOL, symbol_id)),
        known(value_of(state.columns, F_RVOL_SLOT, symbol_id)),
        known(baseline_at(&state.baselines, 0, symbol_id, &moment)),
        state.baselines.days[symbol_id] if state.baselines.blocks[symbol_id] != NULL else None,
        known(day.intraday_high),
        known_time(day.intraday_high_time),
        known(day.intraday_low),
        known_time(day.intraday_low_time),
        known_time(day.updated_at),
    )


def volume_curve(MarketState state not None, int32_t symbol_id):
    """The mean cumulative volumes at the ends of the 192 slots, [] without a baseline. IndexError for no such id."""
    cdef int slot
    if not 0 <= symbol_id < state.count:
        raise IndexError(f"expected an id in [0, {state.count}), was {symbol_id}")
    if state.baselines.blocks[symbol_id] == NULL or state.baselines.days[symbol_id] < LEAST_DAYS:
        return []
    return [shown6(slot_value(&state.baselines, symbol_id, 0, slot)) for slot in range(SLOTS)]


def volumes_today(MarketState state not None):
    """Brings the state to now, and returns an array("d") of volume_today by id, NaN absent."""
    cdef int32_t i
    cdef arrays.array volumes = arrays.clone(array("d"), state.count, False)
    state.refresh()
    for i in range(state.count):
        volumes.data.as_doubles[i] = value_of(state.columns, F_VOLUME_TODAY, i)
    return volumes


def touched_since(MarketState state not None, arrays.array seen not None):
    """The ids of symbols touched since `seen`, an array("I"), was brought up to date; it is by this."""
    cdef int32_t i
    cdef uint32_t* last
    cdef Py_ssize_t known_count = len(seen)
    if seen.typecode != "I" or seen.itemsize != sizeof(uint32_t) or known_count > state.count:
        raise ValueError(f"expected an array of at most {state.count} of type I, was {known_count} of {seen.typecode}")
    if known_count < state.count:
        arrays.resize(seen, state.count)
    last = seen.data.as_uints
    touched = []
    for i in range(state.count):
        if i >= known_count or last[i] != state.revision[i]:
            last[i] = state.revision[i]
            touched.append(i)
    return touched
