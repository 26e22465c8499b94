"""A trading day told beforehand, as a vendor would tell it: history over REST, events over WebSocket.

Everything is drawn from a seed. `Event.good` says whether the mesh must take
the event; those that it must set aside are mixed in. Times of trades never
equal a bar's end, so that what comes out does not depend on whether a bar or a
trade that came together is taken first.
"""

import math
import random
import statistics
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import exchange_calendars

from tests.support.plain_levels import Prices, plain_levels

NEW_YORK = ZoneInfo("America/New_York")
DAY = date(2026, 3, 10)
HISTORY_DAYS = 22
SLOT_MS = 300_000
SECOND_MS = 1000
FLUSH = "ZFLUSH"


def ms_at(clock: str, day: date = DAY) -> int:
    """Milliseconds since 1970 UTC of a New York time of day, HH:MM:SS."""
    return int(datetime.fromisoformat(f"{day}T{clock}").replace(tzinfo=NEW_YORK).timestamp()) * 1000


@dataclass(frozen=True)
class Event:
    """One element of the vendor's arrays."""

    body: dict[str, Any]
    good: bool = True


@dataclass
class DailyBar:
    day: date
    open: float
    high: float
    low: float
    close: float
    volume: float


@dataclass
class Symbol:
    """`kind`: "trades", "both" (second bars too) or "bars" (minute bars only)."""

    name: str
    kind: str
    level: float
    unit: int
    daily: list[DailyBar] = field(default_factory=list)
    # (day, slot) -> (volume, trades)
    slots: dict[tuple[date, int], tuple[float, int]] = field(default_factory=dict)
    traded: float = 0.0
    dollars: float = 0.0
    opened: float = 0.0


