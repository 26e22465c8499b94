"""DataIngestService: protos to and from the sequencer."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import grpc.aio
from tradeul.v1 import data_ingest_pb2, stream_pb2

from services.data_ingest import metrics
from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.feed.line_gaps import Gap
from services.data_ingest.status import Status
from services.data_ingest.stream.frame_stream import MAX_PATIENCE_SECONDS, FrameStream, ReaderOptions
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.rpc.ring import Position
from services.kit.rpc.subscribing import first_request, requested_position, serve
from services.kit.rpc.wire import timestamp
from services.kit.runtime.errors import INVALID_REQUEST
from services.kit.runtime.logging import get_logger
from services.market.dates import trading_date

log = get_logger(__name__)

CLOCK_SECONDS: Final = 1.0
LONGEST_NAME: Final = 100

Request = data_ingest_pb2.SubscribeFramesRequest
Context = grpc.aio.ServicerContext[Any, Any]


class DataIngestServicer:
    """`status` gives what the service knows of itself."""

    def __init__(
        self,
        sequencer: Sequencer,
        feed: FeedInput,
        stream: FrameStream,
        status: Status,
    ) -> None:
        self._sequencer = sequencer
        self._feed = feed
        self._stream = stream
        self._status = status
        self._closing = asyncio.Event()

    def close(self, reason: str) -> None:
        """Ends every stream, those of frames with going_away."""
        self._closing.set()
        self._stream.close(reason)

    async def SubscribeFrames(self, requests: AsyncIterator[Request], context: Context) -> None:
        """Writes encoded SubscribeFramesResponses until the reader or this service goes."""
        request = (await first_request(requests)).open
        if (length := len(request.reader)) > LONGEST_NAME:
            raise INVALID_REQUEST.error(f"reader: expected at most {LONGEST_NAME} characters, was {length}")
        position = requested_position(request)
        options = ReaderOptions(
            request.credit,
            request.wants_newest_state,
            request.wants_alerts,
            request.wants_bundles,
            min(request.patience_ms / 1000, MAX_PATIENCE_SECONDS),
        )
        subscription = self._stream.subscribe(position, request.reader, options)
        log.info("reader connected", reader=request.reader, requested_position=str(position))
        try:
            with metrics.READERS.track_inprogress():
                await serve(subscription.messages(), requests, context, subscription.acknowledge)
        finally:
            log.info("reader disconnected", reader=request.reader, position=str(subscription.position))

    async def WatchClock(
        self, _: data_ingest_pb2.WatchClockRequest, __: Context
    ) -> AsyncGenerator[data_ingest_pb2.WatchClockResponse, None]:
        """The clock now, then once a second while it moves."""
        sequencer = self._sequencer
        shown: tuple[int, str] | None = None
        with metrics.CLOCK_WATCHERS.track_inprogress():
            while not self._closing.is_set():
                now, position = (sequencer.now_ns, self._trading_date()), sequencer.position
                if now != shown:
                    shown = now
                    await sequencer.committed.until_covered(position)
                    yield data_ingest_pb2.WatchClockResponse(
                        event_time=timestamp(now[0]), position=position.message(), trading_date=now[1]
                    )
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CLOCK_SECONDS):
                        await self._closing.wait()

    def _trading_date(self) -> str:
        day = self._sequencer.day
        return trading_date(str(day.date), str(day.next_date or ""), self._sequencer.now_ns)

    async def GetSequencerStatus(
        self, _: data_ingest_pb2.GetSequencerStatusRequest, __: Context
    ) -> data_ingest_pb2.SequencerStatus:
        sequencer, stream = self._sequencer, self._stream
        return data_ingest_pb2.SequencerStatus(
            position=sequencer.committed.position.message(),
            oldest=Position(stream.ring.epoch, stream.ring.oldest).message(),
            event_time=timestamp(sequencer.now_ns),
            trading_date=self._trading_date(),
            symbols=len(sequencer.symbols),
            reference=self._status.reference(),
            rejected=self._status.rejected(),
            readers=len(stream.readers),
            slow_readers=stream.slow,
            warnings=self._status.warnings(),
            stale_seconds=self._status.stale_seconds,
            gaps=map(gap_message, self._status.gaps),
            **self._feed.admission.accepted,
        )


def gap_message(gap: Gap) -> stream_pb2.FeedLineGap:
    return stream_pb2.FeedLineGap(
        **{"from": timestamp(gap.from_ns)},
        to=timestamp(gap.to_ns) if gap.to_ns is not None else None,
        state=stream_pb2.FeedLineGap.State.Value(gap.state),
        symbols_refilled=gap.symbols_refilled,
        reason=gap.reason,
    )
