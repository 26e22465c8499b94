"""The market's time with TRADEUL_CLOCK=wall: this machine's clock, unless the vendor contradicts it.

The stream's time never goes back. Taken from a clock that was set an hour ahead for a second, it would stay there for
an hour: every row an hour old, every window empty. So a step is not followed before something confirms it, and neither
is a clock that was wrong when the mesh started: the vendor's own clock is asked then, and now and then.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from services.kit.runtime.clock import NS_PER_SECOND, monotonic_ns, wall_ns
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

# A clock that is slewed, or read late, is off by less between two readings, which come with each batch and watermark.
STEP_NS: Final = 2 * NS_PER_SECOND
# The vendor tells its time in whole seconds, over a line: clocks that are nearer to each other agree.
AGREE_NS: Final = 5 * NS_PER_SECOND
# A step is followed if nothing has ever contradicted it for so long.
FOLLOW_NS: Final = 60 * NS_PER_SECOND
# What events have said is believed for so long, whatever the vendor's clock says.
CONFIRMED_NS: Final = 60 * NS_PER_SECOND
# So many events that were set aside because of their time, and none that is admitted, speak for another time.
MIN_ASIDE: Final = 20
# So long, and with so many events, these are so far behind that the clock or the vendor's data are wrong; while the
# market is closed by the clock, what comes is late anyway.
BEHIND_NS: Final = 60 * NS_PER_SECOND
BEHIND_CLOSED_NS: Final = 900 * NS_PER_SECOND
DIFFER_FOR_NS: Final = 30 * NS_PER_SECOND
MIN_DIFFERENT: Final = 100


class FeedTimes(NamedTuple):
    """Times of the feed: events since the start, and the times of the newest ones in ns since 1970 UTC.

    `aside`: those that were set aside because of their time. A time is 0 before the first such event.
    """

    admitted: int = 0
    aside: int = 0
    newest_ns: int = 0
    aside_ns: int = 0


class _Difference(NamedTuple):
    """Since when (steady), and since how many events, events have come that are `ns` ahead of the clock."""

    since: int
    events: int
    ns: int


class MarketClock:
    """Nanoseconds since 1970 UTC. `warning`: why this clock, or the vendor's, cannot be right; None while it may be.

    A MeshClock. `differs_seconds`: how far this machine's clock is ahead of the vendor's or its events; 0 while they
    agree. `wall`, `steady`: this machine's clock, and one that is never set.
    """

    kind: Literal["wall", "feed"] = "wall"

    def __init__(self, wall: Callable[[], int] = wall_ns, steady: Callable[[], int] = monotonic_ns) -> None:
        self.warning: str | None = None
        self.differs_seconds = 0.0
        self._wall = wall
        self._steady = steady
        # What the clock says beyond the steady one, as far as it is believed.
        self._offset = wall() - steady()
        # The step that is not; and since when nothing speaks against it, and whether something ever did; 0 for none.
        self._step = 0
        self._unopposed_since = 0
        self._is_opposed = False
        self._times = FeedTimes()
        # When events last had our time; None before.
        self._confirmed_at: int | None = None
        self._difference: _Difference | None = None
        self._is_named = False

    def now_ns(self) -> int:
        """The time, without a step that nothing has confirmed."""
        steady = self._steady()
        offset = self._wall() - steady
        step = offset - self._offset
        if abs(step) < STEP_NS:
            self._offset = offset
            step = 0
        if abs(step - self._step) >= STEP_NS or (not step and self._step):
            self._stepped(step, steady)
        return steady + self._offset

    def _stepped(self, step: int, steady: int) -> None:
        if step:
            log.error("this machine's clock was set: it is not followed until that is confirmed", seconds=step / 1e9)
        else:
            log.warning("this machine's clock is right again", seconds=self._step / 1e9)
        self._step, self._unopposed_since, self._is_opposed = step, steady, False

    def vendor_said(self, vendor_ns: int, stream_ns: int = 0) -> None:
        """Compares the clock with the vendor's own, which has just been read; events know it better.

        `stream_ns`: the stream's time, 0 before it has begun. Raises StartError when that turns out to be ahead: the
        stream has to begin again.
        """
        now_ns, steady = self.now_ns(), self._steady()
        if self._confirmed_at is not None and steady - self._confirmed_at < CONFIRMED_NS:
            return
        if self._step and abs(vendor_ns - now_ns - self._step) < min(AGREE_NS, abs(vendor_ns - now_ns)):
            self._follow(stream_ns)
        elif abs(vendor_ns - now_ns) < AGREE_NS:
            self._oppose(steady)
        else:
            self._offset = vendor_ns - steady
            self._step = step = self._wall() - vendor_ns
            self._oppose(steady)
            log.error("this machine's clock is wrong, and the vendor's is followed", ahead_seconds=step / 1e9)
            self._check_stream(stream_ns, vendor_ns)

    def look(self, times: FeedTimes, stream_ns: int, is_closed: bool) -> None:
        """Compares the clock with the feed's events; call it about once a second.

        `stream_ns`: the stream's time, which cannot go back. Raises StartError when the clock was wrong and is behind
        that now: the stream has to begin again.
        """
        now_ns, steady, before = self.now_ns(), self._steady(), self._times
        came, came_aside = times.admitted - before.admitted, times.aside - before.aside
        event_ns: int | None = None
        if came:
            event_ns = times.newest_ns if times.newest_ns != before.newest_ns else None
            if event_ns is not None and abs(event_ns - now_ns) < AGREE_NS:
                self._confirmed_at = steady
        elif came_aside >= MIN_ASIDE:
            event_ns = times.aside_ns
        # While a step is not followed, those set aside add up.
        self._times = times if came or not self._step else times._replace(aside=before.aside)
        if self._step:
            self._judge(now_ns, steady, event_ns, stream_ns)
        self._compare(now_ns, times, came, came_aside, is_closed)
        self._say()

    def _judge(self, now_ns: int, steady: int, event_ns: int | None, stream_ns: int) -> None:
        """Follows the step, or does not, by the time of events that have just come."""
        if event_ns is not None:
            if abs(event_ns - now_ns - self._step) < abs(event_ns - now_ns):
                self._follow(stream_ns)
                return
            self._oppose(steady)
        if not self._is_opposed and steady - self._unopposed_since >= FOLLOW_NS:
            self._follow(stream_ns)

    def _oppose(self, steady: int) -> None:
        if self._step:
            self._unopposed_since, self._is_opposed = steady, True

    def _follow(self, stream_ns: int) -> None:
        log.error("this machine's clock was set, and is followed", seconds=self._step / 1e9)
        self._offset += self._step
        self._step = 0
        self._check_stream(stream_ns, self._steady() + self._offset)

    def _check_stream(self, stream_ns: int, now_ns: int) -> None:
        if stream_ns > now_ns + STEP_NS:
            behind = (stream_ns - now_ns) / 1e9
            raise StartError(f"the clock was {behind:.0f} s ahead, and so is the stream, which begins again")

    def _compare(self, now_ns: int, times: FeedTimes, came: int, came_aside: int, is_closed: bool) -> None:
        """Notices events that are all behind the clock, or ahead of it."""
        if not came and not came_aside:
            return
        ahead_ns = (times.newest_ns if came else times.aside_ns) - now_ns
        if -(BEHIND_CLOSED_NS if is_closed else BEHIND_NS) < ahead_ns < AGREE_NS:
            self._difference = None
            return
        since, events = self._difference[:2] if self._difference else (self._steady(), times.admitted + times.aside)
        self._difference = _Difference(since, events, ahead_ns)

    def _say(self) -> None:
        """Says what is wrong: /health each time, the log once."""
        self.warning, self.differs_seconds = None, self._step / 1e9
        difference, times = self._difference, self._times
        was_named, self._is_named = self._is_named, False
        if self._step:
            by = f"{abs(self._step) / 1e9:,.0f} s"
            if self._is_opposed:
                way = "ahead of" if self._step > 0 else "behind"
                text = f"is {by} {way} the vendor's, which is followed until the clock is right"
            else:
                way = "ahead" if self._step > 0 else "back"
                text = f"was set {way} by {by}: it is not followed until events of that time come, or none for a minute"
            self.warning = f"this machine's clock {text}"
        elif (
            difference is not None
            and self._steady() - difference.since >= DIFFER_FOR_NS
            and times.admitted + times.aside - difference.events >= MIN_DIFFERENT
        ):
            way = "behind: rows are as old" if difference.ns < 0 else "ahead, and set aside"
            self.differs_seconds = -difference.ns / 1e9
            self.warning = (
                f"this machine's clock and the vendor's events differ by {abs(difference.ns) / 1e9:,.0f} s: the events "
                f"are {way}; set the clock right, or TRADEUL_CLOCK=feed for a vendor whose data are late"
            )
            self._is_named = True
            if not was_named:
                log.error("this machine's clock and the vendor's events differ", ahead_seconds=self.differs_seconds)