class ScriptedDay:
    """One seed's day."""

    def __init__(self, seed: int, symbols: int = 40) -> None:
        self.rng = random.Random(seed)
        with warnings.catch_warnings():
            # exchange_calendars 4.13 uses what pandas 3.1 means to change in pandas 4.
            warnings.simplefilter("ignore", DeprecationWarning)
            sessions = exchange_calendars.get_calendar("XNYS").sessions_window(str(DAY), -HISTORY_DAYS - 1)
        self.history = [session.date() for session in sessions][:-1]
        names = ["BACpL", "BRK.B", *(f"S{chr(65 + i // 26)}{chr(65 + i % 26)}" for i in range(symbols - 2))]
        kinds = ["trades", "trades", "both", "both", "bars"]
        self.symbols = [self._symbol(name, kinds[i % len(kinds)]) for i, name in enumerate(names)]
        self.by_name = {symbol.name: symbol for symbol in self.symbols}
        self._trade_id = 0
        self._sent: list[dict[str, Any]] = []

    def _symbol(self, name: str, kind: str) -> Symbol:
        rng = self.rng
        symbol = Symbol(name, kind, round(rng.uniform(0.8, 60), 2), rng.choice([100, 1000, 5000]))
        level = symbol.level
        for day in self.history:
            if rng.random() < 0.04:
                continue
            close = round(level * rng.uniform(0.96, 1.04), 2)
            high, low = round(max(level, close) * 1.01, 2), round(min(level, close) * 0.99, 2)
            total = 0.0
            for slot in sorted(rng.sample(range(192), 12)):
                volume, trades = float(rng.randint(1, 40) * symbol.unit), rng.randint(1, 20)
                symbol.slots[day, slot] = (volume, trades)
                total += volume
            symbol.daily.append(DailyBar(day, level, high, low, close, total))
            level = close
        symbol.level = round(level * rng.choice([0.9, 0.97, 1.0, 1.02, 1.06, 1.15]), 2)
        return symbol

    # ---- the vendor's REST

    def rest(self, path: str, query: dict[str, str]) -> Any:
        if path == "/v1/marketstatus/now":
            return {"serverTime": f"{DAY}T04:00:00-04:00", "market": "extended-hours"}
        if path == "/v1/marketstatus/upcoming":
            return []
        if path.startswith("/v2/aggs/grouped/"):
            return self._grouped(path.rpartition("/")[2])
        if path.startswith("/v2/aggs/ticker/"):
            return self._aggs(path.split("/")[4:])
        if path == "/v2/snapshot/locale/us/markets/stocks/tickers":
            return {"status": "OK", "tickers": []}
        if path == "/v3/reference/tickers":
            return {"status": "OK", "results": [self._ticker(name) for name in [*self.by_name, FLUSH]]}
        if path.startswith("/v3/reference/tickers/"):
            return {"status": "OK", "results": self._ticker(path.rpartition("/")[2])}
        if path.startswith("/v3/reference/"):
            return {"status": "OK", "results": []}
        return None

    @staticmethod
    def _ticker(name: str) -> dict[str, Any]:
        return {"ticker": name, "name": f"{name} Inc.", "market": "stocks", "type": "CS", "active": True,
                "primary_exchange": "XNAS"}  # fmt: skip

    def _grouped(self, day: str) -> dict[str, Any]:
        results = [
            {"T": symbol.name, "o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close, "v": bar.volume}
            for symbol in self.symbols
            for bar in symbol.daily
            if str(bar.day) == day
        ]
        return {"status": "OK", "results": results}

    def _aggs(self, parts: Sequence[str]) -> dict[str, Any]:
        name, _, _, unit, first, last = parts
        symbol = self.by_name.get(name)
        results: list[dict[str, Any]] = []
        if symbol is not None and unit == "minute":
            # One minute bar at the start of a slot is the slot's 5-minute bar too.
            for (day, slot), (volume, trades) in sorted(symbol.slots.items()):
                start = ms_at("04:00:00", day) + slot * SLOT_MS
                if inside(start, day, first, last):
                    results.append({"t": start, "o": 1.0, "h": 1.0, "l": 1.0, "c": 1.0, "v": volume, "n": trades})
        elif symbol is not None:
            for bar in symbol.daily:
                start = ms_at("00:00:00", bar.day)
                if inside(start, bar.day, first, last):
                    results.append({"t": start, "o": bar.open, "h": bar.high, "l": bar.low, "c": bar.close,
                                    "v": bar.volume})  # fmt: skip
        return {"status": "OK", "results": results, "resultsCount": len(results)}

    # ---- the vendor's WebSocket

    def events(self, start: str, end: str, count: int) -> Iterator[Event]:
        """About `count` events from `start` to `end`, the last one a flush.

        The flush is a trade of a symbol of its own at `end`, a full ten seconds: whatever is
        published behind it stands at one known time.
        """
        rng = self.rng
        first, last = ms_at(start), ms_at(end)
        # Odd milliseconds: no bar ends there.
        times = sorted(rng.randrange(first, last - SECOND_MS) | 1 for _ in range(count))
        for time in times:
            symbol = rng.choice(self.symbols)
            symbol.level = round(max(0.05, symbol.level * rng.uniform(0.995, 1.0055)), 4)
            late = rng.choice([0, 0, 0, 0, 250, 3000, 200_000])
            late = late if time - late > ms_at("04:00:00") else 0
            if symbol.kind == "both" and time - late < ms_at("09:30:00") <= time:
                # Whether it still was the last of the premarket depends on whether bars or trades are taken first.
                late = 0
            if symbol.kind == "bars":
                yield self._bar(symbol, "AM", time, 60 * SECOND_MS)
            elif symbol.kind == "both" and rng.random() < 0.3:
                yield self._bar(symbol, "A", time - late, SECOND_MS)
            else:
                yield self._trade(symbol, time - late)
            if rng.random() < 0.08:
                yield self._bad(symbol, time)
            if rng.random() < 0.03:
                yield self._luld(symbol, time)
        yield Event({"ev": "T", "sym": FLUSH, "x": 4, "i": f"flush{last}", "z": 3, "p": 10.0, "s": 1, "t": last})

    def official_prints(self, condition: int, clock: str) -> Iterator[Event]:
        """The listing exchange's opening (16) or closing (15) print of every other trading symbol."""
        for symbol in self.symbols[::2]:
            if symbol.kind != "bars":
                size = self.rng.choice([0, 100])
                yield Event(self._trade_body(symbol, ms_at(clock) + 7, size, [condition]))

    def _trade_body(self, symbol: Symbol, time: int, size: float, conditions: list[int]) -> dict[str, Any]:
        self._trade_id += 1
        body = {"ev": "T", "sym": symbol.name, "x": self.rng.choice([4, 11]), "i": str(self._trade_id), "z": 3,
                "p": round(symbol.level, 2), "s": int(size), "t": time, "q": self._trade_id}  # fmt: skip
        if conditions:
            body["c"] = conditions
        if size != int(size):
            body["ds"] = str(size)
        return body

    def _trade(self, symbol: Symbol, time: int) -> Event:
        rng = self.rng
        regular = ms_at("09:30:00") <= time < ms_at("16:00:00")
        usual = [] if regular else [12]
        conditions = usual + rng.choice([[], [], [], [], [37], [14, 41], [7], [10], [22], [38], [53], [2]])
        size = rng.randint(1, 20) * symbol.unit + rng.choice([0, 0, 0.5])
        body = self._trade_body(symbol, time, size, conditions)
        self._sent.append(body)
        return Event(body)

    def _bar(self, symbol: Symbol, kind: str, time: int, span: int) -> Event:
        rng = self.rng
        start = time - time % span
        volume = float(rng.randint(1, 20) * symbol.unit)
        symbol.traded += volume
        symbol.dollars += volume * symbol.level
        low, high = round(symbol.level * 0.999, 4), round(symbol.level * 1.001, 4)
        body = {"ev": kind, "sym": symbol.name, "v": int(volume), "av": int(symbol.traded), "vw": symbol.level,
                "a": round(symbol.dollars / symbol.traded, 4), "o": symbol.level, "c": symbol.level, "h": high,
                "l": low, "z": 50, "s": start, "e": start + span}  # fmt: skip
        if time >= ms_at("09:31:00"):
            symbol.opened = symbol.opened or symbol.level
            body["op"] = symbol.opened
        return Event(body)

    def _luld(self, symbol: Symbol, time: int) -> Event:
        body = {"ev": "LULD", "T": symbol.name, "h": round(symbol.level * 1.1, 2), "l": round(symbol.level * 0.9, 2),
                "i": [self.rng.choice([17, 18])], "z": 3, "t": time, "q": 1}  # fmt: skip
        return Event(body)

    def _bad(self, symbol: Symbol, time: int) -> Event:
        """Something to be set aside, or a trade that was sent before."""
        rng = self.rng
        body = self._trade_body(symbol, time, 100, [])
        wrong = rng.randrange(9)
        if wrong == 0 and self._sent:
            return Event(rng.choice(self._sent[-50:]), good=False)
        changes: list[dict[str, Any]] = [
            {"p": 0}, {"p": -1.5}, {"p": 1e9}, {"s": 0}, {"t": time - 90_000_000}, {"p": "12.5"}, {"sym": "no spaces"},
            {"ev": "XT"}, {"s": 1e15},
        ]  # fmt: skip
        return Event({**body, **changes[wrong]}, good=False)


def inside(start_ms: int, day: date, first: str, last: str) -> bool:
    """Whether a bar is in a range of dates or milliseconds, both inclusive."""
    if first.isdecimal():
        return int(first) <= start_ms <= int(last)
    return first <= str(day) <= last


# ---- what follows from the history, computed the obvious way


def reference_numbers(symbol: Symbol, history: Sequence[date], is_year: bool = False) -> dict[str, float]:
    """The reference values of a symbol, by ReferenceField name; `is_year`: there is nothing else in the last year."""
    if not symbol.daily:
        return {}
    last = symbol.daily[-1]
    values = {"PREV_CLOSE": last.close, "PREV_VOLUME": last.volume}
    of_10 = [bar for bar in symbol.daily if bar.day in history[-10:]]
    of_30 = [bar for bar in symbol.daily if bar.day in history[-30:]]
    values["AVG_VOLUME_10D"] = sum(bar.volume for bar in of_10) / len(of_10)
    values["AVG_VOLUME_30D"] = sum(bar.volume for bar in of_30) / len(of_30)
    values["AVG_PRICE_30D"] = sum(bar.close for bar in of_30) / len(of_30)
    ranges = [
        max(bar.high - bar.low, abs(bar.high - before.close), abs(bar.low - before.close))
        for before, bar in zip(symbol.daily, symbol.daily[1:], strict=False)
    ]
    if len(ranges) >= 14:
        atr = sum(ranges[:14]) / 14
        for each in ranges[14:]:
            atr = (atr * 13 + each) / 14
        values["ATR"] = atr
    bars = [Prices(bar.open, bar.high, bar.low, bar.close) for bar in symbol.daily]
    return values | plain_levels(bars, bars if is_year else None)


def baselines(symbol: Symbol, history: Sequence[date]) -> tuple[int, list[float], list[float], list[float]]:
    """Days, and by slot: mean volume, mean trades and their sample sd, all since 04:00; NaN with fewer than 3 days."""
    days = [day for day in history[-30:] if any(key[0] == day for key in symbol.slots)]
    if len(days) < 3:
        nothing = [math.nan] * 192
        return len(days), nothing, nothing, nothing
    volumes: list[float] = []
    trades: list[float] = []
    spreads: list[float] = []
    for slot in range(192):
        upto = [[value for (d, s), value in symbol.slots.items() if d == day and s <= slot] for day in days]
        volumes.append(statistics.fmean(sum(volume for volume, _ in values) for values in upto))
        counts = [float(sum(count for _, count in values)) for values in upto]
        trades.append(statistics.fmean(counts))
        spreads.append(statistics.stdev(counts))
    return len(days), volumes, trades, spreads
