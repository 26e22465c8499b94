"""The New York Stock Exchange's calendar by its written rules, for 2015 to 2030; slow and obvious.

Holidays and early closes are computed from the exchange's rules, sessions by
comparing texts of New York's time, New York's time by the daylight-saving law.
"""

import functools
from datetime import UTC, date, datetime, timedelta

SATURDAY, SUNDAY = 5, 6
# Closures by proclamation: Sandy is before 2015; Presidents Bush and Carter mourned.
PROCLAIMED = {date(2018, 12, 5), date(2025, 1, 9)}


@functools.cache
def nth(year: int, month: int, weekday: int, n: int) -> date:
    """The n-th such weekday of a month; -1 for the last."""
    days = [date(year, month, 1) + timedelta(days=i) for i in range(31)]
    matching = [day for day in days if day.month == month and day.weekday() == weekday]
    return matching[n - 1 if n > 0 else n]


def easter(year: int) -> date:
    """Gauss's algorithm as Meeus gives it."""
    a, b, c = year % 19, year // 100, year % 100
    d, e = divmod(b, 4)
    g = (8 * b + 13) // 25
    h = (19 * a + b - d - g + 15) % 30
    i, k = divmod(c, 4)
    el = (32 + 2 * e + 2 * i - h - k) % 7
    m = (a + 11 * h + 19 * el) // 433
    month = (h + el - 7 * m + 90) // 25
    return date(year, month, (h + el - 7 * m + 33 * month + 19) % 32)


def observed(day: date) -> date:
    """A holiday on a Saturday is kept on Friday, one on a Sunday on Monday."""
    if day.weekday() == SATURDAY:
        return day - timedelta(days=1)
    return day + timedelta(days=1) if day.weekday() == SUNDAY else day


@functools.cache
def holidays(year: int) -> set[date]:
    days = {
        nth(year, 1, 0, 3),
        nth(year, 2, 0, 3),
        easter(year) - timedelta(days=2),
        nth(year, 5, 0, -1),
        observed(date(year, 7, 4)),
        nth(year, 9, 0, 1),
        nth(year, 11, 3, 4),
        observed(date(year, 12, 25)),
    }
    # Rule 7.2: no Friday is given for a New Year's Day on a Saturday, since it ends the year's accounts.
    if date(year, 1, 1).weekday() != SATURDAY:
        days.add(observed(date(year, 1, 1)))
    if year >= 2022:
        days.add(observed(date(year, 6, 19)))
    return days | PROCLAIMED


def is_trading_day(day: date) -> bool:
    return day.weekday() < SATURDAY and day not in holidays(day.year)


def is_early_close(day: date) -> bool:
    """The day before Independence Day and Christmas Eve, and the day after Thanksgiving, if they are trading days."""
    names = {date(day.year, 7, 3), date(day.year, 12, 24), nth(day.year, 11, 3, 4) + timedelta(days=1)}
    return day in names and is_trading_day(day)


def new_york(moment: datetime) -> datetime:
    """A UTC time as New York's clocks show it: from 2:00 on March's second Sunday to 2:00 on November's first."""
    begins = datetime.combine(nth(moment.year, 3, SUNDAY, 2), datetime.min.time(), UTC) + timedelta(hours=7)
    ends = datetime.combine(nth(moment.year, 11, SUNDAY, 1), datetime.min.time(), UTC) + timedelta(hours=6)
    return (moment - timedelta(hours=4 if begins <= moment < ends else 5)).replace(tzinfo=None)


def session(moment: datetime) -> str:
    """The session's name at a UTC time."""
    local = new_york(moment)
    day, clock = local.date(), local.strftime("%H:%M:%S")
    if not is_trading_day(day):
        return "CLOSED"
    close, end = ("13:00:00", "17:00:00") if is_early_close(day) else ("16:00:00", "20:00:00")
    if "04:00:00" <= clock < "09:30:00":
        return "PRE_MARKET"
    if "09:30:00" <= clock < close:
        return "MARKET_OPEN"
    if close <= clock < end:
        return "POST_MARKET"
    return "CLOSED"


def next_change(moment: datetime) -> tuple[str, datetime]:
    """The next session and the minute at which it begins, found by looking at every minute."""
    now = session(moment)
    minute = moment.replace(second=0, microsecond=0)
    while True:
        minute += timedelta(minutes=1)
        # Nights and weekends are long: no session begins in a quarter of an hour's middle.
        if minute.minute % 30 == 0 and (name := session(minute)) != now:
            return name, minute
