# One ranked list: which rows are in it, in which order, and what was published of them.

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from fastcore.changed_rows cimport ChangedRows
from fastcore.filters cimport Filter, Order
from fastcore.list_messages cimport Moment
from fastcore.market_state cimport MarketState
from fastcore.row_view cimport RowView
from fastcore.ordered_rows cimport OrderedRows
from fastcore.top_rows cimport Candidate
from fastcore.wire cimport Field, Writer


cdef class Members


# Buffers that the lists of a market share while they are refreshed, one after the other.
cdef class Workspace:
    cdef int32_t room               # symbol ids there is room for
    cdef uint8_t* match             # [symbol id]
    cdef uint8_t* stays             # [symbol id]
    cdef int32_t* ids               # rows that match
    cdef double* keys               # [key][place in ids]
    cdef Candidate* candidates      # members first, then others
    cdef int32_t* places            # [rank] -> place in ids, -1 when that row does not match
    cdef int32_t* selected          # places in ids of the best rows, in order
    cdef int32_t* old_rank          # [symbol id] of the members in hand, 0 for others
    cdef Writer changes
    cdef Writer changed_fields      # of the updates among them
    cdef int added                  # of the changes, those by which a row entered
    cdef int removed
    cdef list rows                  # [symbol id] -> encoded row or None
    cdef uint64_t* encoded_at       # [symbol id] -> the generation in which it was
    cdef uint64_t generation
    cdef ChangedRows changed
    cdef int64_t ranked_rows        # rows that lists have looked at so far; nothing that decides what comes

    cdef void _free(self) noexcept
    cdef int begin(self, MarketState state) except -1
    cdef bytes row(self, MarketState state, int32_t symbol_id)
    cdef int mark(self, const int32_t* ids, int32_t count) except -1
    cdef void unmark(self, const int32_t* ids, int32_t count) noexcept nogil
    cdef void select(self, MarketState state, Order order, OrderedRows ordered) noexcept nogil
    cdef bint change(self, MarketState state, Order order, ChangedRows changed, OrderedRows ordered) noexcept nogil
    cdef void _put(self, int32_t at, int32_t i, int32_t symbol_id, MarketState state) noexcept nogil


# Filters that lists have in common, evaluated once for all of them.
cdef class Base:
    cdef Filter filter
    cdef bint uses_scanner_filters
    cdef uint8_t* match             # [symbol id]
    cdef int32_t room
    cdef uint64_t evaluated_at      # Workspace.generation
    cdef uint8_t* changed_match     # [row of Workspace.changed]
    cdef int32_t changed_room
    cdef uint64_t changed_at        # ChangedRows.serial
    cdef int depends                # change_log.Depends, with the scanner filters'

    cdef const uint8_t* evaluate(self, MarketState state, Workspace work, list scanner_filters) except NULL
    cdef const uint8_t* evaluate_changed(self, MarketState state, Workspace work, list scanner_filters) except NULL
    cdef void _set_depends(self, list scanner_filters) noexcept


cdef class Members:
    cdef int32_t count
    cdef int32_t* ids
    cdef uint32_t* revisions        # of the row when it was taken
    cdef double* keys               # the first order value when the row was taken; NaN when not known
    cdef list rows                  # encoded, without rank


cdef class ListUpdate:
    cdef readonly str list
    cdef readonly unsigned int previous_sequence
    cdef readonly unsigned int sequence
    cdef readonly bytes message
    cdef readonly bytes changed
    cdef readonly int added
    cdef readonly int removed


cdef class RankedList:
    cdef readonly str name
    cdef readonly unsigned int sequence
    cdef readonly int limit
    cdef readonly Filter filter
    cdef readonly Filter stay       # None when it has none
    cdef readonly Order order
    cdef bytes label                # its name in messages
    cdef Members members            # as published
    cdef Moment moment              # when they were last compared with the state
    cdef int64_t window_mark_ns     # of the state at that time; kept of custom scans only
    cdef OrderedRows ordered          # its rows as of `place`; None before they have been selected
    cdef uint64_t place             # in the state's log of changes
    cdef uint64_t filters_version   # of the scanner filters at that place

    cdef int select(self, MarketState state, Workspace work, Base base, list scanner_filters, OrderedRows ordered
                    ) except -1
    cdef bint select_changed(self, MarketState state, Workspace work, Base base, list scanner_filters) except -1
    cdef int rank(self, MarketState state, Workspace work, Base base, list scanner_filters, uint64_t filters_version
                  ) except -1
    cdef ListUpdate refresh(self, MarketState state, Workspace work, Base base, list scanner_filters,
                            uint64_t filters_version, bint take_all, const Moment* moment, bint encode_delta)
    cdef bint _is_as_published(self, Workspace work) noexcept
    cdef bytes snapshot(self, int32_t limit)
    cdef bytes fresh(self, MarketState state, Workspace work, Base base, list scanner_filters, const Moment* moment,
                     int32_t limit)
    cdef bytes difference(self, RankedList old, Workspace work)
    cdef int write(self, Writer* writer, MarketState state) except -1
    cdef int read(self, const Field* field, MarketState state) except -1
    cdef int _take_rows(self, Members old, Members new, MarketState state, Workspace work, bint take_all) except -1
    cdef int _take_disordered(self, Members new, MarketState state, Workspace work) except -1
    cdef bytes _touched(self, MarketState state)
    cdef uint64_t hash(self, uint64_t seed, MarketState state)
