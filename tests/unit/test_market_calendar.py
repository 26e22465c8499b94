"""The trading calendar against the exchange's written rules, and its edges."""

import random
from datetime import UTC, date, datetime, time, timedelta

import pytest
from tradeul.v1 import market_session_pb2

from services.kit.runtime.clock import NS_PER_SECOND, ns_of
from services.kit.runtime.errors import ServiceError
from services.kit.vendor.models import MarketHoliday
from services.market.calendar import Calendar, Session, TradingDay, nyse_calendar
from services.market.calendar_client import CalendarClient
from services.market.closures import Change, Closures, Unusable, read_holidays
from services.market.dates import parse_date
from services.market_session import core
from tests.support import nyse_twin

FIRST, LAST = date(2015, 1, 1), date(2030, 12, 31)


@pytest.fixture(scope="module")
def nyse() -> Calendar:
    return nyse_calendar(date(2026, 3, 10))


def dates(first: date, last: date) -> list[date]:
    return [first + timedelta(days=i) for i in range((last - first).days + 1)]


def utc(text: str) -> datetime:
    """A New York time as UTC, by the twin's daylight-saving law."""
    local = datetime.fromisoformat(text)
    for hours in (4, 5):
        moment = (local + timedelta(hours=hours)).replace(tzinfo=UTC)
        if nyse_twin.new_york(moment) == local:
            return moment
    raise AssertionError(f"{text} does not exist in New York")


def test_every_day_of_sixteen_years(nyse: Calendar) -> None:
    """Open or not, early or not, and all four times."""
    for on in dates(FIRST, LAST):
        day = nyse.get(on)
        assert (day is not None) == nyse_twin.is_trading_day(on), on
        if day is not None:
            assert day.is_early_close == nyse_twin.is_early_close(on), on
            close, end = ("13:00", "17:00") if day.is_early_close else ("16:00", "20:00")
            expected = [ns_of(utc(f"{on} {clock}")) for clock in ("04:00", "09:30", close, end)]
            assert list(day[1:5]) == expected, on


def test_sessions_at_random_moments(nyse: Calendar) -> None:
    rng = random.Random(7)
    begin = datetime(2015, 1, 2, tzinfo=UTC)
    seconds = int((datetime(2030, 12, 20, tzinfo=UTC) - begin).total_seconds())
    for _ in range(3000):
        moment = begin + timedelta(seconds=rng.randrange(seconds))
        compare(nyse, moment)


@pytest.mark.parametrize(
    "day",
    # Usual days, the two changes of the clocks, early closes, holidays, a long weekend, the turn of a year.
    ["2026-03-10", "2026-03-06", "2026-03-08", "2026-03-09", "2026-10-30", "2026-11-01", "2026-11-02", "2026-11-27",
     "2026-12-24", "2026-07-02", "2026-07-03", "2025-07-03", "2018-12-05", "2026-12-31", "2027-01-01", "2028-01-01"],
)  # fmt: skip
def test_sessions_around_every_change_of_a_day(nyse: Calendar, day: str) -> None:
    for clock in ("00:00", "04:00", "09:30", "13:00", "16:00", "17:00", "20:00", "23:59"):
        for seconds in (-1, 0, 1):
            compare(nyse, utc(f"{day} {clock}") + timedelta(seconds=seconds))


def compare(calendar: Calendar, moment: datetime) -> None:
    found = calendar.session_at(ns_of(moment))
    local = nyse_twin.new_york(moment).date()
    assert found.session.name == nyse_twin.session(moment), moment
    name, at = nyse_twin.next_change(moment)
    assert (found.next_session.name, found.next_session_ns) == (name, ns_of(at)), moment
    is_open = nyse_twin.is_trading_day(local)
    assert (found.day is not None) == is_open
    assert found.is_holiday == (not is_open and local.weekday() < nyse_twin.SATURDAY)
    trading_date = local
    while not nyse_twin.is_trading_day(trading_date):
        trading_date += timedelta(days=1)
    assert found.trading_date == trading_date


def test_the_last_nanosecond_of_a_session(nyse: Calendar) -> None:
    opening = ns_of(utc("2026-03-10 09:30"))
    assert nyse.session_at(opening - 1).session is Session.PRE_MARKET
    assert nyse.session_at(opening).session is Session.MARKET_OPEN


