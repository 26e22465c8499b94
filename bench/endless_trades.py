"""Trades without end, at so little cost that a sender can go on for hours: some seconds of them, encoded once.

Each round sends the same trades with later times and new numbers, which are written over those of the round before:
both have as many digits as before. So the highs and lows of a round are those of all.
"""

import re
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.workload import SECOND, Workload, trades_json
from tests.support.vendor_server import text_frame

TICKS_PER_SECOND: Final = 200
FIRST_ID: Final = 1_000_000_000
ID_DIGITS: Final = len(str(FIRST_ID))
TIME_DIGITS: Final = 13
MINUTE_MS: Final = 60_000
LATEST_MS: Final = 2**62
BARS_PER_FRAME: Final = 100
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
    price: NDArray[np.float64]
    size: NDArray[np.float64]
    # Those that count for high, low, open and close.
    is_plain: NDArray[np.bool_]


def write_digits(target: NDArray[np.uint8], places: NDArray[np.int64], numbers: NDArray[np.int64], digits: int) -> None:
    """Writes each number in decimal from its place on."""
    powers = _POWERS[-digits:]
    target[places[:, None] + np.arange(digits)] = numbers[:, None] // powers % 10 + ord("0")


class Minute:
    """What the trades of one minute come to, by symbol."""

    def __init__(self, symbols: int) -> None:
        self.volume, self.dollars, self.trades = np.zeros((3, symbols))
        self.open, self.close = np.zeros((2, symbols))
        self.high, self.low = np.full(symbols, -np.inf), np.full(symbols, np.inf)
        self.first_ms, self.last_ms = np.full(symbols, LATEST_MS), np.full(symbols, -1)

    @property
    def has_price(self) -> NDArray[np.bool_]:
        return self.last_ms >= 0

    @property
    def volume_with_prices(self) -> NDArray[np.float64]:
        return np.where(self.has_price, self.volume, 0.0)

    def add(self, tick: Tick, time_ms: NDArray[np.int64], chosen: NDArray[np.bool_]) -> None:
        """The chosen ones of a tick's trades."""
        ids, price, size = tick.symbol_id[chosen], tick.price[chosen], tick.size[chosen]
        np.add.at(self.volume, ids, size)
        np.add.at(self.dollars, ids, price * size)
        np.add.at(self.trades, ids, 1)
        is_plain = tick.is_plain[chosen]
        ids, price, times = ids[is_plain], price[is_plain], time_ms[chosen][is_plain]
        np.maximum.at(self.high, ids, price)
        np.minimum.at(self.low, ids, price)
        # In order of time the last of a symbol's stays, and in the opposite order the first.
        order = np.argsort(times, kind="stable")
        ids, price, times = ids[order], price[order], times[order]
        is_newer = times >= self.last_ms[ids]
        self.close[ids[is_newer]] = price[is_newer]
        self.last_ms[ids[is_newer]] = times[is_newer]
        ids, price, times = ids[::-1], price[::-1], times[::-1]
        is_older = times < self.first_ms[ids]
        self.open[ids[is_older]] = price[is_older]
        self.first_ms[ids[is_older]] = times[is_older]


class MinuteBars:
    """The vendor's minute bars of what is sent; `volume`: the shares of each symbol so far."""

    def __init__(self, symbols: list[str]) -> None:
        self.volume = np.zeros(len(symbols))
        # Shares of the minutes that are over, where these have a price.
        self._over = np.zeros(len(symbols))
        self._symbols = symbols
        self._dollars = np.zeros(len(symbols))
        self._minutes: dict[int, Minute] = {}
        # The arguments of bar_json(), of the bars of a minute that is over.
        self._waiting: list[tuple[Any, ...]] = []

    def add(self, tick: Tick, time_ms: NDArray[np.int64]) -> None:
        """A tick's trades, with their times."""
        numbers = time_ms // MINUTE_MS
        for number in np.unique(numbers).tolist():
            minute = self._minutes.get(number)
            if minute is None:
                minute = self._minutes[number] = Minute(len(self._symbols))
            minute.add(tick, time_ms, numbers == number)
        np.add.at(self.volume, tick.symbol_id, tick.size)

    @property
    def volume_with_prices(self) -> NDArray[np.float64]:
        """The shares of the minutes that have a price: of others there is no bar."""
        return sum((each.volume_with_prices for each in self._minutes.values()), self._over)

    def take(self, now_ms: int) -> bytes:
        """The next frame of bars, of the oldest minute when it is over; b"" without any. Symbols without a price in it
        have none."""
        if not self._waiting:
            self._end_minute(now_ms)
        bars, self._waiting = self._waiting[:BARS_PER_FRAME], self._waiting[BARS_PER_FRAME:]
        return text_frame(f"[{','.join(bar_json(*bar) for bar in bars)}]".encode()) if bars else b""

    def _end_minute(self, now_ms: int) -> None:
        if not self._minutes or now_ms < ((number := min(self._minutes)) + 1) * MINUTE_MS:
            return
        minute = self._minutes.pop(number)
        self._dollars += minute.dollars
        self._over += minute.volume_with_prices
        day_volume = self.volume - sum((each.volume for each in self._minutes.values()), np.zeros(len(self._symbols)))
        has_bar = np.flatnonzero(minute.has_price)
        columns = (
            minute.open, minute.high, minute.low, minute.close, minute.volume, minute.dollars, minute.trades,
            day_volume, self._dollars,
        )  # fmt: skip
        numbers = np.stack([column[has_bar] for column in columns], axis=1).tolist()
        names = [self._symbols[at] for at in has_bar.tolist()]
        self._waiting = [(name, number * MINUTE_MS, *row) for name, row in zip(names, numbers, strict=True)]


