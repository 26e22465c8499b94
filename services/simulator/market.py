"""The simulated market: its calendar, plans and current day, moved on by the clock it is given."""

import datetime
import math
import threading
from typing import Final

from services.kit.runtime.clock import NEW_YORK, NS_PER_SECOND
from services.kit.runtime.errors import StartError
from services.kit.runtime.setting_groups import SimSettings
from services.simulator.calendar import TradingCalendar, TradingDay, new_york_ns, new_york_time
from services.simulator.daily import DailyBars, daily_bars
from services.simulator.market_day import MarketDay
from services.simulator.plan import DayPlan, Plans
from services.simulator.shapes import Shapes
from services.simulator.symbols import Universe
from services.simulator.tape import Event, Tape

# Some minutes before the opening of an ordinary Monday: gaps are there, and the open comes soon.
DEFAULT_START: Final = datetime.datetime(2025, 11, 24, 9, 25)
# The time at which a trading day becomes today: the vendor clears yesterday's snapshot then.
CLEARED: Final = (3, 30)
# The tape begins so many minutes before the start, so that messages on their way at the start arrive.
WARM_MINUTES: Final = 1
KEPT_DAYS: Final = 8


class Market:
    """The market of a seed, a number of symbols and a start; `now_ns` is its own time.

    Raises StartError when the start lies outside of the calendar.
    """

    def __init__(self, settings: SimSettings) -> None:
        start = settings.start or DEFAULT_START
        if start.tzinfo is None:
            start = start.replace(tzinfo=NEW_YORK)
        self.now_ns = int(start.timestamp()) * NS_PER_SECOND
        date = new_york_time(self.now_ns).date()
        self.calendar = TradingCalendar(date)
        self.universe = Universe(settings.seed, settings.symbols)
        self._shapes = Shapes(settings.seed)
        index = self.calendar.first_from(date)
        if index >= len(self.calendar):
            raise StartError(f"TRADEUL_SIM_START: no trading day on or after {date}")
        if self.now_ns < self._cleared_ns(index):
            index -= 1
        self.plans = Plans(settings.seed, self.universe, self._shapes, self.calendar, index)
        self._daily: dict[int, DailyBars] = {}
        self._daily_lock = threading.Lock()
        day = self.plans.current.day
        minute = min(max((self.now_ns - day.start_ns) // (60 * NS_PER_SECOND), 0), day.end_minute)
        self._open(int(max(minute - WARM_MINUTES, 0)))
        # Messages before the start are not sent.
        while self.tape.next_second * NS_PER_SECOND + day.start_ns < self.now_ns and not self.tape.is_over:
            self.tape.second()

    @property
    def day(self) -> TradingDay:
        """Today, or on days without trading the last trading day."""
        return self.plans.current.day

    def price(self, symbol: int) -> float:
        """The last price, today's or an earlier one, USD."""
        if (price := float(self.tape.last.price[symbol])) > 0.0:
            return price
        raw = float(self.plans.current.before[symbol]) - math.log(self.plans.factor(symbol, self.day.number))
        return round(math.exp(raw), 4)

    def next_event_ns(self) -> int:
        """Returns the time of the next step."""
        if not self.tape.is_over:
            return self.day.start_ns + self.tape.next_second * NS_PER_SECOND
        return self._cleared_ns(self.day.number + 1)

    def step(self) -> list[Event]:
        """Makes the next step and returns the messages of that second, in order; the time moves to its beginning.

        Raises StartError at the calendar's end.
        """
        self.now_ns = max(self.now_ns, self.next_event_ns())
        if not self.tape.is_over:
            return self.tape.second()
        if self.day.number + 1 >= len(self.calendar):
            raise StartError("the simulated market has reached the end of its calendar: start it again")
        with_quotes = self.tape.with_quotes
        self.plans.advance()
        self._open(0)
        self.tape.with_quotes = with_quotes
        return []

    def daily(self, plan: DayPlan) -> DailyBars:
        """A day's regular hours, today's up to now; the last few requested days are cached."""
        index = plan.day.number
        if index == self.day.number:
            return DailyBars.of_sums(self.market_day.sums)
        # Requested on the threads of REST.
        with self._daily_lock:
            if (bars := self._daily.pop(index, None)) is None:
                bars = daily_bars(self.plans, plan)
            self._daily[index] = bars
            while len(self._daily) > KEPT_DAYS:
                self._daily.pop(next(iter(self._daily)))
        return bars

    def _open(self, minute: int) -> None:
        self.market_day = MarketDay(self.plans, self.plans.current)
        self.tape = Tape(self.plans, self.market_day, minute)

    def _cleared_ns(self, index: int) -> int:
        if index >= len(self.calendar):
            return (1 << 63) - 1
        return new_york_ns(self.calendar.day(index).date, *CLEARED)
