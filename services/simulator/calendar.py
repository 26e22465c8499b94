"""Trading days of the NYSE, with holidays and early closes, counted from a fixed first day."""

import bisect
import datetime
from typing import Final, NamedTuple

from services.kit.runtime.clock import NEW_YORK, NS_PER_SECOND
from services.kit.runtime.errors import StartError
from services.market.nyse import exchange_days

FIRST_DATE: Final = datetime.date(2022, 1, 3)
# Enough days before it for the history that REST shows.
EARLIEST_START: Final = datetime.date(2023, 6, 1)
YEARS_AHEAD: Final = 12
MINUTE_NS: Final = 60 * NS_PER_SECOND

# Minutes are counted from 04:00.
OPEN_MINUTE: Final = 330
CLOSE_MINUTE: Final = 720
EARLY_CLOSE_MINUTE: Final = 540
END_MINUTE: Final = 960
EARLY_END_MINUTE: Final = 780


class TradingDay(NamedTuple):
    """A day on which the market trades; `start_ns` is 04:00 New York, minutes count from it."""

    number: int
    date: datetime.date
    start_ns: int
    is_early: bool

    @property
    def close_minute(self) -> int:
        return EARLY_CLOSE_MINUTE if self.is_early else CLOSE_MINUTE

    @property
    def end_minute(self) -> int:
        return EARLY_END_MINUTE if self.is_early else END_MINUTE

    @property
    def end_ns(self) -> int:
        return self.start_ns + self.end_minute * MINUTE_NS

    def minute_ns(self, minute: int) -> int:
        return self.start_ns + minute * MINUTE_NS

    @property
    def midnight_ns(self) -> int:
        return new_york_ns(self.date, 0)


class Holiday(NamedTuple):
    """A weekday without trading, or (`is_early`) with less of it."""

    date: datetime.date
    name: str
    is_early: bool


def new_york_ns(date: datetime.date, hour: int, minute: int = 0) -> int:
    """Nanoseconds since 1970 UTC of a New York time of day."""
    local = datetime.datetime.combine(date, datetime.time(hour, minute), tzinfo=NEW_YORK)
    return int(local.timestamp()) * NS_PER_SECOND


def new_york_time(ns: int) -> datetime.datetime:
    """The New York time of an instant, to the microsecond."""
    seconds, rest = divmod(ns, NS_PER_SECOND)
    time = datetime.datetime.fromtimestamp(seconds, NEW_YORK)
    return time.replace(microsecond=rest // 1000)


class TradingCalendar:
    """All trading days from FIRST_DATE until some years after `around`; raises StartError when that is too early."""

    def __init__(self, around: datetime.date) -> None:
        if around < EARLIEST_START:
            raise StartError(f"TRADEUL_SIM_START: expected a date from {EARLIEST_START} on, was {around}")
        last = datetime.date(around.year + YEARS_AHEAD, 12, 31)
        nyse = exchange_days()
        try:
            self._dates = nyse.trading_dates(FIRST_DATE, last)
        except ValueError as error:
            raise StartError(f"TRADEUL_SIM_START: no calendar for {around}: {error}") from error
        self._early = frozenset(date for date in nyse.early if FIRST_DATE <= date <= last)
        closed = [
            Holiday(date, name or "Market holiday", False)
            for date, name in nyse.closed.items()
            if FIRST_DATE <= date <= last
        ]
        self._holidays = sorted(closed + [Holiday(date, "Early close", True) for date in self._early])

    def __len__(self) -> int:
        return len(self._dates)

    def day(self, index: int) -> TradingDay:
        """The trading day with that number; raises IndexError outside of the calendar."""
        if not 0 <= index < len(self._dates):
            raise IndexError(f"expected a trading day of 0 to {len(self._dates) - 1}, was {index}")
        date = self._dates[index]
        return TradingDay(index, date, new_york_ns(date, 4), date in self._early)

    def index_of(self, date: datetime.date) -> int | None:
        """The number of a trading day; None when it is none."""
        index = self.first_from(date)
        return index if index < len(self._dates) and self._dates[index] == date else None

    def first_from(self, date: datetime.date) -> int:
        """The number of the first trading day on or after `date`."""
        return bisect.bisect_left(self._dates, date)

    def upcoming(self, date: datetime.date, count: int = 10) -> list[Holiday]:
        """The next holidays and early closes from `date` on."""
        first = bisect.bisect_left(self._holidays, Holiday(date, "", False))
        return self._holidays[first : first + count]