def test_neighbours_and_ranges(nyse: Calendar) -> None:
    friday, monday = date(2026, 4, 2), date(2026, 4, 6)  # Good Friday lies between.
    assert nyse.after(friday).date == monday
    assert nyse.before(monday).date == friday
    assert [day.date for day in nyse.between(friday, monday)] == [friday, monday]
    assert nyse.between(date(2026, 4, 3), date(2026, 4, 5)) == ()


def test_outside_of_the_calendar(nyse: Calendar) -> None:
    for ask in (
        lambda: nyse.get(date(1999, 12, 31)),
        lambda: nyse.after(nyse.last),
        lambda: nyse.before(nyse.first),
        lambda: nyse.between(date(2026, 1, 1), date(2040, 1, 1)),
        lambda: nyse.session_at(0),
    ):
        with pytest.raises(ServiceError) as caught:
            ask()
        assert caught.value.reason.name == "DATE_OUT_OF_CALENDAR"


def test_days_around_a_time_and_a_date(nyse: Calendar) -> None:
    # From the Wednesday before Good Friday on.
    calendar = Calendar(nyse.between(date(2026, 4, 1), date(2026, 4, 8)))
    wednesday, thursday, monday, tuesday, last = calendar.days
    assert (calendar.first, calendar.last) == (wednesday.date, last.date)
    assert [day.next_date for day in calendar.days] == [*(each.date for each in calendar.days[1:]), None]
    # A day is in force from its 04:00 until the next one's.
    assert calendar.in_force(wednesday.pre_market_start_ns - 1) is None
    assert calendar.in_force(thursday.pre_market_start_ns - 1) == wednesday
    assert calendar.in_force(monday.pre_market_start_ns - 1) == thursday
    assert calendar.in_force(monday.pre_market_start_ns) == monday
    # A feed begins with its date, though its sessions have not begun.
    assert calendar.startup_day(monday.pre_market_start_ns - 1) == monday
    assert calendar.startup_day(ns_of(utc("2026-04-04 12:00"))) == thursday
    assert (calendar.all_after(monday.date), calendar.all_after(last.date)) == ((tuesday, last), ())
    assert calendar.all_before(date(2026, 4, 3)) == (wednesday, thursday)
    found = [calendar.find(on) for on in (monday.date, date(2026, 4, 3), date(2030, 1, 2))]
    assert found == [monday, None, None]
    for days in ([], [tuesday, monday], [monday, monday]):
        with pytest.raises(ValueError, match="expected trading days"):
            Calendar(days)


def test_days_as_messages(nyse: Calendar) -> None:
    for day in nyse.between(date(2026, 11, 24), date(2026, 11, 30)):
        assert TradingDay.of_info(day.info()) == day._replace(next_date=None)
        assert TradingDay.of_frame(day.frame()) == day
    wrong = nyse.on(date(2026, 11, 24)).info()
    wrong.market_open_ns = wrong.market_close_ns
    with pytest.raises(ValueError, match="expected ascending times"):
        TradingDay.of_info(wrong)


class Stub:
    """market_session, which gives these answers one after the other."""

    def __init__(self, *answers: Exception | list[TradingDay]) -> None:
        self.answers = list(answers)
        self.requests: list[market_session_pb2.ListTradingDaysRequest] = []

    async def ListTradingDays(
        self,
        request: market_session_pb2.ListTradingDaysRequest,
        *,
        timeout: float,  # noqa: ASYNC109 - the name is gRPC's
    ) -> market_session_pb2.ListTradingDaysResponse:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return market_session_pb2.ListTradingDaysResponse(days=[day.info() for day in answer])


class FailedCall(Exception):
    def details(self) -> str:
        return "no market_session"


async def test_the_client_reads_the_calendar_until_it_has_one(nyse: Calendar) -> None:
    days = list(nyse.between(date(2026, 4, 1), date(2026, 4, 8)))
    stub = Stub(FailedCall(), [], days, KeyError("a defect"))
    client = CalendarClient(stub)
    calendar = await client.calendar(date(2026, 4, 8))
    assert [day.date for day in calendar.days] == [day.date for day in days]
    assert {(each.start_date, each.end_date) for each in stub.requests} == {("2025-04-08", "2026-05-08")}
    with pytest.raises(KeyError):
        await client.calendar(date(2026, 4, 8))


