"""PolygonWsService of a day that is played again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
from google.protobuf import timestamp_pb2
from tradeul.v1 import polygon_ws_pb2

from services.kit.rpc.ring import Position
from services.kit.runtime.errors import INVALID_SUBSCRIPTION, OPEN_EXPECTED, OPEN_REPEATED, SUPERSEDED, ServiceError
from services.replay import metrics
from services.replay.day_file import DayFile
from services.replay.pace import Pace
from services.replay.subscription import ReplaySubscription, new_york_text

Request = polygon_ws_pb2.SubscribeMarketRequest
Context = grpc.aio.ServicerContext[Any, Any]


class ReplayServicer:
    """`until_ns`: where the day stops; None at its last event."""

    def __init__(self, day: DayFile, pace: Pace, until_ns: int | None = None) -> None:
        self._day = day
        self._pace = pace
        self._until_ns = until_ns
        self._current: ReplaySubscription | None = None
        self._closing: str | None = None

    def go_away(self, reason: str) -> None:
        """Sends the sequencer away."""
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
        subscription = ReplaySubscription(self._day, self._pace, asked, self._until_ns)
        if self._closing is not None:
            subscription.go_away(self._closing)
        if self._current is not None:
            self._current.end(SUPERSEDED.error("a newer subscriber took this one's place"))
        self._current = subscription
        metrics.SUBSCRIBED.set(1)
        reader = asyncio.create_task(self._read(requests, subscription), name="replay.acks")
        try:
            async with contextlib.aclosing(subscription.messages()) as messages:
                async for message in messages:
                    await context.write(message)
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            if self._current is subscription:
                self._current = None
                metrics.SUBSCRIBED.set(0)

    async def UpdateSubscriptions(
        self, request: polygon_ws_pb2.UpdateSubscriptionsRequest, context: Context
    ) -> polygon_ws_pb2.UpdateSubscriptionsResponse:
        raise INVALID_SUBSCRIPTION.error("a replay has the subscriptions of its file")

    async def GetFeedStatus(
        self, request: polygon_ws_pb2.GetFeedStatusRequest, context: Context
    ) -> polygon_ws_pb2.FeedStatus:
        manifest = self._day.manifest
        status = polygon_ws_pb2.FeedStatus(
            state=polygon_ws_pb2.FeedStatus.SUBSCRIBED,
            detail=f"replay of {manifest.date}: {manifest.source} {self._phase()}",
            events=manifest.rows,
            rejected=manifest.set_aside,
            unacknowledged_batches=self._current.unacknowledged if self._current is not None else 0,
        )
        if self._pace.reached_ns:
            seconds, nanos = divmod(self._pace.reached_ns, 10**9)
            status.last_message_time.CopyFrom(timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos))
        return status

    def _phase(self) -> str:
        if self._current is None:
            return "waits for the sequencer"
        at = f", at {new_york_text(self._pace.reached_ns)}" if self._pace.reached_ns else ""
        return self._current.phase + at

    async def _read(self, requests: AsyncIterator[Request], subscription: ReplaySubscription) -> None:
        """Takes acknowledgements until the stream ends."""
        async for request in requests:
            kind = request.WhichOneof("request")
            if kind == "ack":
                position = Position.of(request.ack.position)
                try:
                    subscription.acknowledge(position)
                except ServiceError as error:
                    subscription.end(error)
                    return
            elif kind == "cancel":
                subscription.end()
                return
            elif kind == "open":
                subscription.end(OPEN_REPEATED.error("expected open once, was sent again"))
                return
