"""Watermarks, at which every copy ranks its lists: soon after events, and now and then when there are none."""

import asyncio
from collections.abc import Callable
from typing import Final

from services.data_ingest.feed.day_in_force import DayInForce
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.runtime.clock import MeshClock, monotonic

# A watermark makes every copy rank every list: the fewer, the more trades a second; the more, the less delay.
LEAST_SECONDS: Final = 0.004
# Ranking takes at most this share of the time: where it takes longer, because there is more to rank or the machine has
# other things to do, watermarks come less often, up to FEW_SECONDS apart. With half of this share, 50,000 trades/s
# waited for their watermark longer than for anything else: 6 to 8 ms, now 0.4 ms (medians, 12,000 symbols).
RANKING_SHARE: Final = 0.4
FEW_SECONDS: Final = 0.04
# With so many events since the last watermark it takes at most this share: of what comes faster than it can be taken,
# nothing is seen sooner by ranking more often. With two fifths, two million trades at once were through at 0.74 to 0.81
# million a second; with a fifth at 1.01 to 1.06.
MANY_EVENTS: Final = 3000
MANY_RANKING_SHARE: Final = 0.2
# Copies that are so far behind are no reason to wait: that long an acknowledgement may take.
TOLERATED_SECONDS: Final = 0.04
# Beyond that they get watermarks at this share of the time they are behind, at most so far apart: to apply events takes
# little, to rank and send what has changed much, and a copy that ranks less often catches up instead of falling behind
# further.
BEHIND_SHARE: Final = 0.5
LONGEST_SECONDS: Final = 0.25
# While nothing comes: how often the wall's time is in the stream in an open market, and in a closed one.
OPEN_SECONDS: Final = 0.05
QUIET_SECONDS: Final = 1.0
# The event loop's timers may ring so much early.
TIMER_SECONDS: Final = 0.001


class Pacer:
    """How long a watermark has to wait for the one before: longer when ranking takes long, more so where many events
    came since, or when the copies that rank are behind.

    `ranking_seconds`, `behind_seconds`: give how long ranking has taken lately, and how far behind they are.
    """

    def __init__(
        self,
        least: float = LEAST_SECONDS,
        many_events: int = MANY_EVENTS,
        ranking_seconds: Callable[[], float] = lambda: 0.0,
        behind_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._ranking_seconds = ranking_seconds
        self._behind_seconds = behind_seconds
        self._least = least
        self._many_events = many_events
        self._events = 0
        self.sent_at = 0.0

    def add(self, events: int) -> None:
        self._events += events

    def due_at(self) -> float:
        """The earliest time of the next watermark."""
        are_few = self._events < self._many_events
        share, longest = (RANKING_SHARE, FEW_SECONDS) if are_few else (MANY_RANKING_SHARE, LONGEST_SECONDS)
        pause = min(longest, self._ranking_seconds() / share)
        behind = self._behind_seconds() - TOLERATED_SECONDS
        return self.sent_at + max(self._least, pause, min(LONGEST_SECONDS, behind * BEHIND_SHARE))

    def sent(self, now: float) -> None:
        self.sent_at = now
        self._events = 0


class Watermarks:
    """Adds watermarks to the stream, from this event loop.

    Args:
        wall: the wall's clock in wall mode; None in feed mode, where events alone make time pass.
    """

    def __init__(
        self,
        sequencer: Sequencer,
        days: DayInForce,
        wall: MeshClock | None,
        pacer: Pacer,
    ) -> None:
        self._sequencer = sequencer
        self._days = days
        self._wall = wall
        self._pacer = pacer
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._has_events = False
        self._woken = asyncio.Event()

    def events_came(self, events: int) -> None:
        """Counts events that have entered the stream: a watermark follows at once, or when it is due."""
        self._pacer.add(events)
        self._has_events = True
        now = monotonic()
        due_at = self._pacer.due_at()
        if now >= due_at:
            self.add()
        elif self._timer is None:
            self._wake_after(due_at - now)

    def add(self) -> None:
        """A watermark, now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._has_events = False
        time_ns = 0
        if self._wall is not None and (now_ns := self._wall.now_ns()) is not None:
            self._days.follow_clock(now_ns)
            time_ns = now_ns
        self._sequencer.add_watermark(time_ns)
        self._pacer.sent(monotonic())

    async def run(self) -> None:
        """The watermarks that are due later than the events that they follow, and those while nothing comes."""
        while True:
            quiet_at = max(self._pacer.sent_at + self._pause(), self._pacer.due_at())
            timer = self._loop.call_later(max(0.0, quiet_at - monotonic()), self._woken.set)
            self._woken.clear()
            try:
                await self._woken.wait()
            finally:
                timer.cancel()
            self._timer = None
            now = monotonic() + TIMER_SECONDS
            if now >= quiet_at or (self._has_events and now >= self._pacer.due_at()):
                self.add()
            elif self._has_events:
                self._wake_after(self._pacer.due_at() - monotonic())

    def _wake_after(self, seconds: float) -> None:
        # By then a copy that is behind may have caught up.
        self._timer = self._loop.call_later(min(seconds, FEW_SECONDS), self._woken.set)

    def _pause(self) -> float:
        is_open = self._wall is not None and not self._sequencer.is_closed
        return OPEN_SECONDS if is_open else QUIET_SECONDS
