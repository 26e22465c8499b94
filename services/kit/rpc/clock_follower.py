"""The feed's time: follows the sequencer's clock, and finds it again whenever it is back."""

import asyncio
from collections.abc import Callable

import grpc.aio
from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc

from services.kit.rpc.channel import open_channel
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import FeedClock
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Address

log = get_logger(__name__)


class ClockFollower:
    """Keeps `clock` at the sequencer's time; `on_time` is called whenever it moved.

    While the sequencer is away the clock stands still.
    """

    def __init__(self, target: Address | str, clock: FeedClock, on_time: Callable[[], None]) -> None:
        self._target = target
        self._clock = clock
        self._on_time = on_time
        self._epoch = 0

    async def run(self) -> None:
        """Follows until cancelled."""
        backoff = Backoff()
        async with open_channel(self._target) as channel:
            stub = data_ingest_pb2_grpc.DataIngestServiceStub(channel)
            while True:
                try:
                    # The sequencer starts after us: it needs our calendar.
                    async for answer in stub.WatchClock(data_ingest_pb2.WatchClockRequest(), wait_for_ready=True):
                        backoff.reset()
                        self._take(answer)
                    reason = "ended by the server"
                except grpc.aio.AioRpcError as error:
                    reason = f"{error.code().name}: {error.details()}"
                log.info("the sequencer's clock went away", reason=reason)
                await asyncio.sleep(backoff.next())

    def _take(self, answer: data_ingest_pb2.WatchClockResponse) -> None:
        if not answer.HasField("event_time"):
            return
        event_ns = answer.event_time.ToNanoseconds()
        if answer.position.epoch != self._epoch:
            # A sequencer that begins anew may begin at an earlier time.
            self._epoch = answer.position.epoch
            self._clock.reset(event_ns)
        elif not self._clock.advance(event_ns):
            return
        self._on_time()
