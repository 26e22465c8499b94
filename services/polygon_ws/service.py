"""The service: one connection to the vendor, one stream of batches to the sequencer."""

import asyncio
from collections import Counter
from typing import Final

import grpc.aio
from redis.asyncio import Redis
from tradeul.v1 import polygon_ws_pb2, replay_pb2

from fastcore.feed_elements import Status
from services.kit.rpc.server import add_servicer
from services.kit.runtime.clock import fresh_epoch, monotonic, wall_ns
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.logging import get_logger
from services.kit.runtime.metrics import REJECTED, TICKS, CounterSync, SetAsideReport
from services.kit.runtime.settings import Settings
from services.kit.stores.redis import make_client
from services.kit.stores.redis_channels import RedisChannels
from services.polygon_ws import metrics
from services.polygon_ws.batch_traces import BatchTraces
from services.polygon_ws.connection import MAX_MESSAGE_BYTES, FeedConnection, FeedState, Timing
from services.polygon_ws.core import MAX_HELD_BYTES, Backpressure, FeedBuffer
from services.polygon_ws.feed_channels import CHANNELS, FeedChannels
from services.polygon_ws.replay_control import ReplayControl
from services.polygon_ws.servicer import PolygonWsServicer, rejected
from services.polygon_ws.vendor_answers import Subscriptions

log = get_logger(__name__)

TICK_SECONDS: Final = 0.5


class PolygonWs(Service):
    """See polygon_ws.proto."""

    name = "polygon_ws"

    def __init__(
        self,
        settings: Settings,
        timing: Timing | None = None,
        max_held_bytes: int = MAX_HELD_BYTES,
        pause_bytes: int = MAX_HELD_BYTES // 2,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        super().__init__(settings)
        self._timing = timing
        self._max_held_bytes = max_held_bytes
        self._max_message_bytes = max_message_bytes
        self._backpressure = Backpressure(pause_bytes)
        # Since when the vendor's connection has been away, and why; None while it is there, and before the first.
        self._lost: tuple[int, str] | None = None
        self._was_subscribed = False
        self._counters = CounterSync()
        self._report = SetAsideReport()
        self._is_wall = settings.clock == "wall"
        self._redis: Redis | None = None
        self._channels: RedisChannels | None = None
        self._feed_channels: FeedChannels | None = None
        self._traces: BatchTraces | None = None

    async def start(self) -> None:
        subscriptions = Subscriptions(self.settings.subscriptions)
        self.buffer = FeedBuffer(
            await fresh_epoch(),
            self._on_batch,
            asyncio.get_running_loop().call_later,
            max_bytes=self._max_held_bytes,
        )
        polygon = self.settings.polygon
        self.connection = FeedConnection(
            polygon.ws_url,
            polygon.api_key,
            subscriptions,
            self._receive,
            self._on_feed_state,
            self._timing,
            self._max_message_bytes,
        )
        if self.traces is not None:
            self._traces = BatchTraces(self.traces, self._is_wall)
        self._servicer = PolygonWsServicer(self.buffer, self.connection, self._on_progress, traces=self._traces)
        self._control = ReplayControl(polygon, self.settings.uses_simulator)
        if self.settings.redis_url:
            self._redis = make_client(self.settings.redis_url)
            self._channels = RedisChannels(self._redis, CHANNELS)
            self._feed_channels = FeedChannels(self._channels)

    def add_to_server(self, server: grpc.aio.Server) -> tuple[str, ...]:
        service = polygon_ws_pb2.DESCRIPTOR.services_by_name["PolygonWsService"]
        control = replay_pb2.DESCRIPTOR.services_by_name["ReplayService"]
        return (add_servicer(server, service, self._servicer), add_servicer(server, control, self._control))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.connection.run(), name="polygon_ws.connection")
            tasks.create_task(self._tick(), name="polygon_ws.tick")
            if self._channels is not None and self._feed_channels is not None:
                tasks.create_task(self._channels.run(), name="polygon_ws.channels")
                tasks.create_task(self._feed_channels.run(), name="polygon_ws.feed_channels")

    async def drain(self) -> None:
        self.buffer.flush()
        self._servicer.market.go_away("polygon_ws is stopping")

    async def stop(self) -> None:
        await self._control.close()
        if self._redis is not None:
            await self._redis.aclose()

    def _receive(self, message: memoryview) -> list[Status]:
        if self._traces is not None:
            self._traces.received()
        statuses = self.buffer.decode(message)
        if self._feed_channels is not None:
            self._feed_channels.receive(message)
        return statuses

    def _on_batch(self) -> None:
        if self._traces is not None:
            self._traces.batched(self.buffer.position, self.buffer.decoder.last_trade_ns)
        self._servicer.market.wake()
        self._check_backpressure()
        metrics.BATCHES.inc()
        if self._is_wall and self.buffer.decoder.last_trade_ns:
            metrics.LAG.observe((wall_ns() - self.buffer.decoder.last_trade_ns) / 1e9)

    def _on_progress(self) -> None:
        self._backpressure.progress(monotonic())
        self._check_backpressure()

    def _check_backpressure(self) -> None:
        is_paused = self._backpressure.update(
            self.buffer.ring.held_bytes, self._servicer.market.has_subscriber, monotonic()
        )
        if is_paused != self.connection.is_paused:
            self.connection.pause_reading(is_paused)
            metrics.PAUSED.set(is_paused)

    def _on_feed_state(self, state: FeedState, detail: str) -> None:
        for each in FeedState:
            metrics.FEED_STATE.labels(each.name.lower()).set(each is state)
        metrics.REFUSED.set(len(self.connection.subscriptions.refused))
        self.set_unhealthy_reason(detail if state is FeedState.REFUSED else None)
        if state is FeedState.SUBSCRIBED:
            if self._lost is not None:
                self._add_gap(wall_ns())
            self._lost = None
            self._was_subscribed = True
        elif state in (FeedState.BACKING_OFF, FeedState.REFUSED) and self._was_subscribed and self._lost is None:
            self._lost = (self.connection.last_message_ns or wall_ns(), detail)
            self._add_gap(None)

    def _add_gap(self, to_ns: int | None) -> None:
        assert self._lost is not None, "the connection was lost"
        from_ns, reason = self._lost
        self.buffer.add_gap(from_ns, to_ns, reason)
        self._servicer.market.wake()

    async def _tick(self) -> None:
        """Counters go to the metrics now and then, not with every event."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._check_backpressure()
            self._count()

    def _count(self) -> None:
        raise_to = self._counters.raise_to
        buffer, connection = self.buffer, self.connection
        metrics.HELD_BATCHES.set(buffer.held_batches)
        metrics.HELD_BYTES.set(buffer.ring.held_bytes)
        raise_to(metrics.MESSAGES, "messages", connection.messages)
        raise_to(metrics.RECONNECTS, "reconnects", connection.reconnects)
        raise_to(metrics.DROPPED_BATCHES, "dropped_batches", buffer.dropped_batches)
        raise_to(metrics.DROPPED_EVENTS, "dropped_events", buffer.dropped_events)
        for kind, count in buffer.decoder.totals.items():
            raise_to(TICKS.labels(self.name, kind), kind, count)
        now = Counter(rejected(buffer, connection))
        for reason, count in now.items():
            raise_to(REJECTED.labels(self.name, reason), f"rejected.{reason}", count)
        now["dropped_events"] = buffer.dropped_events
        self._report.update(now)


def create(settings: Settings) -> Service:
    """The factory that services/modules.py names."""
    return PolygonWs(settings)
