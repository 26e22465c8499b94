"""Trading days, and which of them the stream is in: docs/semantics.md, "Days without events"."""

import bisect
import datetime
from collections.abc import Iterable
from typing import Final, NamedTuple

from tradeul.v1 import frame_pb2, market_session_pb2

from services.kit.runtime.clock import new_york_date

# So many symbols must have sent events of a later day before a feed is believed.
LATER_DAY_SYMBOLS: Final = 3


class Day(NamedTuple):
    """A trading day: its New York date, and the ends of its sessions in ns since 1970 UTC.

    `next_date`: the trading day after it; None where the calendar ends.
    """

    date: datetime.date
    pre_market_start_ns: int
    market_open_ns: int
    market_close_ns: int
    post_market_end_ns: int
    is_early_close: bool
    next_date: datetime.date | None = None

    @classmethod
    def of(cls, info: market_session_pb2.TradingDayInfo) -> "Day":
        """Raises ValueError when its date is none or its sessions are not in order."""
        day = cls(
            datetime.date.fromisoformat(info.date),
            info.pre_market_start_ns,
            info.market_open_ns,
            info.market_close_ns,
            info.post_market_end_ns,
            info.is_early_close,
        )
        if not 0 < day[1] < day[2] < day[3] < day[4]:
            raise ValueError(f"trading day {info.date}: expected ascending times, was {day[1:5]}")
        return day

    @classmethod
    def decode(cls, message: frame_pb2.TradingDay) -> "Day":
        """What encode() made; raises ValueError when it is something else."""
        return cls(
            datetime.date.fromisoformat(message.trading_date),
            message.pre_market_start_ns,
            message.market_open_ns,
            message.market_close_ns,
            message.post_market_end_ns,
            message.is_early_close,
            datetime.date.fromisoformat(message.next_trading_date) if message.next_trading_date else None,
        )

    def encode(self) -> bytes:
        """The encoded TradingDay."""
        return frame_pb2.TradingDay(
            trading_date=str(self.date),
            pre_market_start_ns=self.pre_market_start_ns,
            market_open_ns=self.market_open_ns,
            market_close_ns=self.market_close_ns,
            post_market_end_ns=self.post_market_end_ns,
            is_early_close=self.is_early_close,
            next_trading_date=str(self.next_date or ""),
        ).SerializeToString()

    def has(self, time_ns: int) -> bool:
        """Whether any of its sessions is open then."""
        return self.pre_market_start_ns <= time_ns < self.post_market_end_ns


class Calendar:
    """Consecutive trading days; raises ValueError when they are none or not ascending."""

    def __init__(self, days: Iterable[Day]) -> None:
        given = tuple(days)
        following = [*(day.date for day in given[1:]), None]
        self.days = tuple(day._replace(next_date=after) for day, after in zip(given, following, strict=False))
        if not self.days:
            raise ValueError("expected trading days, was none")
        if any(a.post_market_end_ns > b.pre_market_start_ns for a, b in zip(self.days, self.days[1:], strict=False)):
            raise ValueError("expected trading days in ascending order")
        self._starts = [day.pre_market_start_ns for day in self.days]

    def begun(self, time_ns: int) -> Day | None:
        """The day in force by the clock: the newest whose 04:00 has come. None before the first of them."""
        index = bisect.bisect_right(self._starts, time_ns) - 1
        return self.days[index] if index >= 0 else None

    def first(self, time_ns: int) -> Day | None:
        """The day that a feed begins with whose clock says `time_ns`: its date when that is a trading day."""
        date = new_york_date(time_ns)
        return next((day for day in self.days if day.date == date), None) or self.begun(time_ns)

    def after(self, day: Day) -> tuple[Day, ...]:
        """The trading days that follow, as far as the calendar knows."""
        return tuple(other for other in self.days if other.date > day.date)

    def before(self, date: datetime.date) -> list[Day]:
        """The trading days before a date, ascending."""
        return [day for day in self.days if day.date < date]
