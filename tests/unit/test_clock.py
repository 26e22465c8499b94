"""Instants in nanoseconds and as times: exact both ways, and New York's by its own clock."""

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from services.kit.runtime.clock import NEW_YORK, NS_PER_SECOND, WallClock, new_york_date, new_york_time, ns_of, utc_time

# The hour before and after New York's clocks are set back, and a time far from any float's precision.
INSTANTS = [
    (0, "1970-01-01T00:00:00+00:00"),
    (1_762_063_200_000_000_000, "2025-11-02T06:00:00+00:00"),
    (1_762_059_600_000_001_000, "2025-11-02T05:00:00.000001+00:00"),
    (4_102_444_799_999_999_000, "2099-12-31T23:59:59.999999+00:00"),
]


@pytest.mark.parametrize(("ns", "text"), INSTANTS)
def test_there_and_back(ns: int, text: str) -> None:
    time = datetime.fromisoformat(text)
    assert utc_time(ns) == time and utc_time(ns).tzinfo is UTC
    assert ns_of(time) == ns
    assert ns_of(time.astimezone(NEW_YORK)) == ns
    assert ns_of(time.astimezone(timezone(timedelta(hours=5, minutes=30)))) == ns


def test_below_a_microsecond_is_rounded_down() -> None:
    assert utc_time(1_999) == utc_time(1_000)
    assert utc_time(-1) == datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


def test_new_york_has_its_own_hours_and_dates() -> None:
    before, after = 1_762_061_400_000_000_000, 1_762_065_000_000_000_000
    assert [f"{new_york_time(ns):%H:%M %Z}" for ns in (before, after)] == ["01:30 EDT", "01:30 EST"]
    assert ns_of(new_york_time(before)) == before and ns_of(new_york_time(after)) == after
    assert new_york_date(ns_of(datetime(2025, 11, 24, 4, 59, tzinfo=UTC))) == date(2025, 11, 23)
    assert new_york_date(ns_of(datetime(2025, 11, 24, 5, 0, tzinfo=UTC))) == date(2025, 11, 24)


def test_a_time_without_a_zone_is_no_instant() -> None:
    with pytest.raises(TypeError):
        ns_of(datetime(2025, 11, 24, 9, 30))


class Machine:
    """A machine's clock, `ahead` seconds ahead of the right one, and what a WallClock makes of it."""

    def __init__(self, ahead: float = 0) -> None:
        self.ahead = ahead
        self.seconds = 0.0
        self.clock = WallClock(lambda: self._ns(1_000_000 + self.seconds + self.ahead), lambda: self._ns(self.seconds))

    @staticmethod
    def _ns(seconds: float) -> int:
        return round(seconds * NS_PER_SECOND)

    def told(self, late: float = 0.3) -> bool:
        """The sequencer, whose time is right, tells it."""
        return self.clock.advance(self._ns(1_000_000 + self.seconds - late))

    @property
    def off(self) -> float:
        """How far the time that is shown is from the right one, in seconds."""
        return round((self.clock.now_ns() or 0) / NS_PER_SECOND - 1_000_000 - self.seconds, 3)


@pytest.mark.parametrize("ahead", [3600, -86_400])
def test_a_wall_clock_that_is_wrong_shows_the_sequencers_time(ahead: float) -> None:
    machine = Machine(ahead)
    assert machine.off == ahead
    assert machine.told() and machine.off == -0.3
    for _ in range(100):
        machine.seconds += 1
        assert not machine.told() and machine.off == -0.3
    # The sequencer is away, for some seconds and for good: nobody else knows better.
    machine.seconds += 50
    assert machine.off == -0.3
    machine.seconds += 11
    assert machine.off == ahead
    machine.ahead = 0
    machine.told()
    assert machine.off == 0


def test_a_wall_clock_that_is_right_is_exact_and_no_step_is_followed_while_the_sequencer_is_there() -> None:
    machine = Machine()
    assert not machine.told() and machine.off == 0
    machine.ahead = 3600
    assert machine.off == 0
    machine.seconds += 1
    assert not machine.told(0.9)
    assert machine.off == -0.9
    machine.ahead = 0
    machine.told()
    assert machine.off == 0
