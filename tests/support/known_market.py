"""A market of which everything is known: what the vendor tells of it, and what that comes to.

Trades, minute bars, the full-market snapshot and the REST bars agree with each other, so that a mesh which missed
something can have it again from the vendor, and `truth` is what every copy has to show in the end. All is drawn from a
seed and from the market's own time: how fast it is asked for changes nothing.
"""

import bisect
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from tests.support.scripted_day import DAY, FLUSH, NEW_YORK, ScriptedDay, Symbol, inside, ms_at

SNAPSHOT: Final = "/v2/snapshot/locale/us/markets/stocks/tickers"
SECOND_MS: Final = 1000
MINUTE_MS: Final = 60_000
# The vendor's minute bars come so long after their minute.
BAR_DELAY_MS: Final = 2_000
TEN_SECONDS_MS: Final = 10_000
# An odd lot: it counts as volume, and may set neither price nor high nor low.
ODD_LOT: Final = 37
# Enough to pass the scanner filters at once.
FIRST_SHARES: Final = 200_000
# A step of the random walk is below the tolerance for suspect prints by far, also over a gap of minutes.
STEP: Final = 0.0008
LONGEST_STRAY: Final = 0.06

Body = dict[str, Any]


class Changes:
    """A value as it was at any time; 0 before the first."""

    def __init__(self) -> None:
        self._times: list[int] = []
        self._values: list[float] = []

    def add(self, time_ms: int, value: float) -> None:
        self._times.append(time_ms)
        self._values.append(value)

    def at(self, time_ms: int) -> float:
        """The value after everything up to and with a time."""
        index = bisect.bisect_right(self._times, time_ms)
        return self._values[index - 1] if index else 0.0


@dataclass
class Minute:
    """A minute's bar so far; prices are those of trades that may set a high or low."""

    start_ms: int
    open: float = 0.0
    high: float = 0.0
    low: float = 0.0
    close: float = 0.0
    volume: float = 0.0
    dollars: float = 0.0
    trades: int = 0


