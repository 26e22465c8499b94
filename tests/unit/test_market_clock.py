"""The market's time does not follow steps of this machine's clock that the vendor's events contradict."""

from types import SimpleNamespace
from typing import cast

import pytest
from structlog.testing import capture_logs

from services.data_ingest.feed.market_clock import FeedTimes, MarketClock
from services.data_ingest.journal import Recovered
from services.data_ingest.startup import is_behind_clock
from services.kit.runtime.clock import NS_PER_SECOND, wall_ns
from services.kit.runtime.errors import StartError
from services.kit.runtime.settings import Settings

START = 1_764_000_000
HOUR = 3600
DAY = 86_400
AHEAD = 30


class Market:
    """Half-second looks at a clock that can be set, and at a vendor whose events come at the right time, or do not."""

    def __init__(self) -> None:
        self.set_by = 0.0
        self.vendor_by = 0.0
        self.seconds = 0.0
        self.admitted = self.ahead = 0
        self.newest = 0.0
        self.stream = 0.0
        self.aside_at = 0.0
        self.begin()

    def begin(self, set_by: float = 0) -> None:
        """The sequencer begins, by a clock that is so many seconds ahead."""
        self.set_by = set_by
        self.stream = 0.0
        self.clock = MarketClock(lambda: self._ns(START + self.seconds + self.set_by), lambda: self._ns(self.seconds))

    def vendor_said(self) -> None:
        """The vendor's own clock is right, and tells whole seconds."""
        self.clock.vendor_said(self._ns(int(START + self.seconds) + 0.5), self._ns(self.stream))

    @staticmethod
    def _ns(seconds: float) -> int:
        return round(seconds * NS_PER_SECOND)

    @property
    def off(self) -> float:
        """How far the market's time is from the right one, in seconds."""
        return round(self.clock.now_ns() / NS_PER_SECOND - START - self.seconds, 3)

    def pass_by(self, seconds: float, events: int = AHEAD, *, is_closed: bool = False) -> None:
        for _ in range(round(seconds / 0.5)):
            self.seconds += 0.5
            self.stream = max(self.stream, self.clock.now_ns() / NS_PER_SECOND)
            time = START + self.seconds + self.vendor_by
            if time > self.clock.now_ns() / NS_PER_SECOND + 5:
                self.ahead += events
                self.aside_at = time
            elif events:
                self.admitted += events
                self.newest = max(self.newest, time)
            times = FeedTimes(self.admitted, self.ahead, self._ns(self.newest), self._ns(self.aside_at))
            self.clock.look(times, self._ns(self.stream), is_closed)


@pytest.fixture
def market() -> Market:
    market = Market()
    market.pass_by(10)
    assert market.off == 0 and market.clock.warning is None
    return market


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_step_for_some_seconds_or_for_good_is_not_followed_while_events_contradict_it(
    market: Market, step: int
) -> None:
    market.set_by = step
    market.pass_by(300)
    assert market.off == 0
    assert market.clock.warning == (
        f"this machine's clock is 3,600 s {'ahead of' if step > 0 else 'behind'} the vendor's, which is followed until "
        "the clock is right"
    )
    assert market.clock.differs_seconds == step
    market.set_by = 0
    market.pass_by(1)
    assert market.off == 0 and market.clock.warning is None and market.clock.differs_seconds == 0


def test_a_clock_that_is_set_right_is_followed_as_soon_as_events_say_so() -> None:
    """It was an hour behind from the start: every event was ahead of time."""
    market = Market()
    market.begin(-HOUR)
    market.pass_by(10)
    assert market.admitted == 0
    market.set_by = 0
    market.pass_by(1)
    assert market.off == 0 and market.clock.warning is None
    market.pass_by(1)
    assert market.admitted == 3 * AHEAD


def test_a_machine_that_slept_goes_on_with_the_right_time(market: Market) -> None:
    """Its steady clock stood still meanwhile."""
    asleep = 2 * HOUR
    market.set_by = market.vendor_by = asleep
    market.pass_by(1)
    assert market.off == asleep


def test_a_clock_that_is_set_back_rightly_ends_the_stream_that_is_ahead_of_it() -> None:
    market = Market()
    market.begin(HOUR)
    market.pass_by(10)
    assert market.off == HOUR
    market.set_by = 0
    with pytest.raises(StartError, match=r"clock was 3600 s ahead, and so is the stream, which begins again"):
        market.pass_by(1)


