"""Some weeks of a few symbols that split now and then, told raw and adjusted; everything by plain sums.

A split multiplies the shares and divides the price from its execution date on. Raw
bars are as they were; the vendor's adjusted answers are in the shares of `DAY`.
"""

import itertools
import random
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from services.data_ingest.reference.load import HistoryDays
from tests.support.plain_levels import Prices, plain_levels
from tests.support.scripted_day import DAY, SLOT_MS, inside, ms_at

# Prices and volumes of a day: open, high, low, close, volume.
Bar = tuple[float, float, float, float, float]


@dataclass
class SplittingSymbol:
    name: str
    raw: dict[date, Bar] = field(default_factory=dict)
    # (day, slot) -> shares as they were, trades.
    slots: dict[tuple[date, int], tuple[float, int]] = field(default_factory=dict)
    # (execution date, from, to): several on one date all count.
    splits: list[tuple[date, int, int]] = field(default_factory=list)

    def factor(self, day: date, until: date = DAY) -> float:
        """How many shares of the day `until` one share of `day` is."""
        factor = 1.0
        for executed, old, new in self.splits:
            if day < executed <= until:
                factor *= new / old
        return factor

    def adjusted(self, day: date, until: date = DAY) -> Bar:
        factor = self.factor(day, until)
        o, h, l, c, v = self.raw[day]  # noqa: E741
        return o / factor, h / factor, l / factor, c / factor, v * factor

    def days(self, until: date = DAY) -> list[date]:
        return [day for day in sorted(self.raw) if day < until]

    def atr(self, until: date) -> float | None:
        """Wilder's over the days up to and with `until`, in its shares."""
        bars = [self.adjusted(day, until) for day in sorted(self.raw) if day <= until]
        ranges = [
            max(bar[1] - bar[2], abs(bar[1] - before[3]), abs(bar[2] - before[3]))
            for before, bar in itertools.pairwise(bars)
        ]
        if len(ranges) < 14:
            return None
        value = sum(ranges[:14]) / 14
        for each in ranges[14:]:
            value = (value * 13 + each) / 14
        return value

    def reference(self, history: list[date]) -> dict[str, float]:
        """What the row has to hold on `DAY`, by the name of its field in capitals."""
        days = self.days()
        bars = {day: self.adjusted(day) for day in days}
        values = {"PREV_CLOSE": bars[days[-1]][3], "PREV_VOLUME": bars[days[-1]][4]}
        of_10 = [bars[day] for day in days if day in history[-10:]]
        of_30 = [bars[day] for day in days if day in history[-30:]]
        values["AVG_VOLUME_10D"] = sum(bar[4] for bar in of_10) / len(of_10)
        values["AVG_VOLUME_30D"] = sum(bar[4] for bar in of_30) / len(of_30)
        values["AVG_PRICE_30D"] = sum(bar[3] for bar in of_30) / len(of_30)
        atr = self.atr(history[-1])
        if atr is not None:
            values["ATR"] = atr / self.factor(history[-1])
        return values | plain_levels([Prices(*bars[day][:4]) for day in days])

    def baseline(self, history: list[date], until: date = DAY) -> list[float]:
        """Mean shares since 04:00 at the end of each slot, in the shares of `until`."""
        days = {day for day in history[-30:] if any(key[0] == day for key in self.slots)}
        sums = [0.0] * 192
        for (day, slot), (shares, _) in self.slots.items():
            if day in days:
                sums[slot] += shares * self.factor(day, until)
        return [sum(sums[: slot + 1]) / len(days) for slot in range(192)]


