"""Wake-up times of many sleepers on few timers."""

import asyncio
from typing import Protocol


class Sleeper(Protocol):
    def time_is_up(self) -> None:
        """The time it asked for has come."""


class Alarms:
    """Sleepers that ask for the same time, to the last bit, share one timer of the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._sleepers: dict[float, set[Sleeper]] = {}

    def add(self, when: float, sleeper: Sleeper) -> None:
        """Calls `sleeper.time_is_up()` at `when` by the loop's clock, unless it is discarded before."""
        sleepers = self._sleepers.get(when)
        if sleepers is None:
            self._sleepers[when] = sleepers = set()
            self._loop.call_at(when, self._ring, when)
        sleepers.add(sleeper)

    def discard(self, when: float, sleeper: Sleeper) -> None:
        """Takes a sleeper back; the timer stays for others."""
        if (sleepers := self._sleepers.get(when)) is not None:
            sleepers.discard(sleeper)

    def _ring(self, when: float) -> None:
        for sleeper in self._sleepers.pop(when):
            sleeper.time_is_up()
