"""Large messages of streams go one after another, so that small ones of other streams go in between.

Every ten seconds all rows of a list change at once: half a megabyte for each of its subscribers, within one turn of the
event loop.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Final

from services.scanner import metrics

LARGE_BYTES: Final = 16 * 1024
# What the event loop can copy and send in about a third of its time.
BYTES_PER_SECOND: Final = 150_000_000
# Timers are no finer than this; what is due sooner goes at once.
LEAST_SECONDS: Final = 0.001


class LargeMessages:
    """The order in which all streams of one event loop send their large messages."""

    def __init__(self, bytes_per_second: float = BYTES_PER_SECOND) -> None:
        self._bytes_per_second = bytes_per_second
        self._turn = asyncio.Lock()
        self._next_at = 0.0

    async def messages(self, messages: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Yields the messages, the large ones of them in their turn; closes them."""
        async with contextlib.aclosing(messages):
            async for message in messages:
                if len(message) >= LARGE_BYTES:
                    await self._wait(len(message))
                yield message

    async def _wait(self, size: int) -> None:
        loop = asyncio.get_running_loop()
        with metrics.LARGE_WAITING.track_inprogress():
            async with self._turn:
                if (seconds := self._next_at - loop.time()) > LEAST_SECONDS:
                    await asyncio.sleep(seconds)
                self._next_at = max(self._next_at, loop.time()) + size / self._bytes_per_second
