# The lists of a market: definitions, filters that apply now, published rows.

from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastcore.filters cimport Filter, Order
from fastcore.list_messages cimport Moment
from fastcore.market_state cimport MarketState
from fastcore.ranked_list cimport Base, ListUpdate, RankedList, Workspace
from fastcore.wire cimport Field, Writer


cdef class ListBook:
    cdef readonly dict ignored_filters      # name of a scanner filter -> what is wrong with it
    cdef Moment refreshed                   # when the lists were refreshed last
    cdef int64_t window_mark_ns             # of the state at that time
    cdef bint encode_deltas
    cdef Workspace work
    cdef list specs
    cdef dict lists                         # name -> RankedList, the built-in ones
    cdef dict list_bases                    # name -> Base
    cdef dict scans                         # name -> RankedList
    cdef dict bases                         # (base filter, uses scanner filters) -> Base
    cdef Base no_base
    cdef Base built_in_base
    cdef bytes filters_message              # the last ListFilters, encoded
    cdef list scanner_filters               # (Filter, sessions as a bit mask, 0 for all)
    cdef uint64_t filters_version           # grows whenever others apply
    cdef int filters_session                # of the last refresh
    cdef object scan_numbers

    cdef Base base_of(self, str base_filter, bint uses_scanner_filters)
    cdef list filters_now(self, MarketState state)
    cdef int set_filters(self, const unsigned char* message, size_t length) except -1
    cdef list refresh(self, MarketState state, const Moment* moment)
    cdef RankedList get(self, str name)
    cdef ListUpdate refresh_scan(self, MarketState state, const Moment* moment, RankedList ranked)
    cdef RankedList scan_of_rules(self, str name, str filter, str order_by, int limit)
    cdef int rank_scan(self, MarketState state, RankedList ranked) except -1
    cdef RankedList add_scan(self, MarketState state, const Moment* moment, Filter filter, Order order, int limit)
    cdef bytes query(self, MarketState state, const Moment* moment, Filter filter, Order order, int limit,
                     bint as_built_in)
    cdef bytes fresh(self, MarketState state, const Moment* moment, str name, int limit)
    cdef int write(self, Writer* writer, MarketState state) except -1
    cdef int read(self, const Field* field, MarketState state, uint32_t epoch) except -1
    cdef uint64_t hash(self, uint64_t seed, MarketState state)
