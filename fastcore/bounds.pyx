# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Bounds of an event's values; see bounds.pxd."""

REASONS = (
    "accepted", "unknown_symbol", "time_out_of_session", "time_ahead", "price", "size", "bar_shape", "duplicate"
)


def fault_of(str kind not None, tuple values not None):
    """The reason for which a decoded event would be set aside whatever its symbol and time; empty for none."""
    cdef int verdict
    cdef BarValues bar
    if kind == "trades":
        verdict = judge_trade(values[1], values[2], values[3])
    elif kind == "quotes":
        verdict = judge_quote(values[1], values[2], values[3], values[4])
    elif kind == "limits":
        verdict = judge_limits(values[1], values[2])
    elif kind in ("second_bars", "minute_bars"):
        bar.start_ns, bar.end_ns, bar.open, bar.high, bar.low, bar.close, bar.volume = values[:7]
        bar.accumulated_volume, bar.day_vwap, bar.official_open, bar.vwap, bar.average_size = values[7:]
        verdict = judge_bar(&bar)
    else:
        raise ValueError(f"expected a kind of event, was {kind!r}")
    return REASONS[verdict] if verdict else ""