@pytest.mark.parametrize("text", ["", "2026-3-10", "20260310", "2026-02-30", "2026-W10-2", "10/03/2026", "tomorrow"])
def test_wrong_dates(text: str) -> None:
    with pytest.raises(ServiceError) as caught:
        parse_date(text, "date")
    assert caught.value.reason.name == "INVALID_DATE"
    assert "date: expected YYYY-MM-DD" in caught.value.message


def listed(calendar: Calendar, start: str, end: str) -> list[str]:
    request = market_session_pb2.ListTradingDaysRequest(start_date=start, end_date=end)
    return [day.date for day in core.list_trading_days(calendar, request).days]


def test_ranges_are_bounded(nyse: Calendar) -> None:
    assert len(listed(nyse, "2025-01-01", "2025-12-31")) == 250
    for start, end in (("2025-01-01", "2026-02-06"), ("2025-01-02", "2025-01-01")):
        with pytest.raises(ServiceError) as caught:
            listed(nyse, start, end)
        assert caught.value.reason.name == "INVALID_DATE"


def row(on: str, status: str, close: str | None = None, exchange: str = "NYSE") -> MarketHoliday:
    return MarketHoliday(date=on, exchange=exchange, status=status, name="Mourning", close=close)


def test_the_vendors_rows() -> None:
    found = list(
        read_holidays(
            [
                row("2026-03-12", "closed"),
                row("2026-03-12", "closed", exchange="OTC"),
                row("2026-03-13", "early-close", "2026-03-13T17:00:00.000Z"),
                row("2026-03-13", "early-close"),
                row("2026-03-13", "early-close", "2026-03-13T21:00:00.000Z"),
                row("2026-03-13", "early-close", "2026-03-12T17:00:00.000Z"),
                row("2026-03-13", "early-close", "13:00"),
                row("2026-13-13", "closed"),
                row("2026-03-16", "flooded"),
            ]
        )
    )
    assert found[:2] == [Change(date(2026, 3, 12), None), Change(date(2026, 3, 13), time(13, 0))]
    reasons = [each.reason for each in found[2:] if isinstance(each, Unusable)]
    assert reasons == ["holiday_close"] * 4 + ["holiday_date", "holiday_status"]


def test_a_calendar_with_changes_shares_all_other_days(nyse: Calendar) -> None:
    """They are 8,000, and a process has three such calendars for a moment."""
    closed, early = date(2025, 12, 3), date(2025, 12, 17)
    changed = nyse.with_changes({closed: None, early: time(13, 0)})
    new = [day.date for day in changed.days if day is not nyse.find(day.date)]
    # That before a day that is closed now has another next day.
    assert new == [date(2025, 12, 2), early]
    assert changed.on(date(2025, 12, 2)).next_date == date(2025, 12, 4)


def test_the_vendor_adds_closures_and_takes_them_back(nyse: Calendar) -> None:
    closures = Closures(nyse)
    today, near, far = date(2026, 3, 10), date(2026, 3, 12), date(2026, 3, 13)
    # What the calendar knows is no news, and it opens no holiday.
    known = Change(date(2026, 4, 3), None)
    calendar, news = closures.take([known, Change(near, None), Change(far, time(13))], today)
    assert news == [Change(near, None), Change(far, time(13))]
    assert calendar.get(near) is None
    assert calendar.session_at(ns_of(utc("2026-03-12 10:00"))).is_holiday
    assert calendar.on(far) == TradingDay.by_rule(far, time(13))._replace(next_date=nyse.after(far).date)
    # A day that has come is no longer named, and stays closed; one to come is taken back.
    calendar, news = closures.take([], near)
    assert news == []
    assert calendar.get(near) is None
    assert calendar.on(far) == nyse.on(far)
    assert calendar.on(far).market_close_ns - calendar.on(far).market_open_ns == 6.5 * 3600 * NS_PER_SECOND
