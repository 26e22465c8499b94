"""The market's time: follows the sequencer's clock, and finds it again whenever it is back."""

from collections.abc import Callable
from typing import Final

from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc

from services.kit.rpc.channel import Connection, StreamEnded, reconnecting
from services.kit.rpc.sequencers import Sequencers, SequencerTarget
from services.kit.runtime.clock import FollowingClock
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

# A clock that stands still for so long may be that of a sequencer that does.
SEVERAL_SILENCE_SECONDS: Final = 5.0


class ClockFollower:
    """Keeps `clock` at the sequencer's time; `on_time` is called whenever it moved.

    While the sequencer is away the clock stands still.
    """

    def __init__(self, target: SequencerTarget, clock: FollowingClock, on_time: Callable[[], None]) -> None:
        self._sequencers = Sequencers(target)
        self._clock = clock
        self._on_time = on_time
        self._epoch = 0
        self._backoff = self._sequencers.backoff()

    async def run(self) -> None:
        """Follows until cancelled."""
        async with self._sequencers:
            await reconnecting(self._follow, self._ended, self._backoff)

    def _ended(self, reason: str, _: float) -> None:
        log.info("the sequencer's clock went away", reason=reason)

    async def _follow(self) -> str:
        """Follows one connection to its end; returns why it ended."""
        # The sequencer starts after us: it needs our calendar. Its clock may stand still for long.
        # Of several, one that is away or stands still is not waited for.
        sequencers, are_several = self._sequencers, self._sequencers.are_several
        stub = data_ingest_pb2_grpc.DataIngestServiceStub(sequencers.channel)
        call = stub.WatchClock(data_ingest_pb2.WatchClockRequest(), wait_for_ready=not are_several)
        silence_seconds = SEVERAL_SILENCE_SECONDS if are_several else None
        try:
            with Connection[data_ingest_pb2.WatchClockResponse](call, silence_seconds) as connection:
                while True:
                    self._take(await connection.read())
                    self._backoff.reset()
        except StreamEnded as ended:
            sequencers.next(ended.is_silence)
            return str(ended)

    def _take(self, answer: data_ingest_pb2.WatchClockResponse) -> None:
        if not answer.HasField("event_time"):
            return
        event_ns = answer.event_time.ToNanoseconds()
        if answer.position.epoch != self._epoch:
            # A sequencer that starts again may begin at an earlier time.
            self._epoch = answer.position.epoch
            self._clock.reset(event_ns)
        elif not self._clock.advance(event_ns):
            return
        self._on_time()
