"""Answers that take the event loop a while are made one at a time, so that many of them cannot hold up the lists.

Each takes up to some milliseconds: to select and rank rows, to encode them as JSON, to search names, to make one delta
of many. The next one waits until the loop has had twice as long for everything else.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from services.kit.runtime.errors import TOO_MANY_REQUESTS
from services.scanner import metrics

# Requests that may wait for their turn, of all clients and of one key.
MAX_WAITING: Final = 200
MAX_WAITING_OF_KEY: Final = 20
# For each second in which answers are made, so many are left to everything else.
PAUSE: Final = 2.0

Answer = TypeVar("Answer")


class Turns:
    """The turns of one event loop."""

    def __init__(
        self, max_waiting: int = MAX_WAITING, max_waiting_of_key: int = MAX_WAITING_OF_KEY, pause: float = PAUSE
    ) -> None:
        self._max_waiting = max_waiting
        self._max_waiting_of_key = max_waiting_of_key
        self._pause = pause
        self._waiting: Counter[str] = Counter()
        self._turn = asyncio.Lock()
        self._next_at = 0.0

    @property
    def waiting(self) -> int:
        """Requests that wait or are answered now."""
        return self._waiting.total()

    async def take_counted(self, work: Callable[[], Answer], key: str = "") -> Answer:
        """Returns what `work` returns, which answers a request; `key`: the name of its key.

        Raises what `work` raises, and TOO_MANY_REQUESTS.
        """
        with self._counted(key):
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

    @contextmanager
    def _counted(self, key: str) -> Iterator[None]:
        if self.waiting >= self._max_waiting:
            raise TOO_MANY_REQUESTS.error(
                f"limit reached: {self._max_waiting} requests that wait to be answered", maximum=self._max_waiting
            )
        if key and self._waiting[key] >= self._max_waiting_of_key:
            most = self._max_waiting_of_key
            raise TOO_MANY_REQUESTS.error(
                f"limit reached: {most} requests that wait to be answered, of the key {key!r}", maximum=most, key=key
            )
        self._waiting[key] += 1
        metrics.TURNS_WAITING.inc()
        try:
            yield
        finally:
            metrics.TURNS_WAITING.dec()
            self._waiting[key] -= 1
            if not self._waiting[key]:
                del self._waiting[key]
