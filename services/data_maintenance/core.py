"""The timetable (docs/maintenance.md): its times, and which of them are due. Pure.

A time of the timetable stands for a New York date: at 01:00 on the night when
clocks go back that is the first of the two, and one that clocks jump over is as
long after midnight as on any other day.
"""

import enum
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Final, NamedTuple

from services.kit.runtime.clock import NEW_YORK, utc_time

IsTradingDay = Callable[[date], bool]

ONE_DAY: Final = timedelta(days=1)
# No market was ever closed for longer.
LONGEST_CLOSURE: Final = 14


class Days(enum.Enum):
    """The numbers are data_maintenance.proto's MaintenanceTask.Days."""

    DAILY = 1
    TRADING_DAYS = 2
    AFTER_TRADING_DAYS = 3


class TaskSpec(NamedTuple):
    """One task. It has either a time of day (`at`, New York) or an interval (`every`).

    `after`: a task whose run for the same trading date has to end first.
    `makes_up`: of how many missed times, the newest, each is made up for.
    `is_heavy`: only one such task at a time in a process.
    """

    name: str
    description: str
    days: Days
    at: time | None = None
    every: timedelta | None = None
    after: str | None = None
    makes_up: int = 1
    is_heavy: bool = True


TASKS: Final = (
    TaskSpec("load_ohlc", "the day's bars of all symbols into daily_ohlc", Days.TRADING_DAYS, at=time(18), makes_up=5),
    TaskSpec(
        "calculate_atr",
        "ticker_atr from daily_ohlc, adjusted for splits",
        Days.AFTER_TRADING_DAYS,
        at=time(1),
        after="load_ohlc",
    ),
    TaskSpec(
        "load_volume_slots", "volume_slots from the last 30 days' minute bars", Days.AFTER_TRADING_DAYS, at=time(1, 30)
    ),
    TaskSpec("enrich_metadata", "the universe and the companies into ticker_metadata", Days.DAILY, at=time(2)),
    TaskSpec(
        "housekeeping", "what is older than it is kept for leaves the tables", Days.DAILY, at=time(3), is_heavy=False
    ),
    TaskSpec(
        "sync_redis",
        "metadata, ATR and volume slots that changed into Redis",
        Days.DAILY,
        every=timedelta(minutes=5),
        is_heavy=False,
    ),
)


class Occurrence(NamedTuple):
    """A time of the timetable (UTC) and the day whose data a run then is about."""

    at: datetime
    trading_date: date


def occurrence_on(spec: TaskSpec, on: date, is_trading_day: IsTradingDay) -> Occurrence | None:
    """The time of a task with a time of day on a New York date; None when it does not run on it."""
    assert spec.at is not None, spec.name
    trading_date = on - ONE_DAY if spec.days is Days.AFTER_TRADING_DAYS else on
    if spec.days is not Days.DAILY and not is_trading_day(trading_date):
        return None
    return Occurrence(datetime.combine(on, spec.at, NEW_YORK).astimezone(UTC), trading_date)


def newest(spec: TaskSpec, now: datetime, is_trading_day: IsTradingDay, count: int = 1) -> list[Occurrence]:
    """The newest `count` times at or before `now`, oldest first; those that the calendar reaches."""
    found: list[Occurrence] = []
    for occurrence in _backwards(spec, now, is_trading_day):
        if len(found) == count:
            break
        found.append(occurrence)
    return found[::-1]


def following(spec: TaskSpec, now: datetime, is_trading_day: IsTradingDay) -> Occurrence | None:
    """The next time after `now`; None when the calendar does not reach it."""
    if spec.every is not None:
        return _interval(_floor(now, spec.every) + spec.every)
    today = now.astimezone(NEW_YORK).date()
    for days in range(LONGEST_CLOSURE):
        occurrence = occurrence_on(spec, today + days * ONE_DAY, is_trading_day)
        if occurrence is not None and occurrence.at > now:
            return occurrence
    return None


def candidates(
    spec: TaskSpec, now: datetime, is_trading_day: IsTradingDay, since: datetime | None
) -> Sequence[Occurrence]:
    """The times that should have a run by now, oldest first; only those after `since`, when that is given."""
    times = newest(spec, now, is_trading_day, spec.makes_up)
    return [each for each in times if since is None or each.at > since]


def has_to_wait(
    spec: TaskSpec, trading_date: date, awaited: Sequence[Occurrence], ended: Collection[datetime], running: bool
) -> bool:
    """True while the run of `spec.after` for the same trading date has not ended.

    `awaited` are that task's candidates, `ended` those with a run that has ended
    for good; `running`: it runs for that date, by hand perhaps.
    """
    if spec.after is None:
        return False
    return running or any(each.trading_date == trading_date and each.at not in ended for each in awaited)


def _backwards(spec: TaskSpec, now: datetime, is_trading_day: IsTradingDay) -> Iterator[Occurrence]:
    if spec.every is not None:
        at = _floor(now, spec.every)
        while True:
            yield _interval(at)
            at -= spec.every
    today = now.astimezone(NEW_YORK).date()
    for days in range(LONGEST_CLOSURE + spec.makes_up):
        occurrence = occurrence_on(spec, today - days * ONE_DAY, is_trading_day)
        if occurrence is not None and occurrence.at <= now:
            yield occurrence


def _interval(at: datetime) -> Occurrence:
    return Occurrence(at, at.astimezone(NEW_YORK).date())


def _floor(at: datetime, step: timedelta) -> datetime:
    return at - (at - utc_time(0)) % step
