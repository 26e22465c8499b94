"""The state of the vendor's line, from the sequencer: today's gaps, and how long nothing has come."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import grpc.aio
from tradeul.v1 import data_ingest_pb2, data_ingest_pb2_grpc, session_pb2, stream_pb2

from services.kit.rpc.sequencers import Sequencers, SequencerTarget
from services.kit.runtime.clock import monotonic
from services.scanner.core import ScannerCore

POLL_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 3.0
# As long as the silence of a vendor that counts.
SILENCE_SECONDS: Final = 15.0


class FeedLine:
    """Polls the sequencer. `now`: monotonic seconds."""

    def __init__(self, target: SequencerTarget, core: ScannerCore, now: Callable[[], float] = monotonic) -> None:
        self.gaps: Sequence[stream_pb2.FeedLineGap] = ()
        self._sequencers = Sequencers(target)
        self._core = core
        self._now = now
        self._stale_seconds = 0.0
        self._answered_at = now()

    def stale_seconds(self) -> float:
        """How long nothing has come although something should have; counts on while the sequencer does not answer."""
        away = self._now() - self._answered_at
        if away < SILENCE_SECONDS:
            return self._stale_seconds
        is_open = self._core.is_loaded and self._core.market.state.session != session_pb2.CLOSED
        return round(self._stale_seconds + away, 1) if is_open else 0.0

    def take(self, status: data_ingest_pb2.SequencerStatus) -> None:
        """Takes over what the sequencer answers."""
        self._answered_at = self._now()
        self._stale_seconds = status.stale_seconds
        self.gaps = status.gaps

    async def run(self) -> None:
        """Polls until cancelled."""
        async with self._sequencers as sequencers:
            while True:
                stub = data_ingest_pb2_grpc.DataIngestServiceStub(sequencers.channel)
                request = data_ingest_pb2.GetSequencerStatusRequest()
                # The stream of frames says why it does not answer; stale_seconds counts on.
                try:
                    self.take(await stub.GetSequencerStatus(request, timeout=ANSWER_SECONDS))
                except grpc.aio.AioRpcError:
                    sequencers.next()
                self._core.note_stale(self.stale_seconds())
                await asyncio.sleep(POLL_SECONDS)
