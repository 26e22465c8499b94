"""Trading days and their sessions. Nothing here reads a clock; the NYSE's days are those of nyse.toml."""

import datetime
import enum
import itertools
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from tradeul.v1 import frame_pb2, market_session_pb2

from services.kit.runtime.clock import NEW_YORK, new_york_date, ns_of, utc_time
from services.kit.runtime.errors import DATE_OUT_OF_CALENDAR, NOT_A_TRADING_DAY
from services.market.dates import ONE_DAY, SATURDAY
from services.market.nyse import exchange_days

PRE_MARKET_START: Final = datetime.time(4, 0)
MARKET_OPEN: Final = datetime.time(9, 30)
MARKET_CLOSE: Final = datetime.time(16, 0)
# After the close, whenever that is: 20:00, or 17:00 on an early close.
POST_MARKET: Final = datetime.timedelta(hours=4)
NYSE_FIRST: Final = datetime.date(2000, 1, 1)
NYSE_YEARS_AHEAD: Final = 5


class Session(enum.IntEnum):
    """The numbers are session.proto's."""

    PRE_MARKET = 1
    MARKET_OPEN = 2
    POST_MARKET = 3
    CLOSED = 4


class TradingDay(NamedTuple):
    """A day with trading: its New York date, and the bounds of its sessions in ns since 1970 UTC.

    `next_date` is the trading day after it, which its calendar fills in; None where that ends.
    """

    date: datetime.date
    pre_market_start_ns: int
    market_open_ns: int
    market_close_ns: int
    post_market_end_ns: int
    is_early_close: bool
    next_date: datetime.date | None = None

    @classmethod
    def by_rule(cls, on: datetime.date, close: datetime.time = MARKET_CLOSE) -> "TradingDay":
        """The day with its usual times but the close, four hours after which the post-market ends."""
        market_close = datetime.datetime.combine(on, close, NEW_YORK)
        return cls(
            date=on,
            pre_market_start_ns=ns_of(datetime.datetime.combine(on, PRE_MARKET_START, NEW_YORK)),
            market_open_ns=ns_of(datetime.datetime.combine(on, MARKET_OPEN, NEW_YORK)),
            market_close_ns=ns_of(market_close),
            post_market_end_ns=ns_of(market_close + POST_MARKET),
            is_early_close=close < MARKET_CLOSE,
        )

    @classmethod
    def of_info(cls, info: market_session_pb2.TradingDayInfo) -> "TradingDay":
        """A day of market_session; raises ValueError when its date is none or its sessions are not in order."""
        times = (info.pre_market_start_ns, info.market_open_ns, info.market_close_ns, info.post_market_end_ns)
        if not 0 < times[0] < times[1] < times[2] < times[3]:
            raise ValueError(f"trading day {info.date}: expected ascending times, was {times}")
        return cls(datetime.date.fromisoformat(info.date), *times, info.is_early_close)

    def info(self) -> market_session_pb2.TradingDayInfo:
        """The day as market_session lists it."""
        return market_session_pb2.TradingDayInfo(date=self.date.isoformat(), **self._hours())

    @classmethod
    def of_frame(cls, message: frame_pb2.TradingDay) -> "TradingDay":
        """The day that frame() made a message of; raises ValueError when a date is none."""
        return cls(
            datetime.date.fromisoformat(message.trading_date),
            message.pre_market_start_ns,
            message.market_open_ns,
            message.market_close_ns,
            message.post_market_end_ns,
            message.is_early_close,
            datetime.date.fromisoformat(message.next_trading_date) if message.next_trading_date else None,
        )

    def frame(self) -> frame_pb2.TradingDay:
        """The day as it stands in the stream."""
        next_date = "" if self.next_date is None else self.next_date.isoformat()
        return frame_pb2.TradingDay(trading_date=self.date.isoformat(), next_trading_date=next_date, **self._hours())

    def has(self, time_ns: int) -> bool:
        """True while any of its sessions is open."""
        return self.pre_market_start_ns <= time_ns < self.post_market_end_ns

    def _hours(self) -> dict[str, Any]:
        return dict(zip(self._fields[1:6], self[1:6], strict=True))


class SessionAt(NamedTuple):
    """The session of an instant, and when the next one begins (ns since 1970 UTC).

    `day` is the trading day it falls on; None on a day without trading. On a
    trading day `trading_date` is its date, else the next trading day's.
    """

    session: Session
    day: TradingDay | None
    trading_date: datetime.date
    is_holiday: bool
    next_session: Session
    next_session_ns: int


