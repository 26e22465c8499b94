"""PolygonWsService: protos to and from the feed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
from google.protobuf import timestamp_pb2
from tradeul.v1 import polygon_ws_pb2

from services.kit.rpc.ring import Position
from services.kit.runtime.errors import INVALID_POSITION, OPEN_EXPECTED, OPEN_REPEATED, SUPERSEDED
from services.polygon_ws import metrics
from services.polygon_ws.connection import FeedConnection
from services.polygon_ws.core import FeedBuffer
from services.polygon_ws.market_subscription import MarketSubscription

HEARTBEAT_SECONDS = 5.0

Request = polygon_ws_pb2.SubscribeMarketRequest
Context = grpc.aio.ServicerContext[Any, Any]


class PolygonWsServicer:
    """`on_progress` is called when the sequencer came or acknowledged something."""

    def __init__(
        self,
        buffer: FeedBuffer,
        connection: FeedConnection,
        on_progress: Callable[[], None],
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._buffer = buffer
        self._connection = connection
        self._on_progress = on_progress
        self._heartbeat_seconds = heartbeat_seconds
        self._current: MarketSubscription | None = None
        self._closing: str | None = None

    @property
    def has_subscriber(self) -> bool:
        return self._current is not None

    def wake(self) -> None:
        """There is a new batch."""
        if self._current is not None:
            self._current.wake()

    def go_away(self, reason: str) -> None:
        """Sends subscribers what is there, and away."""
        self._closing = reason
        if self._current is not None:
            self._current.go_away(reason)

    async def SubscribeMarket(self, requests: AsyncIterator[Request], context: Context) -> None:
        """Writes encoded SubscribeMarketResponses to the one sequencer; a newer one ends this with ABORTED."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("request") != "open":
            raise OPEN_EXPECTED.error("expected open as the first message")
        asked = None
        if first.open.HasField("position"):
            asked = Position.of(first.open.position)
        subscription = MarketSubscription(self._buffer, asked, self._heartbeat_seconds)
        if self._closing is not None:
            subscription.go_away(self._closing)
        if self._current is not None:
            self._current.end(SUPERSEDED.error("a newer subscriber took this one's place"))
        self._current = subscription
        metrics.SUBSCRIBED.set(1)
        self._on_progress()
        reader = asyncio.create_task(self._read(requests, subscription), name="polygon_ws.acks")
        try:
            async for message in subscription.messages():
                await context.write(message)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            if self._current is subscription:
                self._current = None
                metrics.SUBSCRIBED.set(0)
                self._on_progress()

    async def UpdateSubscriptions(
        self, request: polygon_ws_pb2.UpdateSubscriptionsRequest, context: Context
    ) -> polygon_ws_pb2.UpdateSubscriptionsResponse:
        """Changes the vendor subscriptions; the word of an operator, so a refused feed tries again."""
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
            refused_subscriptions=connection.refused,
        )
        for notice in connection.notices:
            seconds, nanos = divmod(notice.time_ns, 10**9)
            status.notices.add(
                kind=notice.kind,
                text=notice.text,
                count=notice.count,
                time=timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos),
            )
        if connection.last_message_ns:
            seconds, nanos = divmod(connection.last_message_ns, 10**9)
            status.last_message_time.CopyFrom(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos))
        return status

    async def _read(self, requests: AsyncIterator[Request], subscription: MarketSubscription) -> None:
        """Takes acknowledgements until the stream ends."""
        async for request in requests:
            kind = request.WhichOneof("request")
            if kind == "ack":
                position = Position.of(request.ack.position)
                if not self._buffer.acknowledge(position):
                    newest = self._buffer.position
                    subscription.end(
                        INVALID_POSITION.error(
                            f"expected an acknowledgement of at most {newest.epoch}/{newest.sequence}, "
                            f"was {position.epoch}/{position.sequence}"
                        )
                    )
                    return
                self._on_progress()
            elif kind == "cancel":
                subscription.end()
                return
            elif kind == "open":
                subscription.end(OPEN_REPEATED.error("expected open once, was sent again"))
                return


def rejected(buffer: FeedBuffer, connection: FeedConnection) -> dict[str, int]:
    """What was set aside, by reason."""
    counts = dict(buffer.decoder.rejected)
    if connection.oversize:
        counts["oversize"] = connection.oversize
    return counts
