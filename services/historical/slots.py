"""A day's minute bars to 5-minute slots of all symbols at once. Pure."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.market.slot_days import UNKNOWN_TRADES
from services.market.volume_slots import SLOTS

MINUTES: Final = 960
SLOT_MINUTES: Final = 5

Floats = NDArray[np.float64]
Counts = NDArray[np.uint32]


class SymbolSlots(NamedTuple):
    """One symbol's day: the slots with a bar, their shares and trades, as slot_days keeps them."""

    symbol: str
    slots: bytes
    volume: bytes
    trades: bytes


class DayGrid:
    """A day's minutes of all symbols. Of a repeated minute the last one counts."""

    def __init__(self, symbols: int) -> None:
        self._shape = (symbols, SLOTS, SLOT_MINUTES)
        self._volume = np.zeros(symbols * MINUTES)
        self._trades = np.zeros(symbols * MINUTES, dtype=np.uint32)
        self._has_bar = np.zeros(symbols * MINUTES, dtype=np.bool_)

    def add(self, symbol: NDArray[np.int64], minute: NDArray[np.int64], volume: Floats, trades: Counts) -> None:
        """Bars in the order of the file; symbols and minutes (since 04:00) are in range."""
        index = symbol * MINUTES + minute
        # Assignment, not addition: of a repeated index numpy keeps the last value.
        self._volume[index], self._trades[index], self._has_bar[index] = volume, trades, True

    def slots(self, symbols: Sequence[str]) -> list[SymbolSlots]:
        """The symbols that have a bar."""
        volume = self._volume.reshape(self._shape).sum(axis=2)
        trades = self._trades.reshape(self._shape)
        unknown = (trades == UNKNOWN_TRADES).any(axis=2)
        counts = trades.sum(axis=2, dtype=np.uint64)
        counts[unknown] = UNKNOWN_TRADES
        has_bar: NDArray[np.bool_] = np.any(self._has_bar.reshape(self._shape), axis=2)
        return pack(symbols, has_bar, volume, counts.astype(np.uint32))


def pack(symbols: Sequence[str], has_bar: NDArray[np.bool_], volume: Floats, trades: Counts) -> list[SymbolSlots]:
    """Rows of slot_days from [symbols, 192] arrays."""
    ends = np.cumsum(has_bar.sum(axis=1)).tolist()
    # Row by row, so that each symbol's are together.
    slot = np.nonzero(has_bar)[1].astype(np.uint8).tobytes()
    shares, counts = volume[has_bar].astype("<f8").tobytes(), trades[has_bar].astype("<u4").tobytes()
    rows, start = [], 0
    for symbol, end in zip(symbols, ends, strict=True):
        if end > start:
            rows.append(SymbolSlots(symbol, slot[start:end], shares[8 * start : 8 * end], counts[4 * start : 4 * end]))
        start = end
    return rows
