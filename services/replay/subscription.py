"""The sequencer's side of a replay: where it goes on, what is due, what it has acknowledged."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Final

from services.kit.rpc.envelope import MARKET
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import monotonic, new_york_time
from services.kit.runtime.errors import INVALID_POSITION
from services.kit.runtime.logging import get_logger
from services.replay import metrics
from services.replay.core import cuts, encode
from services.replay.day_file import DayFile
from services.replay.pace import Pace

log = get_logger(__name__)

HEARTBEAT_SECONDS: Final = 5.0
# So much may be on its way; what is acknowledged makes room.
MAX_BATCHES: Final = 512
MAX_BYTES: Final = 16 * 1024 * 1024
# Skipping batches must not hold the loop up.
SKIPPED_AT_ONCE: Final = 10_000


class ReplaySubscription:
    """One reader of a day, from after `asked` on; from its beginning for one that knows no position.

    The file is the ring: whatever was sent can be sent again, so a sequencer that
    begins anew gets the whole day so far, and one that comes back what it lacks.
    """

    def __init__(
        self,
        day: DayFile,
        pace: Pace,
        asked: Position | None,
        until_ns: int | None = None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self.epoch = day.epoch
        if asked is not None and asked.epoch != self.epoch:
            raise INVALID_POSITION.error(
                f"expected a position of this day's replay, {self.epoch}, was {asked}: another day is being replayed"
            )
        self._day = day
        self._pace = pace
        self._until_ns = until_ns
        self._heartbeat_seconds = heartbeat_seconds
        self._woken = asyncio.Event()
        self._closing: str | None = None
        self._ended = False
        self._error: Exception | None = None
        self._sent = self._acknowledged = asked.sequence if asked is not None else 0
        self._phase = "begins"
        # Sizes of the batches that are not acknowledged, oldest first.
        self._sizes: deque[int] = deque()
        self._bytes = 0

    @property
    def phase(self) -> str:
        """What it does now, for people."""
        return self._phase

    @property
    def unacknowledged(self) -> int:
        return self._sent - self._acknowledged

    def acknowledge(self, position: Position) -> None:
        """Makes room; raises INVALID_POSITION for a batch that was not sent."""
        if position.epoch != self.epoch or position.sequence > self._sent:
            raise INVALID_POSITION.error(
                f"expected an acknowledgement of at most {self.epoch}/{self._sent}, was {position}"
            )
        while self._acknowledged < position.sequence:
            self._acknowledged += 1
            self._bytes -= self._sizes.popleft()
        metrics.UNACKNOWLEDGED.set(self.unacknowledged)
        self._woken.set()

    def end(self, error: Exception | None = None) -> None:
        """Ends the messages at once, with `error` if there is one."""
        if not self._ended:
            self._ended = True
            self._error = error
            self._woken.set()

    def go_away(self, reason: str) -> None:
        """Ends the messages with going_away."""
        self._closing = reason
        self._woken.set()

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Encoded SubscribeMarketResponses; ends after end() or go_away(), raising what end() was given."""
        yield MARKET.opened(self._position(), symbols=self._day.manifest.symbols)
        yield MARKET.current(self._position())
        self._pace.begin()
        is_first = True
        for number, cut in enumerate(cuts(self._day, self._until_ns), 1):
            if number <= self._sent:
                if number % SKIPPED_AT_ONCE == 0:
                    await asyncio.sleep(0)
                self._pace.sent(cut.time_ns)
                if number == self._sent:
                    self._pace.begin()
                continue
            async for heartbeat in self._until_due(cut.time_ns, is_first):
                yield heartbeat
            if self._is_over:
                break
            message, _ = MARKET.positioned("batch", Position(self.epoch, number), encode(self._day, cut))
            self._sent = number
            self._sizes.append(len(message))
            self._bytes += len(message)
            self._pace.sent(cut.time_ns)
            metrics.BATCHES.inc()
            metrics.REACHED.set(cut.time_ns / 1e9)
            metrics.ticks(self._day.manifest.kind, cut.last - cut.first)
            yield message
            if is_first:
                # The sequencer takes the first batch when it has what else it needs: the day begins then.
                is_first = False
                self._phase = "waits for the sequencer to load reference data"
                async for heartbeat in self._while(lambda: self.unacknowledged > 0):
                    yield heartbeat
                self._phase = "is under way"
                log.info("the day begins", date=str(self._day.manifest.date))
        async for heartbeat in self._while(lambda: self.unacknowledged > 0):
            yield heartbeat
        if not self._is_over:
            self._tell_end()
        async for heartbeat in self._while(lambda: True):
            yield heartbeat
        if self._error is not None:
            raise self._error
        if self._closing is not None:
            yield MARKET.going_away(self._position(), self._closing)

    def _tell_end(self) -> None:
        """All was sent and taken: the mesh stays as it is now, for questions."""
        day = self._day.manifest
        at = new_york_text(self._pace.reached_ns) if self._pace.reached_ns else "no event"
        rest = day.rows if self._until_ns is None else int((self._day.arrival_ns <= self._until_ns).sum())
        self._phase = "is over" if rest == day.rows else "stands where it was to stop"
        log.info(f"the replay {self._phase}", date=str(day.date), at=at, events=rest, of=day.rows)

    def _position(self) -> Position:
        return Position(self.epoch, self._sent)

    @property
    def _is_over(self) -> bool:
        return self._ended or self._closing is not None

    @property
    def _is_full(self) -> bool:
        return len(self._sizes) >= MAX_BATCHES or self._bytes >= MAX_BYTES

    async def _until_due(self, time_ns: int, is_first: bool) -> AsyncGenerator[bytes, None]:
        """Heartbeats until there is room and it is time."""
        async for heartbeat in self._while(lambda: self._is_full):
            yield heartbeat
        while not is_first and not self._is_over and (delay := self._pace.delay(time_ns, monotonic())) > 0:
            if not await self._wait(min(delay, self._heartbeat_seconds)) and delay > self._heartbeat_seconds:
                yield MARKET.heartbeat(self._position())

    async def _while(self, waits: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
        """Heartbeats as long as it `waits`."""
        while not self._is_over and waits():
            if not await self._wait(self._heartbeat_seconds):
                yield MARKET.heartbeat(self._position())

    async def _wait(self, seconds: float) -> bool:
        """Whether something woke it before."""
        self._woken.clear()
        try:
            async with asyncio.timeout(seconds):
                return await self._woken.wait()
        except TimeoutError:
            return False


def new_york_text(time_ns: int) -> str:
    """A time of the day as people write it, to the second."""
    return f"{new_york_time(time_ns):%H:%M:%S}"
