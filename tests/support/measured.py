"""All that analytics tells of a market."""

from typing import NamedTuple

from fastcore.market_state import MarketState
from fastcore.measures import Measures, measures, slot_of_now, volume_curve


class Measured(NamedTuple):
    """A market's time, and what is told of each symbol at it."""

    trading_date: str
    session: int
    now_ns: int
    slot: int
    by_symbol: dict[str, tuple[Measures, list[float]]]


def measured(state: MarketState) -> Measured:
    """Equal for copies that have applied the same frames, with windows or without."""
    return Measured(
        state.trading_date,
        state.session,
        state.now_ns,
        slot_of_now(state),
        {symbol: (measures(state, i), volume_curve(state, i)) for i, symbol in enumerate(state.symbols)},
    )
