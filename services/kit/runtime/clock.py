"""The only place that reads the wall clock."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal, Protocol
from zoneinfo import ZoneInfo

NEW_YORK: Final = ZoneInfo("America/New_York")
NS_PER_MS: Final = 1_000_000
NS_PER_SECOND: Final = 1_000_000_000
NS_PER_MINUTE: Final = 60 * NS_PER_SECOND
# The sequencer's time is told once a second, and is late by less: a wall clock that differs by more is wrong.
WRONG_NS: Final = 5 * NS_PER_SECOND
# A sequencer that is away for longer is believed no more.
TOLD_NS: Final = 60 * NS_PER_SECOND
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def wall_ns() -> int:
    """Nanoseconds since 1970 UTC, by the wall clock."""
    return time.time_ns()


class RunningClock:
    """Seconds for which this process has run; look at it a few times a second.

    A standstill, which is nobody else's fault, counts as `most_seconds`.
    """

    def __init__(self, most_seconds: float = 0.25, now: Callable[[], float] = time.monotonic) -> None:
        self._most_seconds = most_seconds
        self._now = now
        self._looked_at = now()
        self._seconds = 0.0

    def __call__(self) -> float:
        now = self._now()
        self._seconds += min(now - self._looked_at, self._most_seconds)
        self._looked_at = now
        return self._seconds


def wall_seconds() -> int:
    """Whole seconds since 1970 UTC, by the wall clock: an epoch's number."""
    return time.time_ns() // NS_PER_SECOND


async def fresh_epoch() -> int:
    """An epoch that no earlier process can have had: the next whole second, after it has begun."""
    epoch = wall_seconds() + 1
    # The clock may be set back while we sleep.
    while (left := epoch * NS_PER_SECOND - wall_ns()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(left / NS_PER_SECOND)
    return epoch


def utc_now() -> datetime:
    """The wall clock's time, in UTC."""
    return datetime.now(UTC)


def new_york_today() -> date:
    """The wall clock's date in New York."""
    return datetime.now(NEW_YORK).date()


def utc_time(ns: int) -> datetime:
    """The UTC time of an instant, in nanoseconds since 1970 UTC, rounded down to the microsecond."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def new_york_time(ns: int) -> datetime:
    """The New York time of an instant, in nanoseconds since 1970 UTC, rounded down to the microsecond."""
    return utc_time(ns).astimezone(NEW_YORK)


def new_york_date(ns: int) -> date:
    """The New York date of an instant, in nanoseconds since 1970 UTC."""
    return new_york_time(ns).date()


def ns_of(time: datetime) -> int:
    """Nanoseconds since 1970 UTC of a time with a zone, exact."""
    return (time - _EPOCH) // _MICROSECOND * 1000


def monotonic_ns() -> int:
    """Nanoseconds that never go back, for measuring spans."""
    return time.monotonic_ns()


def monotonic() -> float:
    """Seconds that never go back, for measuring spans."""
    return time.monotonic()


class MeshClock(Protocol):
    """The mesh's now: the wall's or the feed's."""

    kind: Literal["wall", "feed"]

    def now_ns(self) -> int | None:
        """Nanoseconds since 1970 UTC; None while not known."""


class FollowingClock(MeshClock, Protocol):
    """A clock that is told the sequencer's time."""

    def advance(self, event_ns: int) -> bool:
        """Takes the sequencer's time; whether it moved the clock."""

    def reset(self, event_ns: int) -> None:
        """Takes a new epoch's time, which may be earlier."""


class WallClock:
    """The wall's time, but for a wall clock that is wrong: then the sequencer's, which the vendor has confirmed.

    `wall`, `steady`: this machine's clock, and one that is never set, in nanoseconds.
    """

    kind: Literal["wall", "feed"] = "wall"

    def __init__(self, wall: Callable[[], int] = wall_ns, steady: Callable[[], int] = time.monotonic_ns) -> None:
        self._wall = wall
        self._steady = steady
        # What is believed beyond the steady clock, and when the sequencer has last told its time; None before.
        self._offset = wall() - steady()
        self._told_at: int | None = None

    def now_ns(self) -> int | None:
        steady = self._steady()
        offset = self._wall() - steady
        is_told = self._told_at is not None and steady - self._told_at < TOLD_NS
        if not is_told or abs(offset - self._offset) < WRONG_NS:
            self._offset = offset
        return steady + self._offset

    def advance(self, event_ns: int) -> bool:
        """Takes the sequencer's time; whether it moved the clock."""
        before = self.now_ns()
        self._told_at = steady = self._steady()
        wall = self._wall()
        self._offset = (wall if abs(event_ns - wall) < WRONG_NS else event_ns) - steady
        return before is not None and abs(steady + self._offset - before) >= WRONG_NS

    def reset(self, event_ns: int) -> None:
        """A new epoch's time, which may be earlier."""
        self.advance(event_ns)


class FeedClock:
    """The newest event time of the stream; never goes back."""

    kind: Literal["wall", "feed"] = "feed"

    def __init__(self) -> None:
        self._event_ns: int | None = None

    def advance(self, event_ns: int) -> bool:
        """Takes an event time; whether it moved the clock."""
        if self._event_ns is not None and event_ns <= self._event_ns:
            return False
        self._event_ns = event_ns
        return True

    def reset(self, event_ns: int) -> None:
        """A new epoch's time, which may be earlier."""
        self._event_ns = event_ns

    def now_ns(self) -> int | None:
        return self._event_ns
