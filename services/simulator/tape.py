"""The market's messages in the order in which they are sent, second by second.

A pure function of seed, symbols and time: it does not depend on the wall clock or on who listens.
"""

from operator import itemgetter
from typing import Final, NamedTuple

import numpy as np

from services.kit.runtime.clock import NS_PER_MS
from services.simulator import messages
from services.simulator.calendar import MINUTE_NS, OPEN_MINUTE
from services.simulator.conditions import EXTENDED_OUT_OF_SEQUENCE, OUT_OF_SEQUENCE
from services.simulator.hashing import F8, I8, key, mix_one
from services.simulator.market_day import MarketDay, Minute
from services.simulator.messages import Kind
from services.simulator.plan import Plans
from services.simulator.ticks import Ticks, make_ticks, venues
from services.simulator.tuning import (
    BAD_TICK_ONE_IN_SECONDS,
    BAR_DELAY_MS,
    DUPLICATE_ONE_IN,
    LATE_ONE_IN,
    RESENT_BAR_ONE_IN,
)

HALTED: Final = 17
RESUMED: Final = 18
# Of EXCHANGES.
NASDAQ_LISTED: Final = 0
# LULD bands of a symbol are sent about so often, in minutes.
BANDS_EVERY: Final = 16
# Sorting by it keeps what was made first first.
SEND_MS: Final = itemgetter(0)


class Event(NamedTuple):
    """`text` is sent at `send_ms` (ms since 1970 UTC)."""

    send_ms: int
    kind: Kind
    symbol: int
    text: str


class LastTrades:
    """The newest trade that may set a price, one element a symbol; time 0 = none today."""

    def __init__(self, count: int) -> None:
        self.price = np.zeros(count)
        self.time_ms = np.zeros(count, dtype=np.int64)
        self.size = np.zeros(count, dtype=np.int64)
        self.trade_id = np.zeros(count, dtype=np.int64)
        self.venue = np.zeros(count, dtype=np.int64)


