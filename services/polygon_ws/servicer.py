"""PolygonWsService: protos to and from the feed, and the sequencer's side of the market stream."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final

import grpc.aio
from tradeul.v1 import polygon_ws_pb2

from services.kit.rpc.cursor import Cursor, Timers
from services.kit.rpc.envelope import MARKET
from services.kit.rpc.market_stream import MarketStream
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import timestamp
from services.kit.runtime.errors import INVALID_POSITION
from services.polygon_ws import metrics
from services.polygon_ws.batch_traces import BatchTraces
from services.polygon_ws.connection import FeedConnection
from services.polygon_ws.core import FeedBuffer

HEARTBEAT_SECONDS: Final = 5.0

Request = polygon_ws_pb2.SubscribeMarketRequest
Context = grpc.aio.ServicerContext[Any, Any]


class PolygonWsServicer:
    """`on_progress` is called when the sequencer has come, acknowledged something or gone.

    `traces`: None where traces are off.
    """

    def __init__(
        self,
        buffer: FeedBuffer,
        connection: FeedConnection,
        on_progress: Callable[[], None],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        traces: BatchTraces | None = None,
    ) -> None:
        self._traces = traces
        self._buffer = buffer
        self._connection = connection
        timers = Timers(heartbeat_seconds)
        self.market = MarketStream(
            lambda position: MarketSubscription(buffer, position, timers, on_progress), metrics.SUBSCRIBED, on_progress
        )

    async def SubscribeMarket(self, requests: AsyncIterator[Request], context: Context) -> None:
        await self.market.serve(requests if self._traces is None else _traced(requests, self._traces), context)

    async def UpdateSubscriptions(
        self, request: polygon_ws_pb2.UpdateSubscriptionsRequest, context: Context
    ) -> polygon_ws_pb2.UpdateSubscriptionsResponse:
        """Changes the vendor subscriptions; an operator wants it, so that a refused feed tries again."""
        self._connection.update(request.subscribe, request.unsubscribe)
        self._connection.retry()
        return polygon_ws_pb2.UpdateSubscriptionsResponse(subscriptions=self._connection.subscriptions.names)

    async def GetFeedStatus(
        self, request: polygon_ws_pb2.GetFeedStatusRequest, context: Context
    ) -> polygon_ws_pb2.FeedStatus:
        connection, buffer = self._connection, self._buffer
        status = polygon_ws_pb2.FeedStatus(
            state=polygon_ws_pb2.FeedStatus.State.ValueType(connection.state),
            detail=connection.detail,
            subscriptions=connection.subscriptions.names,
            messages=connection.messages,
            events=sum(buffer.decoder.totals.values()),
            rejected=rejected(buffer, connection),
            unacknowledged_batches=buffer.held_batches,
            reconnects=connection.reconnects,
            refused_subscriptions=connection.subscriptions.refused,
        )
        for notice in connection.notices:
            status.notices.add(kind=notice.kind, text=notice.text, count=notice.count, time=timestamp(notice.time_ns))
        if connection.last_message_ns:
            status.last_message_time.CopyFrom(timestamp(connection.last_message_ns))
        return status


async def _traced(requests: AsyncIterator[Request], traces: BatchTraces) -> AsyncIterator[Request]:
    """The same requests, of which `traces` gets the batches that are traced."""
    async for request in requests:
        for batch in request.traced:
            traces.traced(batch)
        yield request


def rejected(buffer: FeedBuffer, connection: FeedConnection) -> dict[str, int]:
    """Counts of messages and events that were set aside, by reason."""
    counts = dict(buffer.decoder.rejected)
    if connection.oversize:
        counts["oversize"] = connection.oversize
    return counts


class MarketSubscription(Cursor):
    """Reads a FeedBuffer after `requested_position`, or from the oldest batch held.

    `on_acknowledged` is called when the sequencer has acknowledged something.
    """

    def __init__(
        self,
        buffer: FeedBuffer,
        requested_position: Position | None,
        timers: Timers,
        on_acknowledged: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(buffer.ring, timers, metrics.SLOW.set)
        self._buffer = buffer
        self._requested_position = requested_position
        self._on_acknowledged = on_acknowledged

    def acknowledge(self, position: Position) -> None:
        """Lets the buffer forget what is in the sequencer's stream; raises INVALID_POSITION for what is not here."""
        if not self._buffer.acknowledge(position):
            raise INVALID_POSITION.error(
                f"expected an acknowledgement of at most {self._buffer.position}, was {position}"
            )
        self._on_acknowledged()

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Encoded SubscribeMarketResponses; ends after end() or go_away(), raising what end() was given."""
        buffer = self._buffer
        lost_reason = self._begin()
        yield self._opened()
        if lost_reason is not None:
            yield MARKET.reset(self.position, lost_reason)
        next_gap = buffer.first_gap_after(self.position)
        try:
            while not self.is_over:
                if self.ring is not buffer.ring:
                    # All of the old one was acknowledged: nothing is lost.
                    self.move(buffer.ring.start, buffer.ring)
                    yield MARKET.reset(self.position, f"batches are numbered anew in epoch {buffer.ring.epoch}")
                    yield self._opened()
                elif (lost_reason := self.lost_reason) is not None:
                    self.mark_slow(True)
                    self.move(self.ring.start)
                    yield MARKET.reset(self.position, lost_reason)
                    # The symbols of the batches that are gone.
                    yield self._opened()
                elif (gap := buffer.gap(next_gap)) is not None and gap.position <= self.position:
                    next_gap = gap.number + 1
                    yield gap.message
                elif self.becomes_current():
                    yield MARKET.current(self.position)
                elif self.has_next:
                    yield self.take()
                elif self.closing is not None:
                    yield MARKET.going_away(self.position, self.closing)
                    return
                else:
                    self.mark_slow(False)
                    if not await self.wait():
                        yield MARKET.heartbeat(self.position)
            self.raise_error()
        finally:
            self.mark_slow(False)

    def _begin(self) -> str | None:
        """Goes to where the sequencer continues; returns why batches are lost to it, None when none are."""
        ring = self._buffer.ring
        self.move(ring.start, ring)
        lost_reason = None
        if self._requested_position is not None and (lost_reason := self.resume(self._requested_position)) is not None:
            self.move(ring.start)
        self.catch_up()
        return lost_reason

    def _opened(self) -> bytes:
        return MARKET.opened(self._buffer.position, symbols=self._buffer.decoder.symbols)
