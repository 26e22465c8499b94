from typing import NamedTuple

from fastcore.market_state import MarketState

class Breadth(NamedTuple):
    """The stocks of a sector, "" for all, that have traded today and have a change; volumes in shares since 04:00."""

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

def breadth(state: MarketState) -> list[Breadth]:
    """Returns the breadth of all stocks first, then of each sector; brings the state to now."""
