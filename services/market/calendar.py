"""Trading days and their sessions. Nothing here knows where the days come from, or what time it is."""

import enum
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Final, NamedTuple

from services.kit.runtime.clock import NEW_YORK, new_york_date, ns_of
from services.kit.runtime.errors import DATE_OUT_OF_CALENDAR, NOT_A_TRADING_DAY

PRE_MARKET_START: Final = time(4, 0)
MARKET_OPEN: Final = time(9, 30)
MARKET_CLOSE: Final = time(16, 0)
# After the close, whenever that is: 20:00, or 17:00 on an early close.
POST_MARKET: Final = timedelta(hours=4)
SATURDAY: Final = 5


class Session(enum.IntEnum):
    """The numbers are session.proto's."""

    PRE_MARKET = 1
    MARKET_OPEN = 2
    POST_MARKET = 3
    CLOSED = 4


class TradingDay(NamedTuple):
    """A day with trading; times in nanoseconds since 1970 UTC."""

    date: date
    pre_market_start_ns: int
    market_open_ns: int
    market_close_ns: int
    post_market_end_ns: int
    is_early_close: bool


class Moment(NamedTuple):
    """What holds at an instant, and until when.

    `day` is the trading day it falls on; None on a day without trading. On a
    trading day `trading_date` is its date, else the next trading day's.
    """

    session: Session
    day: TradingDay | None
    trading_date: date
    is_holiday: bool
    next_session: Session
    next_session_ns: int


def trading_day(on: date, close: time = MARKET_CLOSE) -> TradingDay:
    """The day's times by the rule: all usual but the close, four hours after which the post-market ends."""
    market_close = datetime.combine(on, close, NEW_YORK)
    return TradingDay(
        date=on,
        pre_market_start_ns=ns_of(datetime.combine(on, PRE_MARKET_START, NEW_YORK)),
        market_open_ns=ns_of(datetime.combine(on, MARKET_OPEN, NEW_YORK)),
        market_close_ns=ns_of(market_close),
        post_market_end_ns=ns_of(market_close + POST_MARKET),
        is_early_close=close < MARKET_CLOSE,
    )


class Calendar:
    """The trading days from `first` to `last`, both included; questions outside raise DATE_OUT_OF_CALENDAR."""

    def __init__(self, first: date, last: date, days: Iterable[TradingDay]) -> None:
        self.first = first
        self.last = last
        self._days = {day.date: day for day in sorted(days)}
        self._dates = list(self._days)

    def with_changes(self, changes: Mapping[date, time | None]) -> "Calendar":
        """The same with other closing times; None closes the day. Never opens a day that is closed."""
        days = dict(self._days)
        for on, close in changes.items():
            if on in days and close is None:
                del days[on]
            elif on in days and close is not None:
                days[on] = trading_day(on, close)
        return Calendar(self.first, self.last, days.values())

    def get(self, on: date) -> TradingDay | None:
        """The day; None without trading."""
        self._check(on)
        return self._days.get(on)

    def on(self, on: date) -> TradingDay:
        """The day; raises NOT_A_TRADING_DAY."""
        if (day := self.get(on)) is None:
            raise NOT_A_TRADING_DAY.error(f"expected a trading day, was {on}", date=on)
        return day

    def after(self, on: date) -> TradingDay:
        """The nearest trading day after `on`."""
        self._check(on)
        if (index := bisect_right(self._dates, on)) == len(self._dates):
            raise self._outside(on + timedelta(days=1))
        return self._days[self._dates[index]]

    def before(self, on: date) -> TradingDay:
        """The nearest trading day before `on`."""
        self._check(on)
        if (index := bisect_left(self._dates, on)) == 0:
            raise self._outside(on - timedelta(days=1))
        return self._days[self._dates[index - 1]]

    def between(self, start: date, end: date) -> list[TradingDay]:
        """The trading days from `start` to `end`, both included, ascending."""
        self._check(start)
        self._check(end)
        return [self._days[on] for on in self._dates[bisect_left(self._dates, start) : bisect_right(self._dates, end)]]

    def at(self, ns: int) -> Moment:
        """What holds at that instant."""
        on = new_york_date(ns)
        day = self.get(on)
        if day is not None:
            if ns < day.pre_market_start_ns:
                return _moment(Session.CLOSED, day, Session.PRE_MARKET, day.pre_market_start_ns)
            if ns < day.market_open_ns:
                return _moment(Session.PRE_MARKET, day, Session.MARKET_OPEN, day.market_open_ns)
            if ns < day.market_close_ns:
                return _moment(Session.MARKET_OPEN, day, Session.POST_MARKET, day.market_close_ns)
            if ns < day.post_market_end_ns:
                return _moment(Session.POST_MARKET, day, Session.CLOSED, day.post_market_end_ns)
        following = self.after(on)
        return Moment(
            session=Session.CLOSED,
            day=day,
            trading_date=following.date if day is None else on,
            is_holiday=day is None and on.weekday() < SATURDAY,
            next_session=Session.PRE_MARKET,
            next_session_ns=following.pre_market_start_ns,
        )

    def _check(self, on: date) -> None:
        if not self.first <= on <= self.last:
            raise self._outside(on)

    def _outside(self, on: date) -> Exception:
        return DATE_OUT_OF_CALENDAR.error(f"expected a date from {self.first} to {self.last}, was {on}", date=on)


def _moment(session: Session, day: TradingDay, next_session: Session, next_session_ns: int) -> Moment:
    return Moment(session, day, day.date, False, next_session, next_session_ns)
