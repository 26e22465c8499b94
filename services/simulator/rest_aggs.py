"""Aggregates: bars of one symbol, daily bars of all, from the same plan as the live market."""

import datetime
from typing import Final

import msgspec
import numpy as np

from services.kit.runtime.clock import NEW_YORK, NS_PER_MS
from services.simulator.hashing import F8, I8
from services.simulator.history import SymbolMinutes, adjust_prices, adjust_volume, group, is_regular, symbol_minutes
from services.simulator.json_rows import Column, json_rows
from services.simulator.market import Market
from services.simulator.plan import DayPlan
from services.simulator.rest_query import (
    Answer,
    Query,
    bad,
    boolean,
    date,
    instant_ms,
    integer,
    is_descending,
    new_york_date,
)

DEFAULT_LIMIT: Final = 5_000
MAX_LIMIT: Final = 50_000
MINUTES_OF: Final = {"minute": 1, "hour": 60}
DAY_UNITS: Final = ("day", "week", "month", "quarter", "year")
FIRST_MINUTE_OF_DAY: Final = 240


Columns = dict[str, Column]


class Aggregates:
    """Answers of /v2/aggs."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._tickers = np.array(market.universe.tickers, dtype=np.bytes_)

    def range(self, ticker: str, path: str, parts: tuple[str, str, str, str], query: Query, base: str) -> Answer:
        """`parts` are multiplier, unit, from and to of the path."""
        multiplier, unit = parts[0], parts[1]
        if not multiplier.isdecimal() or not 1 <= int(multiplier) <= 10_000:
            raise bad(f"'multiplier': expected a number of 1 to 10000, was {multiplier!r}")
        if unit not in MINUTES_OF and unit not in DAY_UNITS:
            raise bad(f"'timespan': expected {', '.join((*MINUTES_OF, *DAY_UNITS))}, was {unit!r}")
        begin, end = instant_ms(parts[2], "from", False), instant_ms(parts[3], "to", True)
        if begin > end:
            raise bad("'to' must be after 'from'")
        adjusted = boolean(query, "adjusted", True)
        limit = integer(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        descending = is_descending(query, "sort")
        symbol = self._market.universe.index.get(ticker)
        bars = {} if symbol is None else self._bars(symbol, int(multiplier), unit, begin, end, adjusted)
        if not bars:
            return _answer({"ticker": ticker}, bars, adjusted)
        if descending:
            bars = {name: column[::-1] for name, column in bars.items()}
        more = bars["t"][limit:]
        answer = _answer({"ticker": ticker}, {name: column[:limit] for name, column in bars.items()}, adjusted)
        if len(more):
            bounds = f"{begin}/{more[0]}" if descending else f"{more[0]}/{end}"
            parameters = f"adjusted={str(adjusted).lower()}&limit={limit}&sort={'desc' if descending else 'asc'}"
            answer["next_url"] = f"{base}{path.rsplit('/', 2)[0]}/{bounds}?{parameters}"
        return answer

    def grouped(self, text: str, query: Query) -> Answer:
        """The daily bars of all symbols; none on a day without trading, or before its open."""
        day = date(text, "date")
        adjusted = boolean(query, "adjusted", True)
        index = self._market.calendar.index_of(day)
        plan = None if index is None else self._market.plans.get(index)
        return _answer({}, {} if plan is None else self.daily(plan, None, adjusted), adjusted)

    def previous(self, ticker: str, query: Query) -> Answer:
        """The newest daily bar before today's."""
        adjusted = boolean(query, "adjusted", True)
        symbol = self._market.universe.index.get(ticker)
        bars: Columns = {}
        if symbol is not None and (plan := self._market.plans.get(self._market.day.number - 1)) is not None:
            bars = self.daily(plan, np.array([symbol]), adjusted)
        return _answer({"ticker": ticker}, bars, adjusted, with_none=True)

    def daily(self, plan: DayPlan, only: I8 | None = None, adjusted: bool = True) -> Columns:
        """The daily bars of all symbols, or of some; none of a symbol that did not trade."""
        plans = self._market.plans
        bars = self._market.daily(plan)
        at = np.flatnonzero(bars.trades > 0) if only is None else only[bars.trades[only] > 0]
        vwap, opened, close, high, low = (c[at] for c in (bars.vwap, bars.open, bars.close, bars.high, bars.low))
        volume = bars.volume[at]
        if adjusted:
            ratio = (plans.factors(plan.day.number) / plans.factors(plans.current.day.number))[at]
            vwap, opened, close, high, low = (adjust_prices(c, ratio) for c in (vwap, opened, close, high, low))
            volume = adjust_volume(volume, ratio)
        time = plan.day.minute_ns(plan.day.close_minute) // NS_PER_MS
        times, trades = np.full(len(at), time), bars.trades[at]
        return {"T": self._tickers[at], **_named(volume, vwap, opened, close, high, low, times, trades)}

    def _bars(self, symbol: int, n: int, unit: str, begin: int, end: int, adjusted: bool) -> Columns:
        market = self._market
        first = market.calendar.first_from(new_york_date(begin))
        last = market.calendar.first_from(new_york_date(end) + datetime.timedelta(1)) - 1
        days = market.plans.between(first, min(last, market.day.number))
        if not days:
            return {}
        minutes = symbol_minutes(market.plans, symbol, days, adjusted)
        keep = minutes.start_ms + 60_000 <= market.now_ns // NS_PER_MS
        if unit in DAY_UNITS:
            keep &= is_regular(minutes, {plan.day.number for plan in days if plan.day.is_early})
        if not keep.all():
            minutes = minutes.only(keep)
        if unit in DAY_UNITS:
            joined, start = self._by_days(minutes, n, unit, begin)
        else:
            span = n * MINUTES_OF[unit]
            slot = (minutes.minute + FIRST_MINUTE_OF_DAY) // span
            if span > 1:
                joined = group(minutes, minutes.day * 100_000 + slot)
                slot = (joined.minute + FIRST_MINUTE_OF_DAY) // span
                start = joined.start_ms + (slot * span - FIRST_MINUTE_OF_DAY - joined.minute) * 60_000
            else:
                joined, start = minutes, minutes.start_ms
        inside = (start >= begin - begin % 60_000) & (start <= end)
        if not inside.all():
            joined, start = joined.only(inside), start[inside]
        bars = joined.bars
        return _named(bars.volume, bars.vwap, bars.open, bars.close, bars.high, bars.low, start, bars.trades)

    def _by_days(self, minutes: SymbolMinutes, n: int, unit: str, begin: int) -> tuple[SymbolMinutes, I8]:
        """Bars of whole days and more; each starts at midnight in New York of its period's first day."""
        calendar = self._market.calendar
        starts: dict[int, datetime.date] = {}
        keys: dict[int, int] = {}
        origin = new_york_date(begin)
        for index in np.unique(minutes.day).tolist():
            day = calendar.day(index).date
            months = day.year * 12 + day.month - 1
            if unit == "day":
                number = (day - origin).days // n
                start = origin + datetime.timedelta(number * n)
            elif unit == "week":
                number = (day.toordinal() - 1) // 7 // n
                start = datetime.date.fromordinal(number * 7 * n + 1)
            else:
                span = {"month": 1, "quarter": 3, "year": 12}[unit] * n
                number = months // span
                start = datetime.date(number * span // 12, number * span % 12 + 1, 1)
            keys[index], starts[index] = number, start
        lookup = np.array([keys[index] for index in minutes.day.tolist()], dtype=np.int64)
        joined = group(minutes, lookup)
        midnights = [
            int(datetime.datetime.combine(starts[index], datetime.time(), tzinfo=NEW_YORK).timestamp()) * 1000
            for index in joined.day.tolist()
        ]
        return joined, np.array(midnights, dtype=np.int64)


def _named(volume: I8, vwap: F8, opened: F8, close: F8, high: F8, low: F8, time_ms: I8, trades: I8) -> Columns:
    """The columns of bars, by the vendor's names in the vendor's order."""
    return {"v": volume, "vw": vwap, "o": opened, "c": close, "h": high, "l": low, "t": time_ms, "n": trades}


def _answer(head: Answer, bars: Columns, adjusted: bool, with_none: bool = False) -> Answer:
    """An answer of bars; without any it has no `results` and `count` unless `with_none`."""
    count = len(bars["t"]) if bars else 0
    answer: Answer = {**head, "queryCount": count, "resultsCount": count, "adjusted": adjusted}
    if not count and not with_none:
        return {**answer, "status": "OK"}
    return {**answer, "results": msgspec.Raw(json_rows(bars)) if count else [], "status": "OK", "count": count}
