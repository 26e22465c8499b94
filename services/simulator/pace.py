"""The market's clock: plays the tape so that each message is sent at its time."""

import asyncio
import bisect
import contextlib
from typing import Final

from services.kit.runtime.clock import NS_PER_MS, NS_PER_SECOND, monotonic
from services.market.market_time import UNPACED, MarketTime, TimeChange
from services.simulator.feed import Feed
from services.simulator.market import Market
from services.simulator.tape import Event

TICK_SECONDS: Final = 0.05
# The longest sleep, after which subscribers to quotes are looked for.
LONGEST_SLEEP: Final = 0.5
# A machine that cannot keep up makes the market slower, never the messages fewer.
MOST_BEHIND: Final = 0.5
# Without a pace it waits for clients that have so much to read: before one is too slow.
MOST_UNSENT_BYTES: Final = 4 * 1024 * 1024
# After so long at a stretch other tasks get their turn.
STRETCH_SECONDS: Final = 0.02


class Pace:
    """`run()` plays the market at `speed` until cancelled; `time()` gives its time and pace.

    `speed` is in seconds of the market per second; UNPACED plays as fast as the clients read.
    """

    def __init__(self, market: Market, feed: Feed, speed: float) -> None:
        self._market = market
        self._feed = feed
        self._speed = speed
        self._is_paused = False
        # The market's and the wall's time from which it is counted.
        self._origin_ns = market.now_ns
        self._began = monotonic()
        # Up to here everything is played at once.
        self._jump_ns = 0
        self._waiting: list[Event] = []
        self._changed = asyncio.Event()
        self.sent = 0

    def time(self) -> MarketTime:
        """The market's time and pace."""
        day = self._market.day
        jump_ns = self._jump_ns if self._jump_ns > self._market.now_ns else 0
        return MarketTime(
            day.date, self._market.now_ns, self._is_paused, self._speed, jump_ns, day.start_ns, day.end_ns
        )

    def change(self, change: TimeChange) -> None:
        """Pauses, resumes, sets the speed and jumps ahead; a pause ends a jump where it is."""
        self._count_from(self._market.now_ns)
        if change.paused is not None:
            self._is_paused = change.paused
            if change.paused:
                self._jump_ns = 0
        if change.speed is not None:
            self._speed = change.speed
        if change.jump_ns:
            self._jump_ns = change.jump_ns
        self._changed.set()

    async def run(self) -> None:
        self._count_from(self._market.now_ns)
        while True:
            self._changed.clear()
            pause = self._play()
            if pause <= 0:
                await asyncio.sleep(0)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause)

    @property
    def _is_unpaced(self) -> bool:
        return self._market.now_ns < self._jump_ns or (self._speed == UNPACED and not self._is_paused)

    def _count_from(self, now_ns: int) -> None:
        self._origin_ns, self._began = now_ns, monotonic()

    def _due_ns(self) -> int:
        """Everything up to that time is due."""
        if self._market.now_ns < self._jump_ns:
            return self._jump_ns
        if self._is_paused:
            return self._origin_ns
        if self._speed == UNPACED:
            return self._market.next_event_ns()
        return self._origin_ns + int((monotonic() - self._began) * self._speed * NS_PER_SECOND)

    def _play(self) -> float:
        """Sends what is due; returns the seconds until the next message."""
        market, began = self._market, monotonic()
        is_unpaced = self._is_unpaced
        if is_unpaced and self._feed.unsent > MOST_UNSENT_BYTES:
            return TICK_SECONDS
        due_ns = self._due_ns()
        while market.next_event_ns() <= due_ns:
            if self._waiting:
                # A second's messages precede those of the next.
                self._send(self._waiting)
            market.tape.with_quotes = self._feed.wants_quotes
            self._waiting = market.step()
            if monotonic() - began > STRETCH_SECONDS or (is_unpaced and self._feed.unsent > MOST_UNSENT_BYTES):
                break
        if is_unpaced:
            if market.next_event_ns() <= due_ns or not self._jump_ns:
                self._count_from(market.now_ns)
                return 0.0
            # It has arrived: what remains of the last second is sent below.
            self._jump_ns = 0
            self._count_from(due_ns)
        return self._send_due(self._held_back(due_ns))

    def _send_due(self, now_ns: int) -> float:
        """Sends what of the second is due; returns the seconds until the next message."""
        market = self._market
        if self._waiting:
            now_ms = now_ns // NS_PER_MS
            due = bisect.bisect_right(self._waiting, now_ms, key=lambda event: event.send_ms)
            self._send(self._waiting[:due])
            self._waiting = self._waiting[due:]
        market.now_ns = max(market.now_ns, now_ns)
        if self._is_paused:
            return LONGEST_SLEEP
        if self._waiting or self._speed == UNPACED:
            return TICK_SECONDS
        wait = (market.next_event_ns() - now_ns) / NS_PER_SECOND / self._speed
        return min(max(wait, 0.0 if wait <= 0 else TICK_SECONDS / 2), LONGEST_SLEEP)

    def _send(self, events: list[Event]) -> None:
        self.sent += len(events)
        self._feed.publish(events)

    def _held_back(self, now_ns: int) -> int:
        """Returns the time, set back by a lag that cannot be made up, so that it does not pile up."""
        lag_ns = now_ns - self._market.next_event_ns()
        if lag_ns > MOST_BEHIND * NS_PER_SECOND * max(self._speed, 1e-9):
            self._origin_ns -= lag_ns
            return self._market.next_event_ns()
        return now_ns
