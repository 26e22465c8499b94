"""How old trades are, by their own time stamps, when the lists show them."""

import statistics
from collections import deque
from typing import Final

from tradeul.v1 import market_data_pb2

from services.kit.rpc.wire import fields

NS: Final = 1_000_000_000
_TIMES: Final = market_data_pb2.TradeBatch.DESCRIPTOR.fields_by_name["time_ns"].number


def last_trade_ns(batch: memoryview) -> int | None:
    """The time of the last trade of an encoded TradeBatch; None without trades."""
    for number, _, start, end in fields(batch):
        if number == _TIMES:
            return int.from_bytes(batch[end - 8 : end], "little", signed=True) if end - start >= 8 else None
    return None


class LagMeter:
    """The lag of one trade of each batch, kept for the last second with trades."""

    def __init__(self) -> None:
        self._waiting: list[int] = []
        # (when refreshed, lag), both in nanoseconds
        self._samples: deque[tuple[int, int]] = deque()

    def saw(self, trade_ns: int) -> None:
        """A trade of that time was applied; the next refresh shows it."""
        self._waiting.append(trade_ns)

    def refreshed(self, now_ns: int) -> list[float]:
        """The lists were refreshed at `now_ns` by the wall clock; returns the new lags in seconds."""
        lags = [now_ns - trade_ns for trade_ns in self._waiting]
        self._waiting.clear()
        self._samples.extend((now_ns, lag) for lag in lags)
        while self._samples and self._samples[-1][0] - self._samples[0][0] > NS:
            self._samples.popleft()
        return [lag / NS for lag in lags]

    def median_ms(self) -> float | None:
        """The median lag in milliseconds; None before the first trade."""
        if not self._samples:
            return None
        return statistics.median(lag for _, lag in self._samples) / 1e6
