"""PolygonWsService of a day that is played again, and the sequencer's side of it: what is due, and what is sent."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final

import grpc.aio
from tradeul.v1 import polygon_ws_pb2

from services.kit.rpc.cursor import Subscription, Timers
from services.kit.rpc.envelope import MARKET
from services.kit.rpc.market_stream import MarketStream
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import timestamp
from services.kit.runtime.clock import monotonic, new_york_time
from services.kit.runtime.errors import INVALID_POSITION, INVALID_SUBSCRIPTION
from services.kit.runtime.logging import get_logger
from services.replay import metrics
from services.replay.core import Pace, cuts, encode
from services.replay.day_file import DayFile

log = get_logger(__name__)

HEARTBEAT_SECONDS: Final = 5.0
# So much may be on its way; what is acknowledged makes room.
MAX_BATCHES: Final = 512
MAX_BYTES: Final = 16 * 1024 * 1024
# Skipping batches must not hold the loop up.
SKIPPED_AT_ONCE: Final = 10_000

Request = polygon_ws_pb2.SubscribeMarketRequest
Context = grpc.aio.ServicerContext[Any, Any]


class ReplayServicer:
    """`until_ns`: the time of the day at which it stops; None at the day's last event."""

    def __init__(self, day: DayFile, pace: Pace, until_ns: int | None = None) -> None:
        self._day = day
        self._pace = pace
        timers = Timers(HEARTBEAT_SECONDS)
        self.market = MarketStream(
            lambda position: ReplaySubscription(day, pace, position, timers, until_ns), metrics.SUBSCRIBED
        )

    async def SubscribeMarket(self, requests: AsyncIterator[Request], context: Context) -> None:
        await self.market.serve(requests, context)

    async def UpdateSubscriptions(
        self, request: polygon_ws_pb2.UpdateSubscriptionsRequest, context: Context
    ) -> polygon_ws_pb2.UpdateSubscriptionsResponse:
        raise INVALID_SUBSCRIPTION.error("a replay has the subscriptions of its file")

    async def GetFeedStatus(
        self, request: polygon_ws_pb2.GetFeedStatusRequest, context: Context
    ) -> polygon_ws_pb2.FeedStatus:
        manifest, subscription = self._day.manifest, self.market.subscription
        phase = "waits for the sequencer"
        if subscription is not None:
            reached = f", at {new_york_text(self._pace.reached_ns)}" if self._pace.reached_ns else ""
            phase = subscription.phase + reached
        status = polygon_ws_pb2.FeedStatus(
            state=polygon_ws_pb2.FeedStatus.SUBSCRIBED,
            detail=f"replay of {manifest.date}: {manifest.source} {phase}",
            events=manifest.rows,
            rejected=manifest.set_aside,
            unacknowledged_batches=subscription.unacknowledged if subscription is not None else 0,
        )
        if self._pace.reached_ns:
            status.last_message_time.CopyFrom(timestamp(self._pace.reached_ns))
        return status


