# The market: its state and its lists, moved on by the frames of the stream.

from fastcore.alert_book cimport AlertBook
from fastcore.list_book cimport ListBook
from fastcore.list_messages cimport Moment
from fastcore.market_state cimport MarketState
from fastcore.ranked_list cimport ListUpdate, RankedList
from fastcore.wire cimport Writer


# What has to follow before the market goes on or is written.
cdef enum Due:
    NOTHING = 0
    REFRESH = 1         # after a watermark: its lists and alerts
    ALERTS = 2          # after refresh_lists()


cdef class Market:
    cdef readonly MarketState state
    cdef readonly unsigned int epoch
    cdef readonly unsigned int sequence     # of the last frame applied, 0 before the first
    cdef ListBook book
    cdef AlertBook alert_book
    cdef readonly list alert_events         # of the last refresh, in order
    cdef size_t[2] written                  # bytes of the last snapshot without baselines, and with them
    cdef Due due
    cdef bint is_now                        # derived columns and workspace are those of the last frame

    cpdef bint take(self, const unsigned char[::1] frame) except -1
    cpdef list refresh(self)
    cpdef list refresh_lists(self)
    cpdef int refresh_alerts(self) except -1
    cdef int _check_refreshed(self) except -1
    cpdef ListUpdate refresh_scan(self, RankedList scan)
    cdef Moment moment(self)
    cdef int bring_to_now(self) except -1
    cdef int _take_position(self, const unsigned char* data, size_t length) except -1
    cpdef size_t expected_size(self, bint with_baselines=*)
    cdef int _write(self, Writer* writer, bint with_baselines) except -1
    cdef int _check_scan(self, RankedList scan) except -1