class Tape:
    """One trading day's messages from a minute on.

    With `with_quotes` there are quotes too. `second(s)` gives the messages due in second s of the
    day (since 04:00), in order; seconds are played one after the other from `next_second`.
    """

    def __init__(self, plans: Plans, day: MarketDay, first_minute: int = 0) -> None:
        self.day = day
        self.with_quotes = False
        self.next_second = first_minute * 60
        self.last = LastTrades(plans.universe.count)
        self._plans = plans
        self._universe = plans.universe
        self._tapes: list[int] = plans.universe.tape.tolist()
        # By the second in which they are sent.
        self._due: dict[int, list[Event]] = {}
        self._minute: Minute | None = None
        self._minute_dollars = np.zeros(plans.universe.count)
        day.replay(first_minute)
        sums = day.sums
        traded = sums.last_minute >= 0
        self.last.price = sums.last.close.copy()
        self.last.time_ms = np.where(traded, (sums.last_minute + 1) * 60_000 - 1 + day.day.start_ns // NS_PER_MS, 0)
        self.last.size = np.where(traded, sums.last.volume // np.maximum(sums.last.trades, 1), 0)
        newest = np.flatnonzero(traded)
        self.last.venue[newest], self.last.trade_id[newest] = venues(day, newest, sums.trades[newest] - 1)

    @property
    def end_second(self) -> int:
        return self.day.day.end_minute * 60

    @property
    def is_over(self) -> bool:
        """True after the last message."""
        return self.next_second >= self.end_second and not self._due

    @property
    def minute(self) -> Minute | None:
        """The minute under way."""
        return self._minute

    def second(self) -> list[Event]:
        """The messages of the next second."""
        number = self.next_second
        self.next_second += 1
        begin_ms = self.day.day.start_ns // NS_PER_MS + number * 1000
        if number < self.end_second:
            if number % 60 == 0:
                self._begin_minute(number // 60, begin_ms)
            self._trade(number, begin_ms)
            self._stumble(number, begin_ms)
        if number % 60 == 59 and self._minute is not None:
            self._end_minute(self._minute, begin_ms + 1000)
        if number == self.day.day.close_minute * 60:
            self._official_closes(begin_ms)
        events = self._due.pop(begin_ms // 1000, [])
        events.sort(key=SEND_MS)
        return events

    def _send(self, send_ms: int, kind: Kind, symbol: int, text: str) -> None:
        event = Event(send_ms, kind, symbol, text)
        second = send_ms // 1000
        if (due := self._due.get(second)) is None:
            due = self._due[second] = []
        due.append(event)

    def _begin_minute(self, number: int, begin_ms: int) -> None:
        minute = self._minute = self.day.begin_minute()
        self._minute_dollars[:] = 0.0
        if OPEN_MINUTE <= number < self.day.day.close_minute:
            bits = (minute.bits[minute.symbols] >> np.uint64(8)) & np.uint64(0xFFFFFF)
            chosen = np.flatnonzero(bits % np.uint64(BANDS_EVERY) == 0)
            for place in chosen.tolist():
                symbol = int(minute.symbols[place])
                at = begin_ms + int(bits[place] >> np.uint64(8)) % 60_000
                self._limits(symbol, float(minute.bars.open[place]), None, at)
            self._halts(number, begin_ms)

    def _halts(self, number: int, begin_ms: int) -> None:
        """LULD messages are those of Nasdaq's symbols in regular hours; the trade-halt feed (halt_feed.py) has all."""
        for symbol, halts in self.day.halts.items():
            if self._universe.exchange[symbol] != NASDAQ_LISTED:
                continue
            for first, last in halts:
                if first <= number <= last:
                    # Repeated every minute, for clients that connect later.
                    self._limits(symbol, self._price(number, symbol), HALTED if number < last else RESUMED, begin_ms)

    def _price(self, minute: int, symbol: int) -> float:
        price = float(np.exp(self.day.log_price(minute)[symbol]))
        return round(price, 2 if price >= 1.0 else 4)

    def _limits(self, symbol: int, price: float, indicator: int | None, at_ms: int) -> None:
        ticker, tape = self._universe.tickers[symbol], self._tapes[symbol]
        text = messages.limits(ticker, tape, price, indicator, at_ms * NS_PER_MS)
        self._send(at_ms, Kind.LULD, symbol, text)

    def _trade(self, number: int, begin_ms: int) -> None:
        minute = self._minute
        assert minute is not None
        ticks = make_ticks(self.day, minute, number % 60, self._plans.shapes.sizes)
        if not len(ticks.symbol):
            return
        self._bend(ticks, minute)
        sequence = number * 100_000 + np.arange(len(ticks.symbol))
        tickers, tapes = self._universe.tickers, self._tapes
        texts = messages.trades(tickers, tapes, ticks, begin_ms, sequence)
        self._deliver(ticks, texts, begin_ms)
        if self.with_quotes:
            quoted = messages.quotes(tickers, tapes, ticks, begin_ms, sequence)
            for symbol, at, text in zip(ticks.symbol.tolist(), ticks.time_ms.tolist(), quoted, strict=True):
                self._send(begin_ms + at, Kind.Q, symbol, text)
        self._official_opens(minute, ticks, begin_ms)
        self._second_bars(minute, ticks, number, begin_ms)
        able = ticks.is_eligible
        at = ticks.symbol[able]
        last = self.last
        last.price[at], last.time_ms[at] = ticks.price[able], ticks.time_ms[able] + begin_ms
        last.size[at], last.trade_id[at], last.venue[at] = ticks.size[able], ticks.trade_id[able], ticks.venue[able]

    def _bend(self, ticks: Ticks, minute: Minute) -> None:
        """Marks late prints by their conditions."""
        late = self._is_late(ticks)
        is_regular = OPEN_MINUTE <= minute.number < self.day.day.close_minute
        ticks.condition[late] = OUT_OF_SEQUENCE if is_regular else EXTENDED_OUT_OF_SEQUENCE

    def _is_late(self, ticks: Ticks) -> "np.ndarray[tuple[int], np.dtype[np.bool_]]":
        chance = (ticks.bits >> np.uint64(8)) % np.uint64(LATE_ONE_IN)
        late: np.ndarray[tuple[int], np.dtype[np.bool_]] = (chance == 1) & ticks.is_eligible & ~ticks.is_fixed
        return late

    def _deliver(self, ticks: Ticks, texts: list[str], begin_ms: int) -> None:
        bits = ticks.bits
        twice = (bits >> np.uint64(9)) % np.uint64(DUPLICATE_ONE_IN) == 2
        wait = ((bits >> np.uint64(33)) & np.uint64(0x3FFF)).astype(np.int64)
        send = ticks.time_ms + begin_ms + np.where(self._is_late(ticks), 2_000 + wait, 0)
        for at, symbol, text in zip(send.tolist(), ticks.symbol.tolist(), texts, strict=True):
            self._send(at, Kind.T, symbol, text)
        for place in np.flatnonzero(twice).tolist():
            self._send(int(send[place] + 500 + wait[place] // 8), Kind.T, int(ticks.symbol[place]), texts[place])

    def _official_opens(self, minute: Minute, ticks: Ticks, begin_ms: int) -> None:
        if not OPEN_MINUTE <= minute.number < self.day.day.close_minute:
            return
        universe = self._universe
        first = np.flatnonzero(ticks.is_first & (self.day.sums.open[ticks.symbol] == 0.0))
        for place in first.tolist():
            symbol, at = int(ticks.symbol[place]), begin_ms + int(ticks.time_ms[place])
            text = messages.official_print(
                universe.tickers[symbol], int(universe.exchange[symbol]), self._tapes[symbol],
                float(ticks.price[place]), int(ticks.size[place]), at, False,
            )  # fmt: skip
            self._send(at, Kind.T, symbol, text)

    def _official_closes(self, begin_ms: int) -> None:
        universe, sums = self._universe, self.day.sums
        for symbol in np.flatnonzero(sums.close > 0.0).tolist():
            at = begin_ms + mix_one(key(17, symbol, self.day.day.number)) % 1_000
            text = messages.official_print(
                universe.tickers[symbol], int(universe.exchange[symbol]), self._tapes[symbol],
                float(sums.close[symbol]), 0, at, True,
            )  # fmt: skip
            self._send(at, Kind.T, symbol, text)

    def _open_of(self, minute: Minute, symbols: I8) -> F8:
        """The official open so far; 0 before it."""
        known = self.day.sums.open[symbols]
        if not OPEN_MINUTE <= minute.number < self.day.day.close_minute:
            return known
        return np.where(known == 0.0, minute.bars.open[minute.place[symbols]], known)

    def _second_bars(self, minute: Minute, ticks: Ticks, number: int, begin_ms: int) -> None:
        np.add.at(self._minute_dollars, ticks.symbol, ticks.price * ticks.size)
        able = ticks.is_eligible
        symbol, price = ticks.symbol[able], ticks.price[able]
        if not len(symbol):
            return
        first = np.flatnonzero(np.concatenate([[True], symbol[1:] != symbol[:-1]]))
        last = np.concatenate([first[1:], [len(symbol)]]) - 1
        at = symbol[first]
        # A bar's volume is that of all trades, odd lots too.
        begins = np.searchsorted(ticks.symbol, at, side="left")
        ends = np.searchsorted(ticks.symbol, at, side="right")
        shares = np.concatenate([[0], np.cumsum(ticks.size)])
        dollars = np.concatenate([[0.0], np.cumsum(ticks.price * ticks.size)])
        volume, paid = shares[ends] - shares[begins], dollars[ends] - dollars[begins]
        high, low = np.maximum.reduceat(price, first), np.minimum.reduceat(price, first)
        sizes = self._plans.shapes.sizes
        day_volume = sizes.volume_before(self.day.size_row[at], ticks.number[ends - 1] + 1)
        day_dollars = self.day.sums.dollars[at] + self._minute_dollars[at]
        texts = messages.bars(
            "A", self._universe.tickers, at, price[first], high, low, price[last], volume,
            np.clip(paid / volume, low, high), day_volume, day_dollars / day_volume, self._open_of(minute, at),
            ends - begins, begin_ms, begin_ms + 1000,
        )  # fmt: skip
        send = begin_ms + 1000 + BAR_DELAY_MS
        for place, (symbol_at, text) in enumerate(zip(at.tolist(), texts, strict=True)):
            self._send(send + place * 200 // len(texts), Kind.A, symbol_at, text)

    def _end_minute(self, minute: Minute, end_ms: int) -> None:
        self.day.end_minute(minute)
        self._minute = None
        at, bars = minute.symbols, minute.bars
        volume = self._plans.shapes.sizes.volume_before(self.day.size_row[at], minute.after[at])
        bits = minute.bits[at]
        # Some are first sent without their last trade, and corrected later.
        short = ((bits >> np.uint64(20)) % np.uint64(RESENT_BAR_ONE_IN) == 3) & (bars.trades >= 4)
        missing = np.where(short, bars.volume // bars.trades, 0)
        vwap = self.day.sums.dollars[at] / np.maximum(volume, 1)
        opened = self.day.sums.open[at]
        tickers = self._universe.tickers
        begin_ms = end_ms - MINUTE_NS // NS_PER_MS

        def write(where: I8, less: I8) -> list[str]:
            return messages.bars(
                "AM", tickers, at[where], bars.open[where], bars.high[where], bars.low[where], bars.close[where],
                bars.volume[where] - less, bars.vwap[where], volume[where] - less, vwap[where], opened[where],
                bars.trades[where], begin_ms, end_ms,
            )  # fmt: skip

        send = end_ms + BAR_DELAY_MS + ((bits >> np.uint64(50)) % np.uint64(1_000)).astype(np.int64)
        texts = write(np.arange(len(at)), missing)
        for when, symbol, text in zip(send.tolist(), at.tolist(), texts, strict=True):
            self._send(when, Kind.AM, symbol, text)
        again = np.flatnonzero(short)
        for place, text in zip(again.tolist(), write(again, np.zeros(len(again), dtype=np.int64)), strict=True):
            wait = 10_000 + int(bits[place] >> np.uint64(12)) % 590_000
            self._send(int(send[place]) + wait, Kind.AM, int(at[place]), text)

    def _stumble(self, number: int, begin_ms: int) -> None:
        """Now and then something that no feed should take."""
        bits = key(19, self._plans.seed, self.day.day.number, number)
        if bits % BAD_TICK_ONE_IN_SECONDS == 0:
            template = messages.BAD_TICKS[(bits >> 8) % len(messages.BAD_TICKS)]
            symbol = (bits >> 16) % self._universe.count
            text = template.format(symbol=self._universe.tickers[symbol], time=begin_ms)
            kind = Kind.AM if '"AM"' in text else Kind.T
            self._send(begin_ms + (bits >> 40) % 1000, kind, symbol, text)
