"""Trades without end, at so little cost that a sender can go on for hours: some seconds of them, encoded once.

Each round sends the same trades with later times and new numbers, which are written over those of the round before:
both have as many digits as before. So the highs and lows of a round are those of all.
"""

import re
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.workload import SECOND, Workload, trade_json
from tests.support.vendor_server import text_frame

TICKS_PER_SECOND: Final = 200
FIRST_ID: Final = 1_000_000_000
ID_DIGITS: Final = len(str(FIRST_ID))
TIME_DIGITS: Final = 13
_POWERS: Final = 10 ** np.arange(TIME_DIGITS - 1, -1, -1, dtype=np.int64)
_NUMBERS: Final = re.compile(rb'"i":"(\d+)".*?"t":(\d+),"q":(\d+)')


class Tick(NamedTuple):
    """A frame, where each trade's id, time and sequence number begin in it, and the times of the first round."""

    frame: NDArray[np.uint8]
    ids: NDArray[np.int64]
    times: NDArray[np.int64]
    sequences: NDArray[np.int64]
    first_ms: NDArray[np.int64]
    symbol_id: NDArray[np.uint32]


def write_digits(target: NDArray[np.uint8], places: NDArray[np.int64], numbers: NDArray[np.int64], digits: int) -> None:
    """Writes each number in decimal from its place on."""
    powers = _POWERS[-digits:]
    target[places[:, None] + np.arange(digits)] = numbers[:, None] // powers % 10 + ord("0")


class EndlessTrades:
    """The workload's trades, `per_second` of them in ticks of a 200th second; `counts` by symbol of what was made."""

    def __init__(self, workload: Workload, per_second: int, round_seconds: int = 20) -> None:
        if per_second % TICKS_PER_SECOND:
            raise ValueError(f"expected a multiple of {TICKS_PER_SECOND} trades a second, was {per_second}")
        self.trades = 0
        self.counts = np.zeros(len(workload.symbols), np.int64)
        self._round_ms = round_seconds * 1000
        self._round = self._at = 0
        self._ticks: list[Tick] = []
        names, number = workload.symbols, FIRST_ID
        per_tick = per_second // TICKS_PER_SECOND
        for batch in workload.trades(round_seconds * TICKS_PER_SECOND, per_tick, per_second):
            parts = []
            for symbol_id, time_ns, price, size, conditions in zip(
                batch.symbol_id.tolist(), batch.time_ns.tolist(), batch.price.tolist(), batch.size.tolist(),
                batch.conditions.tolist(), strict=True,
            ):  # fmt: skip
                ids = ",".join(str(i) for i in (12, 37) if conditions >> i & 1)
                parts.append(trade_json(names[symbol_id], number, price, int(size), ids, time_ns))
                number += 1
            frame = text_frame(f"[{','.join(parts)}]".encode())
            found = list(_NUMBERS.finditer(frame))
            if len(found) != per_tick:
                raise AssertionError(f"expected the numbers of {per_tick} trades, was {len(found)}")
            ids, times, sequences = np.array([[match.start(group) for group in (1, 2, 3)] for match in found]).T
            first_ms = batch.time_ns // (SECOND // 1000)
            self._ticks.append(
                Tick(np.frombuffer(bytearray(frame), np.uint8), ids, times, sequences, first_ms, batch.symbol_id)
            )

    @property
    def now_ns(self) -> int:
        """About the market's time, of the next tick's trades."""
        return int(self._ticks[self._at].first_ms.max() + self._round * self._round_ms) * (SECOND // 1000)

    def frame(self) -> bytes:
        """The next tick as a WebSocket frame."""
        tick = self._ticks[self._at]
        count = len(tick.symbol_id)
        numbers = FIRST_ID + self.trades + np.arange(count)
        write_digits(tick.frame, tick.ids, numbers, ID_DIGITS)
        write_digits(tick.frame, tick.sequences, numbers, ID_DIGITS)
        write_digits(tick.frame, tick.times, tick.first_ms + self._round * self._round_ms, TIME_DIGITS)
        np.add.at(self.counts, tick.symbol_id, 1)
        self.trades += count
        self._at += 1
        if self._at == len(self._ticks):
            self._at, self._round = 0, self._round + 1
        return tick.frame.tobytes()
