"""The market's clock: plays the tape so that each message is sent at its time."""

import asyncio
import bisect
from typing import Final

from services.kit.runtime.clock import NS_PER_SECOND, monotonic
from services.simulator.feed import Feed
from services.simulator.market import Market
from services.simulator.tape import NS_PER_MS, Event

TICK_SECONDS: Final = 0.05
# The longest sleep, after which subscribers to quotes are looked for.
LONGEST_SLEEP: Final = 0.5
# A machine that cannot keep up makes the market slower, never the messages fewer.
MOST_BEHIND: Final = 0.5
# After so long at a stretch other tasks get their turn.
STRETCH_SECONDS: Final = 0.02


class Pace:
    """`run()` plays the market at `speed` until cancelled; `now_ns()` is the market's time."""

    def __init__(self, market: Market, feed: Feed, speed: float) -> None:
        self._market = market
        self._feed = feed
        self._speed = speed
        self._origin_ns = market.now_ns
        self._began = monotonic()
        self._waiting: list[Event] = []
        self.sent = 0

    def now_ns(self) -> int:
        return self._origin_ns + int((monotonic() - self._began) * self._speed * NS_PER_SECOND)

    async def run(self) -> None:
        self._began = monotonic()
        # The market moves by itself: there is nothing to wait for.
        while True:  # noqa: ASYNC110
            await asyncio.sleep(self._play())

    def _play(self) -> float:
        """Sends what is due; returns the seconds until the next message."""
        market, began = self._market, monotonic()
        now_ns = self.now_ns()
        while market.next_event_ns() <= now_ns:
            if self._waiting:
                # A second's messages precede those of the next.
                self._send(self._waiting)
            market.tape.with_quotes = self._feed.wants_quotes
            self._waiting = market.step()
            if monotonic() - began > STRETCH_SECONDS:
                break
        now_ns = self._held_back(now_ns)
        if self._waiting:
            now_ms = now_ns // NS_PER_MS
            due = bisect.bisect_right(self._waiting, now_ms, key=lambda event: event.send_ms)
            self._send(self._waiting[:due])
            self._waiting = self._waiting[due:]
        market.now_ns = max(market.now_ns, now_ns)
        if self._waiting:
            return TICK_SECONDS
        wait = (market.next_event_ns() - now_ns) / NS_PER_SECOND / self._speed
        return min(max(wait, 0.0 if wait <= 0 else TICK_SECONDS / 2), LONGEST_SLEEP)

    def _send(self, events: list[Event]) -> None:
        self.sent += len(events)
        self._feed.publish(events)

    def _held_back(self, now_ns: int) -> int:
        """Returns the time, set back by a lag that cannot be made up, so that it does not pile up."""
        behind = (now_ns - self._market.next_event_ns()) / NS_PER_SECOND / self._speed
        if behind > MOST_BEHIND:
            self._origin_ns -= now_ns - self._market.next_event_ns()
            return self._market.next_event_ns()
        return now_ns
