"""A list's subscriptions that can be written nothing yet, and how long each of them waits."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from services.websocket_server.limits import Limits
from services.websocket_server.list_feed import ListFeed
from services.websocket_server.whole_lists import Cause

Waiter = TypeVar("Waiter")


class Waiting(Generic[Waiter]):
    """`give_up` is called with one that has waited for too long, and why it is to be sent the whole list instead."""

    def __init__(self, feed: ListFeed, limits: Limits, give_up: Callable[[Waiter, Cause], None]) -> None:
        # Those whose clients come from a replica that was ahead of this one.
        self.ahead: set[Waiter] = set()
        # Those that wait for changes from before the list was followed here.
        self.behind: set[Waiter] = set()
        self._feed = feed
        self._limits = limits
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._timers: dict[Waiter, asyncio.TimerHandle] = {}

    def wait_ahead(self, waiter: Waiter) -> None:
        """Waits, if it does not do so already, while the list here comes nearer to where its client is."""
        if waiter not in self.ahead:
            self.end(waiter)
            self.ahead.add(waiter)
            self._wait_for_list(waiter, self._limits.ahead_times)

    def wait_behind(self, waiter: Waiter) -> None:
        """Waits, if it does not do so already, for what its client misses."""
        if waiter not in self.behind:
            self.end(waiter)
            self.behind.add(waiter)
            self._timers[waiter] = self._loop.call_later(self._limits.past_seconds, self._over, waiter, Cause.LATE)

    def end(self, waiter: Waiter) -> None:
        """Waits no longer."""
        self.ahead.discard(waiter)
        self.behind.discard(waiter)
        if (timer := self._timers.pop(waiter, None)) is not None:
            timer.cancel()

    def close(self) -> None:
        """Ends every wait."""
        for waiter in list(self._timers):
            self.end(waiter)

    def _wait_for_list(self, waiter: Waiter, times: int) -> None:
        seconds, position = self._limits.ahead_seconds, self._feed.position

        def look() -> None:
            if times > 1 and self._feed.position != position:
                self._wait_for_list(waiter, times - 1)
            else:
                self._over(waiter, Cause.AHEAD)

        self._timers[waiter] = self._loop.call_later(seconds, look)

    def _over(self, waiter: Waiter, cause: Cause) -> None:
        self.end(waiter)
        self._give_up(waiter, cause)