class Calendar:
    """Consecutive trading days, ascending: all there are from `first` to `last`, both included.

    Without these two they are the dates of the first and the last day. Raises
    ValueError when there are no days or they are not ascending. Dates outside of the calendar
    raise DATE_OUT_OF_CALENDAR where an answer needs what is not known.
    """

    def __init__(
        self, days: Iterable[TradingDay], first: datetime.date | None = None, last: datetime.date | None = None
    ) -> None:
        given = tuple(days)
        if not given:
            raise ValueError("expected trading days, was none")
        if any(a.post_market_end_ns > b.pre_market_start_ns for a, b in itertools.pairwise(given)):
            raise ValueError("expected trading days in ascending order")
        next_dates = [*(day.date for day in given[1:]), None]
        # Thousands of days, which calendars with a few changes share.
        self.days = tuple(
            day if day.next_date == after else day._replace(next_date=after)
            for day, after in zip(given, next_dates, strict=True)
        )
        self.first = given[0].date if first is None else first
        self.last = given[-1].date if last is None else last
        self._by_date = {day.date: day for day in self.days}
        self._dates = list(self._by_date)

    def with_changes(self, changes: Mapping[datetime.date, datetime.time | None]) -> "Calendar":
        """The same with other closing times; None closes the day. Never opens a day that is closed."""
        days = dict(self._by_date)
        for on, close in changes.items():
            if on in days and close is None:
                del days[on]
            elif on in days and close is not None:
                days[on] = TradingDay.by_rule(on, close)
        return Calendar(days.values(), self.first, self.last)

    def find(self, on: datetime.date) -> TradingDay | None:
        """The day; None when it is none of the calendar's, also outside of it."""
        return self._by_date.get(on)

    def get(self, on: datetime.date) -> TradingDay | None:
        """The day; None without trading."""
        self._check(on)
        return self._by_date.get(on)

    def on(self, on: datetime.date) -> TradingDay:
        """The day; raises NOT_A_TRADING_DAY."""
        if (day := self.get(on)) is None:
            raise NOT_A_TRADING_DAY.error(f"expected a trading day, was {on}", date=on)
        return day

    def after(self, on: datetime.date) -> TradingDay:
        """The nearest trading day after `on`."""
        self._check(on)
        if (index := bisect_right(self._dates, on)) == len(self._dates):
            raise self._outside(on + ONE_DAY)
        return self.days[index]

    def before(self, on: datetime.date) -> TradingDay:
        """The nearest trading day before `on`."""
        self._check(on)
        if (index := bisect_left(self._dates, on)) == 0:
            raise self._outside(on - ONE_DAY)
        return self.days[index - 1]

    def between(self, start: datetime.date, end: datetime.date) -> tuple[TradingDay, ...]:
        """The trading days from `start` to `end`, both included, ascending."""
        self._check(start)
        self._check(end)
        return self.days[bisect_left(self._dates, start) : bisect_right(self._dates, end)]

    def all_after(self, on: datetime.date) -> tuple[TradingDay, ...]:
        """The trading days after `on`, ascending, as far as the calendar knows."""
        return self.days[bisect_right(self._dates, on) :]

    def all_before(self, on: datetime.date) -> tuple[TradingDay, ...]:
        """The trading days before `on`, ascending, as far as the calendar knows."""
        return self.days[: bisect_left(self._dates, on)]

    def in_force(self, now_ns: int) -> TradingDay | None:
        """The newest day whose 04:00 has come; None before the first of them."""
        index = bisect_right(self.days, now_ns, key=lambda day: day.pre_market_start_ns) - 1
        return self.days[index] if index >= 0 else None

    def startup_day(self, now_ns: int) -> TradingDay | None:
        """The day that a feed begins with whose clock shows `now_ns`: its date when that is a trading day."""
        return self.find(new_york_date(now_ns)) or self.in_force(now_ns)

    def session_at(self, now_ns: int) -> SessionAt:
        """The session at `now_ns` since 1970 UTC."""
        on = new_york_date(now_ns)
        day = self.get(on)
        if day is not None:
            for session, next_session, end_ns in (
                (Session.CLOSED, Session.PRE_MARKET, day.pre_market_start_ns),
                (Session.PRE_MARKET, Session.MARKET_OPEN, day.market_open_ns),
                (Session.MARKET_OPEN, Session.POST_MARKET, day.market_close_ns),
                (Session.POST_MARKET, Session.CLOSED, day.post_market_end_ns),
            ):
                if now_ns < end_ns:
                    return SessionAt(session, day, on, False, next_session, end_ns)
        following = self.after(on)
        return SessionAt(
            session=Session.CLOSED,
            day=day,
            trading_date=following.date if day is None else on,
            is_holiday=day is None and on.weekday() < SATURDAY,
            next_session=Session.PRE_MARKET,
            next_session_ns=following.pre_market_start_ns,
        )

    def _check(self, on: datetime.date) -> None:
        if not self.first <= on <= self.last:
            raise self._outside(on)

    def _outside(self, on: datetime.date) -> Exception:
        return DATE_OUT_OF_CALENDAR.error(f"expected a date from {self.first} to {self.last}, was {on}", date=on)


class SessionStart(NamedTuple):
    """A session that began; the trading date is that of the day it belongs to."""

    began_at: datetime.datetime
    session: str
    trading_date: datetime.date
    is_early_close: bool


def session_starts(
    days: Iterable[TradingDay], since: datetime.datetime, until: datetime.datetime
) -> list[SessionStart]:
    """The changes of session in (since, until], in order."""
    starts = []
    for day in days:
        for session, ns in zip(Session, day[1:5], strict=True):
            began_at = utc_time(ns)
            if since < began_at <= until:
                starts.append(SessionStart(began_at, session.name, day.date, day.is_early_close))
    return sorted(starts)


def nyse_calendar(today: datetime.date) -> Calendar:
    """The NYSE's days from 2000 to the end of the fifth year after `today`."""
    nyse = exchange_days()
    last = datetime.date(today.year + NYSE_YEARS_AHEAD, 12, 31)
    days = [TradingDay.by_rule(on, nyse.early.get(on, MARKET_CLOSE)) for on in nyse.trading_dates(NYSE_FIRST, last)]
    return Calendar(days, NYSE_FIRST, last)
