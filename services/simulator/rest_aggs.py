"""Aggregates: bars of one symbol, daily bars of all, from the same plan as the live market."""

import datetime
from typing import Final

import msgspec
import numpy as np

from services.kit.runtime.clock import NEW_YORK, NS_PER_MS
from services.simulator.hashing import I8
from services.simulator.history import SymbolMinutes, adjust_prices, adjust_volume, group, is_regular, symbol_minutes
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


class Bar(msgspec.Struct, gc=False):
    """A bar of /v2/aggs, fields in the vendor's order."""

    v: int
    vw: float
    o: float
    c: float
    h: float
    l: float  # noqa: E741 - the vendor's name
    t: int
    n: int


class GroupedBar(msgspec.Struct, gc=False):
    """A bar of the grouped daily answer."""

    T: str
    v: int
    vw: float
    o: float
    c: float
    h: float
    l: float  # noqa: E741 - the vendor's name
    t: int
    n: int


class Aggregates:
    """Answers of /v2/aggs."""

    def __init__(self, market: Market) -> None:
        self._market = market

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
        bars = [] if symbol is None else self._bars(symbol, int(multiplier), unit, begin, end, adjusted)
        if descending:
            bars.reverse()
        more = bars[limit:]
        bars = bars[:limit]
        answer: Answer = {
            "ticker": ticker,
            "queryCount": len(bars),
            "resultsCount": len(bars),
            "adjusted": adjusted,
            "results": bars,
            "status": "OK",
            "count": len(bars),
        }
        if not bars:
            del answer["results"], answer["count"]
        if more:
            bounds = f"{begin}/{more[0].t}" if descending else f"{more[0].t}/{end}"
            parameters = f"adjusted={str(adjusted).lower()}&limit={limit}&sort={'desc' if descending else 'asc'}"
            answer["next_url"] = f"{base}{path.rsplit('/', 2)[0]}/{bounds}?{parameters}"
        return answer

    def grouped(self, text: str, query: Query) -> Answer:
        """The daily bars of all symbols; none on a day without trading, or before its open."""
        day = date(text, "date")
        adjusted = boolean(query, "adjusted", True)
        index = self._market.calendar.index_of(day)
        plan = None if index is None else self._market.plans.get(index)
        bars = [] if plan is None else self.daily(plan, None, adjusted)
        answer: Answer = {
            "queryCount": len(bars),
            "resultsCount": len(bars),
            "adjusted": adjusted,
            "results": bars,
            "status": "OK",
            "count": len(bars),
        }
        if not bars:
            del answer["results"], answer["count"]
        return answer

    def previous(self, ticker: str, query: Query) -> Answer:
        """The newest daily bar before today's."""
        adjusted = boolean(query, "adjusted", True)
        symbol = self._market.universe.index.get(ticker)
        bars = []
        if symbol is not None and (plan := self._market.plans.get(self._market.day.number - 1)) is not None:
            bars = self.daily(plan, np.array([symbol]), adjusted)
        return {
            "ticker": ticker,
            "queryCount": len(bars),
            "resultsCount": len(bars),
            "adjusted": adjusted,
            "results": bars,
            "status": "OK",
            "count": len(bars),
        }

    def daily(self, plan: DayPlan, only: I8 | None = None, adjusted: bool = True) -> list[GroupedBar]:
        """The daily bars of all symbols, or of some; none of a symbol that did not trade."""
        universe, plans = self._market.universe, self._market.plans
        bars = self._market.daily(plan)
        at = np.flatnonzero(bars.trades > 0) if only is None else only[bars.trades[only] > 0]
        prices = [column[at] for column in (bars.open, bars.close, bars.high, bars.low, bars.vwap)]
        volume = bars.volume[at]
        if adjusted:
            ratio = (plans.factors(plan.day.number) / plans.factors(plans.current.day.number))[at]
            prices = [adjust_prices(price, ratio) for price in prices]
            volume = adjust_volume(volume, ratio)
        opened, close, high, low, vwap = (price.tolist() for price in prices)
        time = plan.day.minute_ns(plan.day.close_minute) // NS_PER_MS
        tickers = [universe.tickers[i] for i in at.tolist()]
        trades = bars.trades[at].tolist()
        times = [time] * len(tickers)
        columns = zip(tickers, volume.tolist(), vwap, opened, close, high, low, times, trades, strict=True)
        return [GroupedBar(*row) for row in columns]

    def _bars(self, symbol: int, n: int, unit: str, begin: int, end: int, adjusted: bool) -> list[Bar]:
        market = self._market
        first = market.calendar.first_from(new_york_date(begin))
        last = market.calendar.first_from(new_york_date(end) + datetime.timedelta(1)) - 1
        days = [
            plan
            for index in range(max(first, market.plans.first_index), min(last, market.day.number) + 1)
            if (plan := market.plans.get(index)) is not None
        ]
        if not days:
            return []
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
        columns = zip(
            bars.volume.tolist(),
            bars.vwap.tolist(),
            bars.open.tolist(),
            bars.close.tolist(),
            bars.high.tolist(),
            bars.low.tolist(),
            start.tolist(),
            bars.trades.tolist(),
            strict=True,
        )
        return [Bar(*row) for row in columns]

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
