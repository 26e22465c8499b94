"""The trading day in force: when the next one begins, and which event times are admitted on it."""

import asyncio
import datetime
from collections.abc import Callable, Iterable
from typing import Final

from fastcore.admission import MAX_TIME, Admission
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.runtime.logging import get_logger
from services.market.calendar import Calendar, TradingDay
from services.market.calendar_client import CalendarClient

log = get_logger(__name__)

# With the wall clock, events may be so much ahead of it.
AHEAD_NS: Final = 5_000_000_000


class DayInForce:
    """Begins the trading days of the stream, as the calendar has them.

    Args:
        sequencer: gets a frame for each day.
        admission: gets the day's bounds, and the days to come.
        splits: gives the symbols that split since the day before; None when that is not known.
    """

    def __init__(
        self, sequencer: Sequencer, admission: Admission, splits: Callable[[TradingDay], Iterable[str] | None]
    ) -> None:
        # Trading days begun, and those just before the day in force of which nothing came.
        self.count = 0
        self.missing: list[datetime.date] = []
        self._sequencer = sequencer
        self._admission = admission
        self._splits = splits
        self._calendar: Calendar | None = None
        self._later: tuple[TradingDay, ...] = ()
        self._listeners: list[Callable[[], None]] = []

    @property
    def calendar(self) -> Calendar:
        """RuntimeError before begin()."""
        if self._calendar is None:
            raise RuntimeError("expected begin() to have been called, was not")
        return self._calendar

    @property
    def next(self) -> TradingDay | None:
        """The day after it; None when the calendar does not know it."""
        return self._later[0] if self._later else None

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` after each day that began, or whose hours changed, from now on."""
        self._listeners.append(listener)

    def begin(self, calendar: Calendar, day: TradingDay) -> None:
        """Begins the stream's first day."""
        self._calendar = calendar
        self._enter(day)

    def set_calendar(self, calendar: Calendar) -> None:
        """Takes over a newer calendar, which may hold other hours of the day in force."""
        self._calendar = calendar
        day = self._sequencer.day
        known = calendar.find(day.date) or day
        if known != day:
            log.warning("trading day has other hours", date=str(day.date))
            self._enter(known)
        else:
            self._set_later()

    async def follow_calendar(self, client: CalendarClient) -> None:
        """Takes over newer calendars, with each day that begins and every half hour, until cancelled."""
        day_began = asyncio.Event()
        self.listen(day_began.set)
        await client.follow(lambda: self._sequencer.day.date, day_began, self.set_calendar)

    def follow_clock(self, now_ns: int) -> None:
        """With the wall clock: begins the day of `now_ns`, before anything of that time is admitted or marked."""
        if self._later and self._later[0].pre_market_start_ns <= now_ns:
            self.enter_later(sum(day.pre_market_start_ns <= now_ns for day in self._later) - 1)
        self.admit_until(now_ns + AHEAD_NS)

    def enter_later(self, index: int) -> None:
        """Begins the `index`-th of the days to come; those before it have passed without an event, usually none."""
        self.missing = [day.date for day in self._later[:index]]
        for date in self.missing:
            log.error("trading day is missing", date=str(date))
        self._enter(self._later[index])

    def admit_until(self, latest_ns: int = MAX_TIME) -> None:
        """Lets in the day's events up to and with `latest_ns`."""
        day = self._sequencer.day
        self._admission.set_bounds(day.pre_market_start_ns, day.post_market_end_ns, latest_ns)

    def _enter(self, day: TradingDay) -> None:
        log.info("trading day begins", date=str(day.date), early_close=day.is_early_close)
        self.count += 1
        self._sequencer.begin_day(day, self._splits(day))
        self.admit_until()
        self._set_later()
        for listener in self._listeners:
            listener()

    def _set_later(self) -> None:
        self._later = self.calendar.all_after(self._sequencer.day.date)
        self._admission.set_later_days((day.pre_market_start_ns, day.post_market_end_ns) for day in self._later)
