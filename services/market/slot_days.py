"""Some days' slots of many symbols, as slot_days keeps them, to baselines. Pure.

services/market/volume_slots.py does the same for one symbol at a time.
"""

import datetime
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.market.splits import SplitTable
from services.market.volume_slots import LEAST_DAYS, SLOTS, SymbolBaseline

# In place of an unknown number of trades.
UNKNOWN_TRADES: Final = 0xFFFFFFFF

Floats = NDArray[np.float64]
# Of slot_days: symbol, day, and the slots with a bar, their shares and trades.
SlotRow = tuple[str, datetime.date, bytes, bytes, bytes]


def baselines_of(
    rows: Sequence[SlotRow], symbols: Sequence[str], days: Sequence[datetime.date], splits: SplitTable
) -> Iterator[tuple[str, SymbolBaseline]]:
    """The baselines of those of `symbols` that have 3 of `days` at least; `rows` are all there are of these days."""
    if not rows:
        return
    index = {symbol: number for number, symbol in enumerate(symbols)}
    numbers = {day: number for number, day in enumerate(days)}
    names, dates, slots, volume, trades = zip(*rows, strict=True)
    positions = np.array([index[name] * len(days) + numbers[date] for name, date in zip(names, dates, strict=True)])
    factors = np.array([splits.factor(name, date) for name, date in zip(names, dates, strict=True)])
    found = baselines(positions, factors, slots, volume, trades, len(symbols), len(days))
    for symbol, baseline in zip(symbols, found, strict=True):
        if baseline is not None:
            yield symbol, baseline


def baselines(
    positions: NDArray[np.int64],
    factors: Floats,
    slots: Sequence[bytes],
    volume: Sequence[bytes],
    trades: Sequence[bytes],
    symbols: int,
    days: int,
) -> list[SymbolBaseline | None]:
    """The baselines of some symbols from rows of slot_days; None with fewer than 3 days.

    Args:
        positions: of each row, symbol * days + day.
        factors: of each row, what its shares are multiplied by for later splits.
        slots, volume, trades: the rows' columns.
    """
    lengths = np.fromiter(map(len, slots), np.int64, len(slots))
    index = np.repeat(positions, lengths) * SLOTS + np.frombuffer(b"".join(slots), np.uint8)
    counts = np.frombuffer(b"".join(trades), "<u4")
    shape = (symbols, days, SLOTS)
    shares = np.zeros(symbols * days * SLOTS)
    shares[index] = np.frombuffer(b"".join(volume), "<f8") * np.repeat(factors, lengths)
    known = np.zeros(symbols * days * SLOTS)
    known[index] = np.where(counts == UNKNOWN_TRADES, np.nan, counts)
    has_day = np.zeros((symbols, days), dtype=np.bool_)
    has_day.ravel()[positions] = True
    cumulative, cumulative_trades = shares.reshape(shape).cumsum(axis=2), known.reshape(shape).cumsum(axis=2)
    found: list[SymbolBaseline | None] = []
    for symbol in range(symbols):
        held = has_day[symbol]
        if (count := int(held.sum())) < LEAST_DAYS:
            found.append(None)
            continue
        each = cumulative_trades[symbol, held]
        found.append(
            SymbolBaseline(count, cumulative[symbol, held].mean(axis=0), each.mean(axis=0), each.std(axis=0, ddof=1))
        )
    return found
