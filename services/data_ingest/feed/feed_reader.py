"""Follows polygon_ws's stream of batches and has each sequenced, then acknowledged.

A connection that ends is opened again with the last batch's position after a
jittered pause, which grows while nothing comes of it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from google.protobuf.message import Message
from tradeul.v1 import polygon_ws_pb2, stream_pb2

from services.data_ingest import metrics
from services.data_ingest.feed.feed_input import FeedHole, FeedInput
from services.data_ingest.feed.frame_traces import FrameTraces
from services.data_ingest.feed.line_gaps import LineGaps
from services.data_ingest.standby.lease import Leadership
from services.kit.rpc.channel import Connection, StreamEnded, open_channel, reason_name, reconnecting
from services.kit.rpc.envelope import MARKET
from services.kit.rpc.market_stream import UNNAMED, Consumer
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import message_of
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import monotonic, wall_ns
from services.kit.runtime.errors import ANOTHER_CONSUMER, SUPERSEDED
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Address

log = get_logger(__name__)

METHOD: Final = "/tradeul.v1.PolygonWsService/SubscribeMarket"
# Heartbeats come every few seconds: longer silence means that it is gone.
SILENCE_SECONDS: Final = 15.0
ACK_SECONDS: Final = 0.05
# Another sequencer is served.
REFUSED_PAUSE: Final = 10.0
# Of the responses that are read as messages; a batch stays as it is.
CONTENTS: Final[dict[str, type[Message]]] = {
    "opened": polygon_ws_pb2.MarketOpened,
    "reset": stream_pb2.StreamReset,
    "going_away": stream_pb2.StreamGoingAway,
    "feed_gap": polygon_ws_pb2.FeedGap,
}


class FeedReader:
    """The one subscriber of PolygonWsService.SubscribeMarket.

    Args:
        on_events: gets the number of events of each batch that entered the stream.
        on_lost: is called when batches were lost, and when the vendor's line is back after having been away.
        set_unhealthy_reason: gets the reason why nothing comes; None when it comes again.
        before_batch: is awaited before each batch is sequenced, once the feed's symbols are known.
        consumer: identifies this sequencer to polygon_ws.
        gaps: gets every batch and every loss of the line; None for a replay.
        traces: None where traces are off.
        leadership: the lease under which it reads; None for the only sequencer.
        acknowledgeable: gives the last batch that polygon_ws may forget, None for none; by default the last sequenced.
    """

    def __init__(
        self,
        target: Address | str,
        feed: FeedInput,
        on_events: Callable[[int], None],
        on_lost: Callable[[], None],
        set_unhealthy_reason: Callable[[str | None], None],
        before_batch: Callable[[], Awaitable[None]] | None = None,
        consumer: Consumer = UNNAMED,
        gaps: LineGaps | None = None,
        traces: FrameTraces | None = None,
        leadership: Leadership | None = None,
        acknowledgeable: Callable[[], Position | None] | None = None,
    ) -> None:
        self._target = target
        self._feed = feed
        self._on_events = on_events
        self._on_lost = on_lost
        self._set_unhealthy_reason = set_unhealthy_reason
        self._before_batch = before_batch
        self._consumer = consumer
        self._gaps = gaps
        self._traces = traces
        self._leadership = leadership
        self._acknowledgeable = acknowledgeable or (lambda: feed.position)
        self._backoff = Backoff()
        self._progressed = False
        self._end_reason = ""
        self._sequenced = asyncio.Event()
        # The newest event of which the lag is known.
        self._newest_ns = 0

    async def run(self) -> None:
        """Reads until cancelled."""
        async with open_channel(self._target) as channel:
            # Bytes in, bytes out: batches are read where they are.
            self._open: Any = channel.stream_stream(METHOD)  # type: ignore[call-arg]
            await reconnecting(self._follow, self._ended, self._backoff)

    def acknowledge_soon(self) -> None:
        """More may be acknowledged than before."""
        self._sequenced.set()

    def _ended(self, reason: str, pause: float) -> None:
        self._set_unhealthy_reason(f"polygon_ws at {self._target}: {reason}")
        # A refusal is repeated as long as the other sequencer is there.
        (log.debug if reason == self._end_reason else log.warning)(
            "stream of polygon_ws ended", reason=reason, again_in=pause
        )
        self._end_reason = reason

    async def _follow(self) -> str:
        """Follows one connection to its end; returns why it ended."""
        self._progressed = False
        metrics.FEED_CONNECTIONS.inc()
        tasks: list[asyncio.Task[Any]] = []
        try:
            with Connection[bytes](self._open(), SILENCE_SECONDS) as connection:
                await connection.write(self._open_request())
                reading = asyncio.create_task(self._read(connection), name="data_ingest.batches")
                acks = asyncio.create_task(self._acknowledge(connection), name="data_ingest.acks")
                tasks += (reading, acks)
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if not reading.done():
                    # A defect there is ours: unseen, polygon_ws would keep everything until it is full.
                    acks.result()
                end = await reading
        except StreamEnded as ended:
            end = str(ended)
            if ended.error is not None and reason_name(ended.error) in (SUPERSEDED.name, ANOTHER_CONSUMER.name):
                self._backoff.at_least(REFUSED_PAUSE)
                if self._leadership is not None and reason_name(ended.error) == SUPERSEDED.name:
                    self._leadership.superseded(f"polygon_ws serves another sequencer: {ended}")
        except FeedHole as hole:
            metrics.FEED_HOLES.inc()
            end = str(hole)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._progressed:
            self._backoff.reset()
        return end

    async def _read(self, connection: Connection[bytes]) -> str:
        """Handles responses until one ends the connection; returns why. Raises StreamEnded, FeedHole."""
        while True:
            try:
                kind, payload = MARKET.read(await connection.read())
                content = message_of(CONTENTS[kind], payload) if kind in CONTENTS else payload
            except ValueError as error:
                return f"response cannot be read: {error}"
            if (leadership := self._leadership) is not None:
                leadership.served()
                if kind == "batch" and not leadership.is_sure():
                    await leadership.until_sure()
            if kind == "batch" and self._before_batch is not None:
                await self._before_batch()
            if (end := self._handle(kind, content)) is not None:
                return end

    def _handle(self, kind: str, content: Any) -> str | None:
        """Handles one response; returns why the connection is to be ended, None to continue."""
        if kind == "batch":
            admitted = self._sequence(content)
            metrics.BATCHES.inc()
            self._sequenced.set()
            if self._gaps is not None:
                self._gaps.events_came(admitted, monotonic())
            if admitted:
                self._observe_lag()
                self._on_events(admitted)
        elif kind == "opened":
            self._feed.set_symbols(content.symbols)
        elif kind == "current":
            self._progressed = True
            self._end_reason = ""
            self._set_unhealthy_reason(None)
        elif kind == "reset":
            self._feed.skip_to(Position.of(content.position), content.reason)
            if self._gaps is not None:
                self._gaps.line_lost(f"batches were lost: {content.reason}", is_away=False)
            self._on_lost()
        elif kind == "going_away":
            self._progressed = True
            return f"going away: {content.reason}"
        elif kind == "feed_gap":
            self._gap_reported(content)
        return None

    def _sequence(self, batch: memoryview) -> int:
        now_ns = self._feed.now_ns()
        if self._traces is None:
            return self._feed.sequence(batch, now_ns)
        self._traces.received_ns = wall_ns()
        try:
            return self._feed.sequence(batch, now_ns)
        finally:
            self._traces.received_ns = 0

    def _observe_lag(self) -> None:
        newest_ns = self._feed.admission.newest_ns
        if self._feed.is_wall and newest_ns > self._newest_ns:
            self._newest_ns = newest_ns
            metrics.LAG.observe(max(0.0, (self._feed.now_ns() - newest_ns) / 1e9))

    def _gap_reported(self, gap: polygon_ws_pb2.FeedGap) -> None:
        if not gap.HasField("to_ns"):
            if self._gaps is not None:
                self._gaps.line_lost(gap.reason)
            return
        if self._gaps is not None:
            self._gaps.line_back()
        log.warning("the vendor's line was away", seconds=round((gap.to_ns - gap.from_ns) / 1e9, 3), reason=gap.reason)
        self._on_lost()

    async def _acknowledge(self, connection: Connection[bytes]) -> None:
        """Lets polygon_ws forget what is in the stream, a few times a second, until the connection ends."""
        while True:
            await self._sequenced.wait()
            self._sequenced.clear()
            if self._leadership is not None:
                await self._leadership.until_sure()
            if (position := self._acknowledgeable()) is None:
                # Nothing but batches of which not even the position could be read, or that the standby does not have.
                continue
            request = polygon_ws_pb2.SubscribeMarketRequest(ack=stream_pb2.StreamAck(position=position.message()))
            for batch, (epoch, time_ns) in self._traces.take_traced() if self._traces is not None else ():
                request.traced.add(position=batch.message(), epoch=epoch, time_ns=time_ns)
            try:
                await connection.write(request.SerializeToString())
            except StreamEnded:
                # The reading task gets it, too.
                return
            await asyncio.sleep(ACK_SECONDS)

    def _open_request(self) -> bytes:
        request = polygon_ws_pb2.SubscribeMarketOpen(
            consumer=self._consumer.name,
            fencing_number=self._consumer.fencing_number,
            is_leased=self._consumer.is_leased,
        )
        if (position := self._feed.position) is not None:
            request.position.CopyFrom(position.message())
        return polygon_ws_pb2.SubscribeMarketRequest(open=request).SerializeToString()
