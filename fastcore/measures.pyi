from array import array
from typing import NamedTuple

from fastcore.market_state import MarketState

class Measures(NamedTuple):
    """A symbol's relative volume and its range of the day, as of the state's now. None is absent.

    Volumes in shares, prices in USD, times in ns since 1970 UTC. `baseline` is the mean volume at
    this time of day over `days` days. An extreme's time is that of the trade that reached it first,
    or the end of the bar that did.
    """

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

def slot_of_now(state: MarketState) -> int:
    """The volume slot of now: 0 to 191."""

def measures(state: MarketState, symbol_id: int) -> Measures:
    """Returns the measures of a symbol as of now; brings the state to now. IndexError when there is no such id."""

def shown(value: float) -> float:
    """A sum or average as it is shown: to 6 decimals; see docs/semantics.md, "Rounding"."""

def volume_curve(state: MarketState, symbol_id: int) -> list[float]:
    """The mean cumulative volumes since 04:00 at the ends of the 192 slots, as they are shown.

    Empty without a baseline of enough days. IndexError when there is no such id.
    """

def volumes_today(state: MarketState) -> array[float]:
    """Brings the state to now, and returns an array("d") of volume_today by id, in shares; NaN is absent."""

def touched_since(state: MarketState, seen: array[int]) -> list[int]:
    """The ids of symbols that messages or reference data have touched since `seen` was brought up to date.

    `seen`, an array("I") that begins empty, is brought up to date by it. ValueError for another array.
    """