class ReplaySubscription(Subscription):
    """One reader of a day, after `requested_position`; from its beginning for one that knows no position.

    The file is the ring: whatever was sent can be sent again, so a sequencer that
    starts again gets the whole day so far, and one that comes back what it lacks.
    Raises INVALID_POSITION for a position of another day.
    """

    def __init__(
        self,
        day: DayFile,
        pace: Pace,
        requested_position: Position | None,
        timers: Timers,
        until_ns: int | None = None,
    ) -> None:
        super().__init__(timers)
        self.epoch = day.epoch
        if requested_position is not None and requested_position.epoch != self.epoch:
            raise INVALID_POSITION.error(
                f"expected a position of this day's replay, {self.epoch}, was {requested_position}: "
                "another day is being replayed"
            )
        # What it does now, for people.
        self.phase = "begins"
        self._day = day
        self._pace = pace
        self._until_ns = until_ns
        self._sequence = self._acknowledged = requested_position.sequence if requested_position is not None else 0
        # Sizes of the batches that are not acknowledged, oldest first.
        self._sizes: deque[int] = deque()
        self._bytes = 0

    @property
    def position(self) -> Position:
        """Of the last batch sent."""
        return Position(self.epoch, self._sequence)

    @property
    def unacknowledged(self) -> int:
        """Batches that are sent and not acknowledged."""
        return self._sequence - self._acknowledged

    def acknowledge(self, position: Position) -> None:
        """Makes room; raises INVALID_POSITION for a batch that was not sent."""
        if position.epoch != self.epoch or position.sequence > self._sequence:
            raise INVALID_POSITION.error(f"expected an acknowledgement of at most {self.position}, was {position}")
        while self._acknowledged < position.sequence:
            self._acknowledged += 1
            self._bytes -= self._sizes.popleft()
        metrics.UNACKNOWLEDGED.set(self.unacknowledged)
        self.wake()

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Encoded SubscribeMarketResponses; ends after end() or go_away(), raising what end() was given."""
        yield MARKET.opened(self.position, symbols=self._day.manifest.symbols)
        yield MARKET.current(self.position)
        self._pace.begin()
        is_first = True
        for number, cut in enumerate(cuts(self._day, self._until_ns), 1):
            if number <= self._sequence:
                if number % SKIPPED_AT_ONCE == 0:
                    await asyncio.sleep(0)
                self._pace.sent(cut.time_ns)
                if number == self._sequence:
                    self._pace.begin()
                continue
            async for heartbeat in self._until_due(cut.time_ns, is_first):
                yield heartbeat
            if self._is_ending:
                break
            message, _ = MARKET.positioned("batch", Position(self.epoch, number), encode(self._day, cut))
            self._sequence = number
            self._sizes.append(len(message))
            self._bytes += len(message)
            self._pace.sent(cut.time_ns)
            metrics.BATCHES.inc()
            metrics.REACHED.set(cut.time_ns / 1e9)
            metrics.ticks(self._day.manifest.kind, cut.last - cut.first)
            self.sent()
            yield message
            if is_first:
                # The sequencer takes the first batch when it has what else it needs: the day begins then.
                is_first = False
                self.phase = "waits for the sequencer to load reference data"
                async for heartbeat in self._while(lambda: self.unacknowledged > 0):
                    yield heartbeat
                self.phase = "is under way"
                log.info("the day begins", date=str(self._day.manifest.date))
        async for heartbeat in self._while(lambda: self.unacknowledged > 0):
            yield heartbeat
        if not self._is_ending:
            self._log_end()
        async for heartbeat in self._while(lambda: True):
            yield heartbeat
        self.raise_error()
        if self.closing is not None:
            yield MARKET.going_away(self.position, self.closing)

    def _log_end(self) -> None:
        """All was sent and acknowledged: the mesh stays as it is now, for questions."""
        day = self._day.manifest
        time = new_york_text(self._pace.reached_ns) if self._pace.reached_ns else "no event"
        events = day.rows if self._until_ns is None else int((self._day.arrival_ns <= self._until_ns).sum())
        self.phase = "is over" if events == day.rows else "stands where it was to stop"
        log.info(f"the replay {self.phase}", date=str(day.date), at=time, events=events, of=day.rows)

    @property
    def _is_ending(self) -> bool:
        return self.is_over or self.closing is not None

    @property
    def _is_full(self) -> bool:
        return len(self._sizes) >= MAX_BATCHES or self._bytes >= MAX_BYTES

    async def _until_due(self, time_ns: int, is_first: bool) -> AsyncGenerator[bytes, None]:
        """Heartbeats until there is room and it is time."""
        async for heartbeat in self._while(lambda: self._is_full):
            yield heartbeat
        loop = asyncio.get_running_loop()
        while not is_first and not self._is_ending and (delay := self._pace.delay(time_ns, monotonic())) > 0:
            if not await self.wait(loop.time() + delay):
                yield MARKET.heartbeat(self.position)

    async def _while(self, waits: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
        """Heartbeats as long as it `waits`."""
        while not self._is_ending and waits():
            if not await self.wait():
                yield MARKET.heartbeat(self.position)


def new_york_text(time_ns: int) -> str:
    """A time of the day as people write it, to the second."""
    return new_york_time(time_ns).strftime("%H:%M:%S")