def bar_json(
    symbol: str, start_ms: int, opened: float, high: float, low: float, close: float, volume: float, dollars: float,
    trades: float, day_volume: float, day_dollars: float,
) -> str:  # fmt: skip
    """A minute bar as the vendor sends it."""
    return (
        f'{{"ev":"AM","sym":"{symbol}","v":{volume:.0f},"av":{day_volume:.0f},"op":{opened:.2f},'
        f'"vw":{dollars / volume:.4f},"o":{opened:.2f},"c":{close:.2f},"h":{high:.2f},"l":{low:.2f},'
        f'"a":{day_dollars / day_volume:.4f},"z":{volume / trades:.0f},"s":{start_ms},"e":{start_ms + MINUTE_MS}}}'
    )


class EndlessTrades:
    """The workload's trades, `per_second` of them in ticks of a 200th second; `counts` by symbol of what was made."""

    def __init__(self, workload: Workload, per_second: int, round_seconds: int = 20) -> None:
        if per_second % TICKS_PER_SECOND:
            raise ValueError(f"expected a multiple of {TICKS_PER_SECOND} trades a second, was {per_second}")
        self.trades = 0
        self.counts = np.zeros(len(workload.symbols), np.int64)
        self._bars = MinuteBars(workload.symbols)
        self._round_ms = round_seconds * 1000
        self._round = self._at = 0
        self._ticks: list[Tick] = []
        per_tick = per_second // TICKS_PER_SECOND
        for batch in workload.trades(round_seconds * TICKS_PER_SECOND, per_tick, per_second):
            # Each frame's numbers are written anew whenever it is sent.
            frame = text_frame(f"[{','.join(trades_json(batch, workload.symbols, FIRST_ID))}]".encode())
            found = list(_NUMBERS.finditer(frame))
            if len(found) != per_tick:
                raise AssertionError(f"expected the numbers of {per_tick} trades, was {len(found)}")
            ids, times, sequences = np.array([[match.start(group) for group in (1, 2, 3)] for match in found]).T
            first_ms = batch.time_ns // (SECOND // 1000)
            self._ticks.append(
                Tick(
                    np.frombuffer(bytearray(frame), np.uint8), ids, times, sequences, first_ms, batch.symbol_id,
                    batch.price, batch.size, batch.conditions == 0,
                )
            )  # fmt: skip

    def bars(self) -> bytes:
        """The next bars of a minute that is over by two seconds, as a frame; b"" if there are none."""
        return self._bars.take(self.now_ns // (SECOND // 1000) - 2000)

    @property
    def volumes(self) -> NDArray[np.float64]:
        """The shares of each symbol that were sent."""
        return self._bars.volume

    @property
    def volumes_in_bars(self) -> NDArray[np.float64]:
        """Those of them that are in minute bars, once all minutes are over."""
        return self._bars.volume_with_prices

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
        time_ms = tick.first_ms + self._round * self._round_ms
        write_digits(tick.frame, tick.times, time_ms, TIME_DIGITS)
        self._bars.add(tick, time_ms)
        np.add.at(self.counts, tick.symbol_id, 1)
        self.trades += count
        self._at += 1
        if self._at == len(self._ticks):
            self._at, self._round = 0, self._round + 1
        return tick.frame.tobytes()
