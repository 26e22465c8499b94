"""Seeded random streams of frames: a whole trading day in minutes of event time, with all that may go wrong in it.

The events have one order; how many of a kind travel in one frame is the
caller's choice, and must make no difference.
"""

import math
import random
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

from tradeul.v1 import frame_pb2, stream_pb2

from tests.support.market_frames import Control, Event, body_of
from tests.support.market_reference import baselines, list_filters, reference_columns

NEW_YORK: Final = ZoneInfo("America/New_York")
SECOND: Final = 1_000_000_000
MINUTE: Final = 60 * SECOND
EPOCH: Final = 1_790_000_000
NAN: Final = math.nan

# Most events fall into these stretches of the day (minutes after 04:00, until, weight).
STRETCHES: Final = (
    (0, 20, 2),
    (60, 61, 1),
    (310, 330, 3),
    (330, 380, 5),
    (500, 540, 2),
    (700, 720, 3),
    (720, 760, 4),
    (958, 960, 1),
)
EARLY_STRETCHES: Final = ((0, 10, 1), (320, 370, 3), (535, 560, 3), (778, 780, 1))


def at(date: str, clock: str) -> int:
    """Nanoseconds since 1970 UTC of a New York time of day, HH:MM:SS."""
    return int(datetime.fromisoformat(f"{date}T{clock}").replace(tzinfo=NEW_YORK).timestamp()) * SECOND


class TradingDay(NamedTuple):
    date: str
    early: bool = False

    def message(self) -> frame_pb2.TradingDay:
        return frame_pb2.TradingDay(
            trading_date=self.date,
            pre_market_start_ns=at(self.date, "04:00:00"),
            market_open_ns=at(self.date, "09:30:00"),
            market_close_ns=at(self.date, "13:00:00" if self.early else "16:00:00"),
            post_market_end_ns=at(self.date, "17:00:00" if self.early else "20:00:00"),
            is_early_close=self.early,
        )


DAYS: Final = (TradingDay("2026-11-25"), TradingDay("2026-11-27", early=True))
RULES: Final = frame_pb2.TradeRules(
    known=(1 << 63) - 1,
    forbids_last=sum(1 << i for i in (2, 5, 7, 10, 12, 13, 15, 16, 20, 21, 22, 29, 32, 33, 37, 52, 53)),
    forbids_high_low=sum(1 << i for i in (2, 7, 12, 13, 15, 16, 20, 21, 29, 37, 52, 53)),
    forbids_volume=sum(1 << i for i in (15, 16, 38)),
)


