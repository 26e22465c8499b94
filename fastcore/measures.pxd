# Measures of a symbol beside its row, for analytics.

from libc.stdint cimport int32_t

from fastcore.market_state cimport MarketState

cpdef int32_t slot_of_now(MarketState state) except -1
