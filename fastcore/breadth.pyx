# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Market breadth: how many stocks rise and fall, with how much volume; docs/semantics.md, "Breadth"."""

from libc.math cimport isnan
from libc.stdint cimport int32_t
from libc.string cimport memset

from fastcore.derived_kernels cimport shown6
from fastcore.field_numbers cimport *
from fastcore.market_state cimport MarketState
from fastcore.row_values cimport at, row_of, value_of

from typing import NamedTuple

from fastcore import fields

cdef enum:
    MAX_GROUPS = 16


class Breadth(NamedTuple):
    """The stocks of a sector, or of all; see breadth.pyi."""

    sector: str
    stocks: int
    advancers: int
    decliners: int
    unchanged: int
    new_highs: int
    new_lows: int
    up_volume: float
    down_volume: float
    volume: float


cdef struct Group:
    int32_t stocks
    int32_t advancers
    int32_t decliners
    int32_t new_highs
    int32_t new_lows
    double up_volume
    double down_volume
    double volume


cdef void _count(Group* group, MarketState state, int32_t i) noexcept:
    cdef const double* values = row_of(state.columns, i)
    cdef double change = values[at(F_CHANGE)]
    cdef double volume = state.columns[F_VOLUME_TODAY].values[i]
    group.stocks += 1
    group.volume += volume
    if change > 0:
        group.advancers += 1
        group.up_volume += volume
    elif change < 0:
        group.decliners += 1
        group.down_volume += volume
    if values[at(F_INTRADAY_HIGH)] > values[at(F_INTRADAY_LOW)]:
        group.new_highs += values[at(F_PRICE_FROM_INTRADAY_HIGH)] >= -0.1
        group.new_lows += values[at(F_PRICE_FROM_INTRADAY_LOW)] <= 0.1


def breadth(MarketState state not None):
    """Returns the breadth of all stocks (sector "") and of each sector, as of now: list[Breadth]."""
    cdef Group[MAX_GROUPS] groups
    cdef int32_t[MAX_GROUPS] codes
    cdef int32_t i, code
    cdef int k, count = len(fields.SECTORS)
    cdef int32_t common = state.pool.code_of("CS"), receipt = state.pool.code_of("ADRC")
    cdef Group* group
    memset(groups, 0, sizeof(groups))
    for k in range(count):
        codes[k] = state.pool.code_of(fields.SECTORS[k])
    state.refresh()
    for i in range(state.count):
        code = state.text_columns[F_SECURITY_TYPE][i]
        if code and code != common and code != receipt:
            continue
        if isnan(value_of(state.columns, F_CHANGE, i)) or not value_of(state.columns, F_VOLUME_TODAY, i) > 0:
            continue
        _count(&groups[count], state, i)
        code = state.text_columns[F_SECTOR][i]
        for k in range(count):
            if code and code == codes[k]:
                _count(&groups[k], state, i)
                break
    counted = []
    for k in (count, *range(count)):
        group = &groups[k]
        counted.append(Breadth(
            "" if k == count else fields.SECTORS[k], group.stocks, group.advancers, group.decliners,
            group.stocks - group.advancers - group.decliners, group.new_highs, group.new_lows,
            shown6(group.up_volume), shown6(group.down_volume), shown6(group.volume),
        ))
    return counted
