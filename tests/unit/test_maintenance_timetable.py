"""The timetable over whole years, days on which clocks change included, against plain enumerations."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.data_maintenance import core
from services.data_maintenance.core import TASKS, Days, Occurrence, TaskSpec
from services.market.calendar import TradingDay, nyse_calendar, session_starts
from tests.support.nyse_twin import is_early_close, is_trading_day, new_york

NEW_YORK = ZoneInfo("America/New_York")
SPECS = {spec.name: spec for spec in TASKS}
TIMED = [spec for spec in TASKS if spec.at is not None]
FIRST, LAST = date(2025, 1, 1), date(2026, 12, 31)


def trading_close(on: date) -> time | None:
    if not is_trading_day(on):
        return None
    return time(13) if is_early_close(on) else time(16)


def dates() -> list[date]:
    return [FIRST + timedelta(days=n) for n in range((LAST - FIRST).days + 1)]


def first_moment(on: date, at: time) -> datetime:
    """Step by step through UTC: the first moment at which New York shows that time of the date, or a later one."""
    moment = datetime(on.year, on.month, on.day, 4, tzinfo=UTC)
    while new_york(moment) < datetime.combine(on, at):
        moment += timedelta(minutes=30)
    return moment


def enumerated(spec: TaskSpec) -> list[Occurrence]:
    assert spec.at is not None
    found = []
    for on in dates():
        about = on - timedelta(days=1) if spec.days is Days.AFTER_TRADING_DAYS else on
        if spec.days is Days.DAILY or is_trading_day(about):
            found.append(Occurrence(first_moment(on, spec.at), about))
    return found


def test_the_table_is_the_contracts() -> None:
    at = {spec.name: spec.at for spec in TIMED}
    assert at.items() >= {
        ("enrich_metadata", time(2)),
        ("calculate_atr", time(1)),
        ("load_ohlc", time(18)),
        ("load_volume_slots", time(1, 30)),
    }
    assert SPECS["sync_redis"].every == timedelta(minutes=5)
    assert SPECS["load_ohlc"].days is Days.TRADING_DAYS
    assert SPECS["calculate_atr"].days is SPECS["load_volume_slots"].days is Days.AFTER_TRADING_DAYS


@pytest.mark.parametrize("spec", TIMED, ids=lambda spec: spec.name)
def test_two_years_of_a_task_are_as_enumerated(spec: TaskSpec) -> None:
    expected = enumerated(spec)
    found = []
    now = datetime.combine(FIRST, time(), NEW_YORK).astimezone(UTC) - timedelta(seconds=1)
    while (following := core.following(spec, now, is_trading_day)) is not None:
        if following.at > expected[-1].at:
            break
        found.append(following)
        now = following.at
    assert found == expected
    # Backwards is the same.
    assert core.newest(spec, expected[-1].at, is_trading_day, 10) == expected[-10:]
    just_before = expected[-1].at - timedelta(microseconds=1)
    assert core.newest(spec, just_before, is_trading_day) == [expected[-2]]


def test_nights_when_clocks_change() -> None:
    spring, autumn = date(2026, 3, 8), date(2026, 11, 1)
    enrich, house = SPECS["enrich_metadata"], SPECS["housekeeping"]
    # 02:00 does not exist: what would be 02:00 is 03:00.
    assert core.occurrence_on(enrich, spring, is_trading_day).at == datetime(2026, 3, 8, 7, tzinfo=UTC)
    assert core.occurrence_on(house, spring, is_trading_day).at == datetime(2026, 3, 8, 7, tzinfo=UTC)
    # 01:00 comes twice: the first counts, once.
    daily = TaskSpec("x", "", Days.DAILY, at=time(1))
    first = core.occurrence_on(daily, autumn, is_trading_day)
    assert first.at == datetime(2026, 11, 1, 5, tzinfo=UTC)
    assert core.following(daily, first.at, is_trading_day).trading_date == date(2026, 11, 2)


def test_weekends_holidays_and_early_closes() -> None:
    ohlc, atr = SPECS["load_ohlc"], SPECS["calculate_atr"]
    # Thanksgiving 2025: Thursday closed, Friday until 13:00.
    assert core.occurrence_on(ohlc, date(2025, 11, 27), is_trading_day) is None
    assert core.occurrence_on(atr, date(2025, 11, 28), is_trading_day) is None
    assert core.occurrence_on(ohlc, date(2025, 11, 28), is_trading_day).at == datetime(2025, 11, 28, 23, tzinfo=UTC)
    assert core.occurrence_on(atr, date(2025, 11, 29), is_trading_day).trading_date == date(2025, 11, 28)
    # Friday's is Monday morning's newest.
    monday = datetime(2025, 12, 1, 14, tzinfo=UTC)
    assert [each.trading_date for each in core.newest(atr, monday, is_trading_day)] == [date(2025, 11, 28)]


def test_every_five_minutes_through_the_hour_that_comes_twice() -> None:
    sync = SPECS["sync_redis"]
    now, times = datetime(2026, 11, 1, 4, 58, tzinfo=UTC), []
    while now < datetime(2026, 11, 1, 7, 2, tzinfo=UTC):
        now = core.following(sync, now, is_trading_day).at
        times.append(now)
    assert times == [datetime(2026, 11, 1, 5, tzinfo=UTC) + timedelta(minutes=5 * n) for n in range(26)]
    assert core.newest(sync, times[3] + timedelta(seconds=299), is_trading_day) == [
        Occurrence(times[3], date(2026, 11, 1))
    ]


def test_what_is_made_up_for() -> None:
    now = datetime(2025, 12, 3, 14, tzinfo=UTC)
    ohlc = core.candidates(SPECS["load_ohlc"], now, is_trading_day, None)
    assert [str(each.trading_date) for each in ohlc] == [
        "2025-11-25", "2025-11-26", "2025-11-28", "2025-12-01", "2025-12-02",
    ]  # fmt: skip
    assert len(core.candidates(SPECS["enrich_metadata"], now, is_trading_day, None)) == 1
    # Without catching up only what comes after the start.
    assert core.candidates(SPECS["load_ohlc"], now, is_trading_day, now) == []
    assert core.candidates(SPECS["load_ohlc"], now, is_trading_day, now - timedelta(days=1)) == ohlc[-1:]


def test_atr_waits_for_the_bars_of_its_day() -> None:
    atr, ohlc = SPECS["calculate_atr"], SPECS["load_ohlc"]
    now = datetime(2025, 12, 3, 14, tzinfo=UTC)
    awaited = core.candidates(ohlc, now, is_trading_day, None)
    day, at = date(2025, 12, 2), awaited[-1].at

    def wait(ended: set[datetime], running: bool) -> bool:
        return core.has_to_wait(atr, day, awaited, ended, running)

    assert wait(set(), False)
    assert wait({awaited[0].at}, False)
    assert not wait({at}, False)
    assert wait({at}, True)
    # Nobody will load the bars of a day whose time is not made up for.
    assert not core.has_to_wait(atr, day, [], set(), False)
    assert not core.has_to_wait(ohlc, day, awaited, set(), False)


def test_sessions_of_a_year_follow_each_other() -> None:
    days = [TradingDay(*day) for day in nyse_calendar(FIRST).between(FIRST, date(2025, 12, 31))]
    since, until = datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 12, tzinfo=UTC)
    starts = session_starts(days, since, until)
    expected = []
    for on in dates():
        if on.year == 2025 and (close := trading_close(on)) is not None:
            post_end = (datetime.combine(on, close) + timedelta(hours=4)).time()
            for session, at in zip(
                ("PRE_MARKET", "MARKET_OPEN", "POST_MARKET", "CLOSED"),
                (time(4), time(9, 30), close, post_end),
                strict=True,
            ):
                expected.append((datetime.combine(on, at, NEW_YORK).astimezone(UTC), session, on, close < time(16)))
    assert [tuple(start) for start in starts] == expected
    middle = starts[100].began_at
    assert session_starts(days, middle, until) == starts[101:]
    assert session_starts(days, since, middle) == starts[:101]
