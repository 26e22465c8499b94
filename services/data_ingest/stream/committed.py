"""The part of the stream that readers may have: all of it, or what a standby has, too."""

import asyncio
from collections.abc import Callable

from services.kit.rpc.ring import Position, Ring


class Committed:
    """The commit index, in raft's words: all that shows frames, or what came of them, asks here.

    `newest`: gives the position of the newest frame.
    """

    def __init__(self, newest: Callable[[], Position]) -> None:
        self._newest = newest
        # The last frame that may be shown; None for any.
        self._limit: Position | None = None
        self._listeners: list[Callable[[], None]] = []

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` whenever there may be more to show than new frames alone."""
        self._listeners.append(listener)

    @property
    def position(self) -> Position:
        """The last frame that may be shown."""
        newest = self._newest()
        return newest if self._limit is None else min(self._limit, newest)

    def covers(self, position: Position) -> bool:
        """True if what is known from this frame may be shown."""
        return self._limit is None or position <= self._limit

    def newest(self, ring: Ring) -> int:
        """The sequence of the last message of a ring that may be shown; 0 for none."""
        limit = self._limit
        if limit is None or ring.position <= limit:
            return ring.newest
        return limit.sequence if limit.epoch == ring.epoch else 0

    def begins(self, ring: Ring) -> bool:
        """True if it may be shown that this ring's epoch has begun."""
        return self._limit is None or ring.epoch <= self._limit.epoch

    def set_limit(self, limit: Position | None) -> None:
        """Shows frames up to `limit` only; None for all."""
        if limit != self._limit:
            self._limit = limit
            for listener in self._listeners:
                listener()

    async def until_covered(self, position: Position) -> None:
        """Waits until what is known from this frame may be shown."""
        if self.covers(position):
            return
        changed = asyncio.Event()
        self._listeners.append(changed.set)
        try:
            while not self.covers(position):
                await changed.wait()
                changed.clear()
        finally:
            self._listeners.remove(changed.set)