@dataclass
class Truth:
    """What one symbol's trades come to."""

    open: float = 0.0
    price: float = 0.0
    high: float = 0.0
    low: float = 0.0
    volume: float = 0.0
    trades: int = 0
    dollars: float = 0.0
    last: Body = field(default_factory=dict)
    minutes: dict[int, Minute] = field(default_factory=dict)
    # When these changed, in ms, and the values from then on.
    volumes: Changes = field(default_factory=Changes)
    highs: Changes = field(default_factory=Changes)
    lows: Changes = field(default_factory=Changes)

    def add(self, trade: Body) -> None:
        price, size, time = float(trade["p"]), float(trade["s"]), int(trade["t"])
        self.volume += size
        self.volumes.add(time, self.volume)
        self.trades += 1
        self.dollars += price * size
        self.last = trade
        minute = self.minutes.setdefault(time // MINUTE_MS, Minute(time - time % MINUTE_MS))
        minute.volume += size
        minute.dollars += price * size
        minute.trades += 1
        if ODD_LOT in trade.get("c", ()):
            return
        self.price = price
        self.open = self.open or price
        if price > self.high:
            self.high = price
            self.highs.add(time, price)
        if price < self.low or not self.low:
            self.low = price
            self.lows.add(time, price)
        minute.open = minute.open or price
        minute.high = max(minute.high, price)
        minute.low = min(minute.low or price, price)
        minute.close = price


class KnownMarket:
    """One seed's market from `start`, with `per_second` trades in each of its seconds.

    `advance` makes what happens until a time; `rest` answers for the vendor; `sent` counts trades.
    """

    def __init__(self, seed: int, symbols: int = 24, per_second: int = 30, start: str = "10:00:00") -> None:
        self.day = ScriptedDay(seed, symbols)
        self.start_ms = ms_at(start)
        self.now_ms = self.start_ms
        # The vendor's own clock.
        self.server_ms: Callable[[], float] = lambda: self.now_ms
        self.truth: dict[str, Truth] = {symbol.name: Truth() for symbol in self.day.symbols}
        self.truth[FLUSH] = Truth()
        self.sent = 0
        self._rng = random.Random(f"known market {seed}")
        self._mean_ms = SECOND_MS / per_second
        self._next_ms = self.start_ms + 101
        self._next_bars_ms = self.start_ms + MINUTE_MS + BAR_DELAY_MS
        self._waiting = list(self.day.symbols)
        self._level: dict[str, float] = {symbol.name: max(5.0, symbol.level) for symbol in self.day.symbols}
        self._base = dict(self._level)
        self._ids = Counter[str]()

    @property
    def next_full_ms(self) -> int:
        """The next full ten seconds that a flush can stand at."""
        return (self.now_ms // TEN_SECONDS_MS + 1) * TEN_SECONDS_MS

    def advance(self, to_ms: int) -> list[Body]:
        """What the vendor sends until a time, in its order."""
        bodies: list[Body] = []
        while min(self._next_ms, self._next_bars_ms) < to_ms:
            if self._next_bars_ms <= self._next_ms:
                bodies += self._bars(self._next_bars_ms - BAR_DELAY_MS - MINUTE_MS)
                self._next_bars_ms += MINUTE_MS
            else:
                bodies.append(self._trade(self._next_ms))
                # Odd milliseconds: no bar ends there.
                self._next_ms += max(2, 2 * round(self._rng.expovariate(1 / self._mean_ms) / 2))
        self.now_ms = max(self.now_ms, to_ms)
        return bodies

    def flush(self) -> list[Body]:
        """What happens until the next full ten seconds, and a trade of a symbol of its own there.

        All rows are published anew at such a time: what lists show behind it depends on nothing but what came before.
        """
        time = self.next_full_ms
        bodies = self.advance(time)
        self._next_ms = max(self._next_ms, time + 1)
        bodies.append(self._record(FLUSH, time, 10.0, 1, []))
        return bodies

    def rest(self, path: str, query: dict[str, str]) -> Any:
        """The vendor's answer to a GET, as VendorServer takes it."""
        if path == SNAPSHOT:
            return {"status": "OK", "tickers": [self._ticker(name) for name in self.truth if self.truth[name].trades]}
        if path == "/v1/marketstatus/now":
            now = datetime.fromtimestamp(self.server_ms() / 1000, NEW_YORK)
            return {"serverTime": now.isoformat(timespec="milliseconds"), "market": "open"}
        if path.startswith("/v2/aggs/ticker/"):
            name, _, _, unit, first, last = path.split("/")[4:]
            if unit == "minute" and (today := self._minutes(name, first, last)):
                return {"status": "OK", "results": today, "resultsCount": len(today)}
        return self.day.rest(path, query)

    def _trade(self, time_ms: int) -> Body:
        rng = self._rng
        if self._waiting:
            symbol: Symbol = self._waiting.pop()
            return self._record(symbol.name, time_ms, round(self._level[symbol.name], 2), FIRST_SHARES, [])
        name = rng.choice(self.day.symbols).name
        base = self._base[name]
        level = self._level[name] * (1 + rng.uniform(-STEP, STEP))
        self._level[name] = level = min(max(level, base * (1 - LONGEST_STRAY)), base * (1 + LONGEST_STRAY))
        if rng.random() < 0.1:
            # Beyond the range, as odd lots may be: taken for a high or low it would be a false one.
            return self._record(name, time_ms, round(level * rng.choice((0.9, 1.1)), 2), rng.randint(1, 99), [ODD_LOT])
        return self._record(name, time_ms, round(level, 2), rng.randint(1, 20) * 100, [])

    def _record(self, name: str, time_ms: int, price: float, size: int, conditions: list[int]) -> Body:
        self._ids[name] += 1
        body: Body = {"ev": "T", "sym": name, "x": 4, "i": str(self._ids[name]), "z": 3, "p": price, "s": size,
                      "t": time_ms, "q": self.sent + 1}  # fmt: skip
        if conditions:
            body["c"] = conditions
        self.truth[name].add(body)
        self.sent += 1
        return body

    def _bars(self, start_ms: int) -> list[Body]:
        """The minute bars of a minute, of all that traded in it."""
        end_ms = start_ms + MINUTE_MS
        bodies = []
        for name, truth in self.truth.items():
            minute = truth.minutes.get(start_ms // MINUTE_MS)
            if minute is None or not minute.open or name == FLUSH:
                continue
            later = [each for key, each in truth.minutes.items() if key * MINUTE_MS >= end_ms]
            volume = truth.volume - sum(each.volume for each in later)
            dollars = truth.dollars - sum(each.dollars for each in later)
            bodies.append(
                {
                    "ev": "AM",
                    "sym": name,
                    "v": int(minute.volume),
                    "av": int(volume),
                    "op": truth.open,
                    "vw": round(minute.dollars / minute.volume, 4),
                    "a": round(dollars / volume, 4),
                    "o": minute.open,
                    "c": minute.close,
                    "h": minute.high,
                    "l": minute.low,
                    "z": int(minute.volume / minute.trades),
                    "s": start_ms,
                    "e": end_ms,
                }
            )
        return bodies

    def _minutes(self, name: str, first: str, last: str) -> list[Body]:
        truth = self.truth.get(name)
        if truth is None:
            return []
        return [
            {
                "t": minute.start_ms,
                "o": minute.open,
                "h": minute.high,
                "l": minute.low,
                "c": minute.close,
                "v": minute.volume,
                "vw": round(minute.dollars / minute.volume, 4),
                "n": minute.trades,
            }
            for minute in truth.minutes.values()
            if minute.open and inside(minute.start_ms, DAY, first, last)
        ]

    def _ticker(self, name: str) -> Body:
        truth = self.truth[name]
        last = truth.last
        minute = truth.minutes[last["t"] // MINUTE_MS]
        return {
            "ticker": name,
            "updated": last["t"] * 1_000_000,
            "day": {"o": truth.open, "h": truth.high, "l": truth.low, "c": truth.price, "v": truth.volume,
                    "vw": round(truth.dollars / truth.volume, 4)},
            "min": {"av": truth.volume, "t": minute.start_ms, "o": minute.open, "h": minute.high, "l": minute.low,
                    "c": minute.close, "v": minute.volume, "n": minute.trades},
            "lastTrade": {"t": last["t"] * 1_000_000, "p": last["p"], "s": last["s"], "x": 4, "i": last["i"],
                          "c": last.get("c", [])},
        }  # fmt: skip
