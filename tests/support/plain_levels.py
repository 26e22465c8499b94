"""Levels of one symbol the plain way, by ReferenceField name; absent ones are left out."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Prices(NamedTuple):
    open: float
    high: float
    low: float
    close: float


def plain_levels(
    bars: Sequence[Prices], year: Sequence[Prices] | None = None, is_cut: bool = False
) -> dict[str, float]:
    """`bars`: the newest ones that are known, oldest first; `is_cut`: there may be others before them.

    `year`: the bars since the same date a year ago, None when not all are known.
    """
    levels: dict[str, float] = {}
    if not bars:
        return levels
    levels |= {"PREV_OPEN": bars[-1].open, "PREV_HIGH": bars[-1].high, "PREV_LOW": bars[-1].low}
    for days in (5, 20):
        if not is_cut or len(bars) >= days:
            levels[f"HIGH_{days}D"] = max(bar.high for bar in bars[-days:])
            levels[f"LOW_{days}D"] = min(bar.low for bar in bars[-days:])
        if len(bars) >= days:
            levels[f"CLOSE_{days}D"] = bars[-days].close
    for days in (20, 50, 200):
        if len(bars) >= days:
            levels[f"SMA_{days}D"] = statistics.fmean(bar.close for bar in bars[-days:])
    if year:
        levels["HIGH_52W"] = max(bar.high for bar in year)
        levels["LOW_52W"] = min(bar.low for bar in year)
    if len(bars) > 1:
        decline = 100 * (bars[-1].low - bars[-2].close) / bars[-2].close
        levels["PREV_SSR"] = float(round(decline, 6) <= -10)
    return levels