def test_without_events_a_step_is_followed_after_a_minute(market: Market) -> None:
    market.set_by = HOUR
    market.pass_by(59, events=0, is_closed=True)
    assert market.off == 0
    assert market.clock.warning == (
        "this machine's clock was set ahead by 3,600 s: it is not followed until events of that time come, or none for "
        "a minute"
    )
    market.pass_by(2, events=0, is_closed=True)
    assert market.off == HOUR


def test_a_clock_that_is_slewed_is_followed(market: Market) -> None:
    for _ in range(100):
        market.set_by += 0.1
        market.pass_by(0.5)
        assert market.off == round(market.set_by, 3)


@pytest.mark.parametrize("seconds", [HOUR, -HOUR, DAY, -DAY])
@pytest.mark.parametrize("events", [AHEAD, 0])
def test_a_clock_that_is_wrong_at_the_start_is_not_followed(seconds: int, events: int) -> None:
    """The vendor's own clock is asked before the stream begins, and now and then."""
    market = Market()
    market.begin(seconds)
    market.vendor_said()
    for _ in range(10):
        market.pass_by(30, events)
        market.vendor_said()
        assert abs(market.off) < 1
        assert market.clock.differs_seconds == pytest.approx(seconds, abs=1)
        way = "ahead of" if seconds > 0 else "behind"
        assert str(market.clock.warning).endswith(f" s {way} the vendor's, which is followed until the clock is right")
    market.set_by = 0
    market.pass_by(1, events)
    assert market.off == 0 and market.clock.warning is None


def test_a_clock_that_was_wrong_at_the_start_is_not_followed_while_nobody_says_anything() -> None:
    market = Market()
    market.begin(HOUR)
    market.vendor_said()
    market.pass_by(600, events=0, is_closed=True)
    assert abs(market.off) < 1


def test_a_vendor_who_answers_late_sets_a_clock_right_that_was_wrong_from_the_start() -> None:
    behind, ahead = Market(), Market()
    behind.begin(-HOUR)
    behind.pass_by(10, events=1)
    behind.vendor_said()
    behind.pass_by(1)
    assert abs(behind.off) < 1 and behind.admitted > 0
    ahead.begin(HOUR)
    ahead.pass_by(10, events=1)
    with pytest.raises(StartError, match=r"clock was \d+ s ahead, and so is the stream, which begins again"):
        ahead.vendor_said()


def test_a_vendor_whose_clock_is_wrong_is_not_believed_while_events_come_in_time(market: Market) -> None:
    market.clock.vendor_said(market._ns(START + market.seconds + HOUR), market._ns(market.stream))
    market.pass_by(1)
    assert market.off == 0 and market.clock.warning is None


@pytest.mark.parametrize(("is_vendor", "seconds"), [(True, HOUR), (True, -HOUR), (False, HOUR), (False, -DAY)])
def test_events_of_another_time_are_named_once(is_vendor: bool, seconds: int) -> None:
    """Of the vendor's two clocks one is wrong, or its clock cannot be read."""
    market = Market()
    if is_vendor:
        market.vendor_by = seconds
        market.vendor_said()
    else:
        market.begin(seconds)
    market.pass_by(25)
    assert market.clock.warning is None
    with capture_logs() as logs:
        market.pass_by(60)
    by = seconds if is_vendor else -seconds
    way = "ahead, and set aside" if by > 0 else "behind: rows are as old"
    assert market.clock.warning == (
        f"this machine's clock and the vendor's events differ by {abs(by):,} s: the events are {way}; set the clock "
        "right, or TRADEUL_CLOCK=feed for a vendor whose data are late"
    )
    assert market.clock.differs_seconds == pytest.approx(-by, abs=0.5)
    assert [each["event"] for each in logs] == ["this machine's clock and the vendor's events differ"]


def test_a_few_late_events_of_a_quiet_market_are_no_wrong_clock(market: Market) -> None:
    market.pass_by(600, events=0)
    market.vendor_by = -300
    market.pass_by(45, events=1)
    assert market.clock.warning is None


def test_a_leaders_market_that_is_ahead_of_this_machines_clock_is_not_continued() -> None:
    """Its clock was wrong, and it has ended because of that."""

    def of(ns: int) -> Recovered:
        return cast(Recovered, SimpleNamespace(rows=SimpleNamespace(now_ns=ns)))

    by_wall, by_feed = (Settings.load({"TRADEUL_CLOCK": clock}) for clock in ("wall", "feed"))
    ahead = wall_ns() + HOUR * NS_PER_SECOND
    assert not is_behind_clock(by_wall, of(ahead), MarketClock())
    assert is_behind_clock(by_wall, of(wall_ns()), MarketClock())
    assert is_behind_clock(by_feed, of(ahead), MarketClock())