class MarketStream:
    """`events` of kinds trade, bar, quote, limit, halt, snapshot and control, in order of arrival.

    `length` events a day over `symbols` symbols; two days when `two_days`. `pace`: how much closer
    most of them follow each other, so that some seconds have many watermarks, and others none.
    """

    def __init__(
        self,
        seed: int,
        length: int = 3000,
        symbols: int = 60,
        two_days: bool = True,
        snapshots: bool = True,
        references: bool = True,
        pace: int = 1,
    ) -> None:
        self.random = random.Random(seed)
        self.symbols = sorted({self._name() for _ in range(symbols)}, key=lambda _: self.random.random())
        # The market-wide fields are of this one.
        self.symbols[0] = "SPY"
        self.snapshots, self.references, self.pace = snapshots, references, pace
        count = len(self.symbols)
        # Some are so cheap that other tolerances hold.
        self.level = [
            round(self.random.uniform(0.05, 4), 2) if self.random.random() < 0.2 else self._usual_level()
            for _ in range(count)
        ]
        self.volume = [0.0] * count
        # What tells of a symbol: trades, A bars, AM bars.
        sources = ("t", "s", "m", "sm", "ts", "tm", "tsm", "t", "t", "sm")
        self.sources = [self.random.choice(sources) for _ in range(count)]
        self.known = 0
        self.past: list[Event] = []
        self.events: list[Event] = []
        for day in DAYS if two_days else DAYS[:1]:
            self._day(day, length)

    def frames(self, batch_size: int) -> Iterator[bytes]:
        """The encoded frames with at most `batch_size` rows each; a watermark or the like always ends a batch."""
        sequence = 0
        for batch in self._batches(batch_size):
            sequence += 1
            position = stream_pb2.StreamPosition(epoch=EPOCH, sequence=sequence)
            yield frame_pb2.Frame(position=position, **body_of(batch)).SerializeToString()

    def _batches(self, batch_size: int) -> Iterator[list[Event]]:
        batch: list[Event] = []
        for event in self.events:
            if batch and (batch[0].kind != event.kind or len(batch) >= batch_size or event.kind == "control"):
                yield batch
                batch = []
            batch.append(event)
        if batch:
            yield batch

    # ---- the day ----

    def _day(self, day: TradingDay, length: int) -> None:
        self.day = day.message()
        self.past = []
        self.volume = [0.0] * len(self.symbols)
        if self.known:
            # Some symbols split overnight; now and then nobody knows which.
            self.day.split_symbol_id.extend(i for i in range(self.known) if self.random.random() < 0.2)
            self.day.splits_unknown = self.random.random() < 0.2
        self._control(trading_day=self.day)
        if not self.known:
            self._control(trade_rules=RULES)
            self._grow(len(self.symbols) * 2 // 3)
        self._filters()
        self._all_references()
        stretches = EARLY_STRETCHES if day.early else STRETCHES
        total = sum(weight for _, _, weight in stretches)
        for first, last, weight in stretches:
            self.clock = self.day.pre_market_start_ns + first * MINUTE
            count = length * weight // total
            step = (last - first) * MINUTE // max(count, 1)
            self._stretch(count, step)
        self.clock = self.day.post_market_end_ns - 1
        self._watermark()

    def _stretch(self, count: int, step: int) -> None:
        rng = self.random
        left = count
        while left > 0:
            run = min(left, rng.choice((1, 2, 3, 8, 20)))
            kinds = ("trade", "bar1", "bar2", "quote", "limit", "snapshot", "halt")
            kind = rng.choices(kinds, (60, 14, 8, 6, 5, 3, 2))[0]
            for _ in range(run):
                self._pass(int(step * rng.expovariate(1)))
                self._event(kind)
            if rng.random() < 0.15:
                self._stray()
            left -= run
            chance = rng.random()
            if chance < 0.35:
                self._watermark()
            elif chance < 0.38:
                self._some_references()
            elif chance < 0.40:
                self._baselines([rng.randrange(self.known)])
            elif chance < 0.41 and self.known < len(self.symbols):
                self._grow(min(len(self.symbols), self.known + rng.randint(1, 9)))
            elif chance < 0.415:
                self._filters()
        self._watermark()

    def _pass(self, duration: int) -> None:
        if self.pace > 1 and self.random.random() < 0.95:
            duration //= self.pace
        self.clock = min(self.clock + duration, self.day.post_market_end_ns - 1)

    def _event(self, kind: str) -> None:
        rng = self.random
        if self.past and rng.random() < 0.03:
            # The same again: a duplicate that nobody could recognise, a bar sent once more.
            same = [event for event in self.past[-200:] if event.kind == kind]
            if same:
                self.events.append(rng.choice(same))
                return
        symbol = self._symbol()
        make = {
            "trade": self._trade,
            "quote": self._quote,
            "limit": self._limit,
            "snapshot": self._snapshot,
            "halt": self._halt,
        }
        event = make[kind](symbol) if kind in make else self._bar(symbol, kind)
        if event is not None:
            self.events.append(event)
            self.past.append(event)

    # ---- prints that are far off ----

    def _stray(self) -> None:
        """A print far off, mostly of a symbol that trades, and now and then what confirms it, or nearly does."""
        rng = self.random
        symbol = self._symbol()
        if rng.random() < 0.6:
            self._lead(symbol)
        prints = [self._stray_print(symbol) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
        if rng.random() < 0.02:
            prints += [self._stray_print(symbol) for _ in range(20)]
        self.events += prints
        self.past += prints
        for _ in range(rng.choice((0, 1, 1, 2))):
            row = rng.choice(prints).row
            self._pass(rng.choice((0, rng.randrange(SECOND), rng.randrange(90 * SECOND), 60 * SECOND)))
            if rng.random() < 0.5:
                self._near_print(symbol, row[1], row[2])
            else:
                self._reaching_bar(symbol, row[1], row[2])

    def _lead(self, symbol: int) -> None:
        """Trades enough to say what is expected, trading resumed, and sometimes bands."""
        rng = self.random
        width = rng.choice((0.0, 0.0, 0.05, 0.1, 0.2))
        bands = [round(self.level[symbol] * factor, 4) if width else NAN for factor in (1 + width, 1 - width)]
        self.events.append(Event("limit", (symbol, self.clock, *bands, 1 << 18)))
        for _ in range(rng.randint(2, 5)):
            self._pass(rng.randrange(2 * SECOND))
            price = self._price(symbol)
            self.events.append(Event("trade", (symbol, self.clock, price, 100.0, rng.choice((0, 1 << 12, 1 << 14)))))

    def _stray_print(self, symbol: int) -> Event:
        rng = self.random
        factor = rng.choice(
            (0.08, 0.24, 0.26, 0.49, 0.51, 0.7, 0.79, 0.81, 0.86, 1.14, 1.19, 1.21, 1.49, 1.51, 1.9, 2.1)
        )
        price = max(0.0001, round(self.level[symbol] * factor * rng.choice((1.0, 1.0, rng.uniform(0.9, 1.1))), 4))
        conditions = rng.choice((0, 1 << 3, 1 << 5, 1 << 12, 1 << 14, 1 << 38, 1 << 37))
        return Event("trade", (symbol, self._time(), price, float(rng.randint(1, 500)), conditions))

    def _near_print(self, symbol: int, time: int, price: float) -> None:
        rng = self.random
        when = rng.choice((self.clock, self.clock, time, time + 60 * SECOND, time - 1, time + 60 * SECOND + 1))
        when = min(max(when, self.day.pre_market_start_ns), self.day.post_market_end_ns - 1)
        near = max(0.0001, round(price * rng.choice((1.0, 1.01, 0.99, 1.04, 0.96, 1.08, 0.9)), 4))
        self.events.append(Event("trade", (symbol, when, near, 200.0, rng.choice((0, 0, 1 << 5, 1 << 12, 1 << 37)))))

    def _reaching_bar(self, symbol: int, time: int, price: float) -> None:
        rng = self.random
        kind, span = rng.choice((("bar1", SECOND), ("bar2", MINUTE)))
        start = max(time // span * span + rng.choice((0, 0, 0, span, -span)), self.day.pre_market_start_ns)
        edge = price * rng.choice((1.0, 1.0, 1.0, 1.01, 0.99))
        high, low = max(self.level[symbol], edge), min(self.level[symbol], edge)
        row = (symbol, start, start + span, low, high, low, high, 500.0, NAN, NAN, NAN, NAN, NAN)
        self.events.append(Event(kind, row))

    # ---- events ----

    def _trade(self, symbol: int) -> Event | None:
        if "t" not in self.sources[symbol] and self.random.random() > 0.01:
            return None
        rng = self.random
        conditions = 0
        for _ in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
            conditions |= 1 << rng.choice((12, 12, 13, 37, 37, 14, 41, rng.randrange(64)))
        official = conditions >> 15 & 3
        size = rng.choice((1.0, 100.0, float(rng.randint(1, 5000)), rng.random() * 10))
        if rng.random() < 0.002:
            size = 9e11
        if official and rng.random() < 0.5:
            size = 0.0
        self.volume[symbol] += size
        return Event("trade", (symbol, self._time(), self._price(symbol), size, conditions))

    def _bar(self, symbol: int, kind: str) -> Event | None:
        if ("s" if kind == "bar1" else "m") not in self.sources[symbol]:
            return None
        rng = self.random
        span = SECOND if kind == "bar1" else MINUTE
        start = max(self._time() // span * span - span, self.day.pre_market_start_ns)
        prices = [self._price(symbol) for _ in range(4)]
        high, low = max(prices), min(prices)
        shares = float(rng.randint(1, 3000))
        self.volume[symbol] += shares
        accumulated = max(1.0, self.volume[symbol] + rng.choice((0, 0, 0, -500, 300)))
        op = NAN
        if start + span > self.day.market_open_ns - 10 * MINUTE and rng.random() < 0.6:
            op = rng.choice((self.level[symbol], self.level[symbol], prices[0]))
        row = (
            symbol, start, start + span, prices[0], high, low, prices[1], shares,
            NAN if rng.random() < 0.1 else accumulated,
            NAN if rng.random() < 0.1 else round((high + low) / 2, 4),
            op, round((high + low) / 2, 4), NAN,
        )  # fmt: skip
        return Event(kind, row)

    def _quote(self, symbol: int) -> Event:
        bid = self._price(symbol)
        ask = bid + self.random.choice((0.0, 0.01, 0.05, -0.01))
        values = [NAN if self.random.random() < 0.05 else value for value in (bid, ask)]
        sizes = (bid * 100 // 1 % 900, NAN if bid * 100 // 1 % 7 == 0 else ask * 100 // 1 % 800)
        return Event("quote", (symbol, self._time(), *values, *sizes))

    def _limit(self, symbol: int) -> Event:
        price = self._price(symbol)
        bands = [NAN if self.random.random() < 0.2 else round(price * factor, 2) for factor in (1.05, 0.95)]
        indicators = self.random.choice((0, 1 << 17, 1 << 18, 1 << 2))
        return Event("limit", (symbol, self._time(), *bands, indicators))

    def _halt(self, symbol: int) -> Event:
        """Of the last minutes, of yesterday, or ahead; mostly of a second that the limits tell, too."""
        rng = self.random
        halted = self._time()
        limits = [event.row[1] for event in self.past[-300:] if event.kind == "limit" and event.row[0] == symbol]
        listed = [event.row[1] for event in self.past[-300:] if event.kind == "halt" and event.row[0] == symbol]
        if listed and rng.random() < 0.5:
            halted = rng.choice(listed)
        elif limits and rng.random() < 0.7:
            halted = rng.choice(limits) + rng.randrange(-2 * SECOND, 2 * SECOND)
        elif rng.random() < 0.1:
            halted -= rng.choice((24 * 60 * MINUTE, -3 * SECOND))
        resumes = halted + rng.choice((1, SECOND, MINUTE, 5 * MINUTE, 300 * MINUTE)) if rng.random() < 0.6 else 0
        return Event("halt", (symbol, halted, resumes, rng.choice(("LUDP", "T1", "T12", "", "H10"))))

    def _snapshot(self, symbol: int) -> Event | None:
        if not self.snapshots:
            return None
        rng = self.random
        prices = sorted(self._price(symbol) for _ in range(4))
        opened = self.clock >= self.day.market_open_ns and rng.random() < 0.9
        traded = self._time() if rng.random() < 0.8 else 0
        last = prices[1]
        trades = [event.row for event in self.past[-100:] if event.kind == "trade" and event.row[0] == symbol]
        if traded and trades and self.clock % 2:
            # Mostly the vendor's last trade is one that came. Nothing more is drawn for it.
            traded, last = trades[-1][1:3]
        minute = self._time() // MINUTE * MINUTE if rng.random() < 0.8 else 0
        day = (prices[1], prices[3], prices[0], prices[2], prices[1]) if opened else (NAN,) * 5
        bar = (prices[2], prices[3], prices[1]) if minute else (NAN,) * 3
        return Event(
            "snapshot",
            (symbol, self._time(), traded, last if traded else NAN, *day,
             self.volume[symbol] if minute else NAN, bar[0], *rng.choice(((NAN, NAN), (prices[0], prices[3]))),
             minute, bar[1], bar[2]),
        )  # fmt: skip

    def _symbol(self) -> int:
        return min(int(self.random.expovariate(1) * self.known / 5), self.known - 1)

    def _usual_level(self) -> float:
        return round(math.exp(self.random.gauss(3, 1.5)) + 0.3, 2)

    def _time(self) -> int:
        """Mostly now, sometimes late, sometimes on the very edge of a second, slot or session."""
        rng = self.random
        chance = rng.random()
        time: int = self.clock
        if chance < 0.1:
            time -= rng.randrange(2 * SECOND)
        elif chance < 0.15:
            time -= rng.randrange(20 * MINUTE)
        elif chance < 0.16:
            time -= rng.randrange(600 * MINUTE)
        elif chance < 0.3:
            time = time // SECOND * SECOND
        elif chance < 0.33:
            time = time // (10 * SECOND) * 10 * SECOND
        elif chance < 0.35:
            time = time // (5 * MINUTE) * 5 * MINUTE
        elif chance < 0.37:
            edges: tuple[int, int] = (self.day.market_open_ns, self.day.market_close_ns)
            time = min(edges, key=lambda edge: abs(edge - time)) + rng.choice((0, -1, 1))
            time = min(time, self.clock)
        first: int = self.day.pre_market_start_ns
        return max(time, first)

    def _price(self, symbol: int) -> float:
        rng = self.random
        chance = rng.random()
        if chance < 0.0005:
            return rng.choice((1e-4, 9_999_999.0))
        if chance < 0.05:
            return round(self.level[symbol] * rng.uniform(0.9, 1.1), 4)
        if chance < 0.1:
            self.level[symbol] = max(0.01, round(self.level[symbol] * math.exp(rng.gauss(0, 0.02)), 2))
        return max(0.01, round(self.level[symbol] + rng.choice((0, 0, 0, 0.01, -0.01, 0.02)), 2))

    # ---- frames of their own ----

    def _control(self, **body: Any) -> None:
        self.events.append(Control(body))

    def _watermark(self) -> None:
        late = self.random.choice((0, 0, 10_000_000, SECOND))
        self._control(watermark=frame_pb2.Watermark(event_time_ns=self.clock - late))

    def _grow(self, count: int) -> None:
        table = frame_pb2.SymbolTable(first_id=self.known, symbols=self.symbols[self.known : count])
        self._control(symbols=table)
        first, self.known = self.known, count
        if self.random.random() < 0.7:
            self._references(list(range(first, count)))
            self._baselines(list(range(first, count)))

    def _all_references(self) -> None:
        ids = [i for i in range(self.known) if self.random.random() < 0.9]
        self._references(ids)
        self._baselines([i for i in ids if self.random.random() < 0.9])

    def _some_references(self) -> None:
        self._references(self.random.sample(range(self.known), min(5, self.known)))

    def _references(self, ids: list[int]) -> None:
        if self.references and ids:
            self._control(reference=reference_columns(self.random, ids, self.symbols, self.level))

    def _baselines(self, ids: list[int]) -> None:
        if ids:
            self._control(baselines=baselines(self.random, ids))

    def _filters(self) -> None:
        self._control(list_filters=list_filters(self.random))

    def _name(self) -> str:
        letters = "".join(self.random.choice("ABCDEFGHIJ") for _ in range(self.random.randint(1, 4)))
        return letters + self.random.choice(("", "", "", "pA", ".B"))
