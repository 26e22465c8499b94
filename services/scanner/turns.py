"""Answers that take the event loop a while are made one at a time, so that many of them cannot hold up the lists.

Each takes up to some milliseconds: to select and rank rows, to encode them as JSON, to search names, to make one delta
of many. The next one waits until the loop has had twice as long for everything else.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from services.kit.runtime.errors import TOO_MANY_REQUESTS, Reason
from services.scanner import metrics

# Requests that may wait for their turn, of all clients and of one key.
MAX_WAITING: Final = 200
MAX_WAITING_OF_KEY: Final = 20
# For each second in which answers are made, so many are left to everything else.
PAUSE: Final = 2.0

Answer = TypeVar("Answer")


class Waiting:
    """Counts the requests under way, of all clients and of each key, and refuses those beyond a limit.

    Args:
        reason, what: of the error of one that is refused.
        maximum, maximum_of_key: so many at once.
    """

    def __init__(self, reason: Reason, what: str, maximum: int, maximum_of_key: int) -> None:
        self._reason = reason
        self._what = what
        self._maximum = maximum
        self._maximum_of_key = maximum_of_key
        self._counts: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self._counts.total()

    @contextmanager
    def counted(self, key: str) -> Iterator[None]:
        """Counts a request of `key` meanwhile, "" for one without; raises the error of the limit that is reached."""
        if self.total >= self._maximum:
            raise self._reason.error(f"limit reached: {self._maximum} {self._what}", maximum=self._maximum)
        if key and self._counts[key] >= (most := self._maximum_of_key):
            message = f"limit reached: {most} {self._what} of the key {key!r}"
            raise self._reason.error(message, maximum=most, key=key)
        self._counts[key] += 1
        try:
            yield
        finally:
            self._counts[key] -= 1
            if not self._counts[key]:
                del self._counts[key]


class Turns:
    """The turns of one event loop."""

    def __init__(
        self, max_waiting: int = MAX_WAITING, max_waiting_of_key: int = MAX_WAITING_OF_KEY, pause: float = PAUSE
    ) -> None:
        self._waiting = Waiting(TOO_MANY_REQUESTS, "requests that wait to be answered", max_waiting, max_waiting_of_key)
        self._pause = pause
        self._turn = asyncio.Lock()
        self._next_at = 0.0

    @property
    def waiting(self) -> int:
        """Requests that wait or are answered now."""
        return self._waiting.total

    async def take_counted(self, work: Callable[[], Answer], key: str = "") -> Answer:
        """Returns what `work` returns, which answers a request; `key`: the name of its key.

        Raises what `work` raises, and TOO_MANY_REQUESTS.
        """
        with self._waiting.counted(key), metrics.TURNS_WAITING.track_inprogress():
            return await self.take(work)

    async def take(self, work: Callable[[], Answer]) -> Answer:
        """Returns what `work` returns, which runs on the event loop in its turn. Raises what it raises."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(max(0.0, self._next_at - loop.time()))
            began = loop.time()
            try:
                return work()
            finally:
                took = loop.time() - began
                self._next_at = began + took + self._pause * took
                metrics.TURN_SECONDS.observe(took)