class SplitMarket:
    """One seed's: `history` are the trading days before `DAY`, oldest first."""

    def __init__(self, seed: int, symbols: int = 6, days: int = 34) -> None:
        rng = random.Random(seed)
        self.history = list(HistoryDays.of_nyse(DAY).before[-days:])
        self.symbols = [self._symbol(rng, f"S{chr(65 + i)}", i) for i in range(symbols)]
        self.by_name = {symbol.name: symbol for symbol in self.symbols}

    def close_on(self, day: date) -> None:
        """Makes it a day without trading."""
        self.history.remove(day)
        for symbol in self.symbols:
            symbol.raw.pop(day, None)
            for key in [key for key in symbol.slots if key[0] == day]:
                del symbol.slots[key]

    def _symbol(self, rng: random.Random, name: str, number: int) -> SplittingSymbol:
        symbol = SplittingSymbol(name)
        ratios = [(1, 2), (1, 4), (10, 1), (2, 3), (25, 1)]
        # On the day itself, before, twice, two on one date, and one that is still to come.
        if number % 3 == 0:
            symbol.splits.append((DAY, *rng.choice(ratios)))
        if number % 2 == 0:
            executed = rng.choice(self.history[4:])
            symbol.splits += [(executed, *rng.choice(ratios)) for _ in range(1 + number % 4 // 2)]
        symbol.splits.append((date(DAY.year, DAY.month, DAY.day + 1), *rng.choice(ratios)))
        level = rng.uniform(5, 400)
        for day in self.history:
            level /= symbol.factor(self.history[self.history.index(day) - 1], day) if day != self.history[0] else 1.0
            if rng.random() < 0.05 and day != self.history[-1]:
                continue
            close = level * rng.uniform(0.95, 1.05)
            high, low = max(level, close) * rng.uniform(1, 1.03), min(level, close) * rng.uniform(0.97, 1)
            total = 0.0
            for slot in sorted(rng.sample(range(192), 10)):
                shares, trades = float(rng.randint(1, 5000)), rng.randint(1, 40)
                symbol.slots[day, slot] = (shares, trades)
                total += shares
            symbol.raw[day] = (level, high, low, close, total)
            level = close
        return symbol

    def splits_json(self) -> list[dict[str, Any]]:
        return [
            {"ticker": symbol.name, "execution_date": str(day), "split_from": old, "split_to": new, "id": f"E{number}"}
            for symbol in self.symbols
            for number, (day, old, new) in enumerate(sorted(symbol.splits))
        ]

    def rest(self, path: str, query: dict[str, str]) -> Any:
        """The vendor, adjusted unless it is asked for raw bars."""
        is_raw = query.get("adjusted") == "false"
        results: list[dict[str, Any]] = []
        if path == "/v1/marketstatus/now":
            return {"serverTime": f"{DAY}T04:00:00-04:00"}
        if path == "/v1/marketstatus/upcoming":
            return []
        if path == "/v2/snapshot/locale/us/markets/stocks/tickers":
            return {"status": "OK", "tickers": []}
        if path == "/v3/reference/splits":
            last = query.get("execution_date.lte", "9999")
            results = [each for each in self.splits_json() if each["execution_date"] <= last]
        elif path.startswith("/v2/aggs/grouped/"):
            day = date.fromisoformat(path.rpartition("/")[2])
            for symbol in self.symbols:
                if day in symbol.raw:
                    o, h, l, c, v = symbol.raw[day] if is_raw else symbol.adjusted(day)  # noqa: E741
                    results.append({"T": symbol.name, "o": o, "h": h, "l": l, "c": c, "v": v})
        elif path.startswith("/v2/aggs/ticker/"):
            name, _, _, unit, first, last = path.split("/")[4:]
            if unit == "minute" and name in self.by_name:
                symbol = self.by_name[name]
                for (day, slot), (shares, trades) in sorted(symbol.slots.items()):
                    start = ms_at("04:00:00", day) + slot * SLOT_MS
                    if inside(start, day, first, last):
                        volume = shares * (1.0 if is_raw else symbol.factor(day))
                        results.append({"t": start, "o": 1, "h": 1, "l": 1, "c": 1, "v": volume, "n": trades})
        elif path == "/v3/reference/tickers":
            results = [{"ticker": name, "name": f"{name} Inc.", "type": "CS", "active": True} for name in self.by_name]
        elif path.startswith("/v3/reference/tickers/"):
            name = path.rpartition("/")[2]
            return {"status": "OK", "results": {"ticker": name, "name": f"{name} Inc.", "type": "CS", "active": True}}
        elif path != "/v3/reference/conditions":
            return None
        return {"status": "OK", "results": results}
