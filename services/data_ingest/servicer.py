"""DataIngestService: protos to and from the sequencer."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, Final

import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import data_ingest_pb2

from services.data_ingest import metrics
from services.data_ingest.feed.feed_input import FeedInput
from services.data_ingest.stream.frame_stream import FrameStream
from services.data_ingest.stream.frame_subscription import FrameSubscription
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import INVALID_REQUEST, OPEN_EXPECTED, OPEN_REPEATED, ServiceError
from services.kit.runtime.logging import get_logger
from services.market.dates import trading_date

log = get_logger(__name__)

CLOCK_SECONDS: Final = 1.0
LONGEST_NAME: Final = 100

Request = data_ingest_pb2.SubscribeFramesRequest
Context = grpc.aio.ServicerContext[Any, Any]


class DataIngestServicer:
    """`reference` gives the number of symbols by kind of reference data, `rejected` what was set aside by reason,
    `warnings` what is wrong with the feed or the day."""

    def __init__(
        self,
        sequencer: Sequencer,
        feed: FeedInput,
        stream: FrameStream,
        reference: Callable[[], dict[str, int]],
        rejected: Callable[[], dict[str, int]],
        warnings: Callable[[], list[str]],
    ) -> None:
        self._sequencer = sequencer
        self._feed = feed
        self._stream = stream
        self._reference = reference
        self._rejected = rejected
        self._warnings = warnings
        self._closing = asyncio.Event()

    def close(self, reason: str) -> None:
        """Ends every stream, those of frames with going_away."""
        self._closing.set()
        self._stream.close(reason)

    async def SubscribeFrames(self, requests: AsyncIterator[Request], context: Context) -> None:
        """Writes encoded SubscribeFramesResponses until the reader or this service goes."""
        first = await anext(aiter(requests), None)
        if first is None or first.WhichOneof("request") != "open":
            raise OPEN_EXPECTED.error("expected open as the first message")
        opening = first.open
        if (length := len(opening.reader)) > LONGEST_NAME:
            raise INVALID_REQUEST.error(f"reader: expected at most {LONGEST_NAME} characters, was {length}")
        asked = Position.of(opening.position) if opening.HasField("position") else None
        subscription = self._stream.subscribe(asked, opening.reader, opening.credit, opening.wants_newest_state)
        log.info("reader came", reader=opening.reader, asked=str(asked))
        acks = asyncio.create_task(_read(requests, subscription), name="data_ingest.reader_acks")
        try:
            with metrics.READERS.track_inprogress():
                async with contextlib.aclosing(subscription.messages()) as messages:
                    async for message in messages:
                        await context.write(message)
        finally:
            acks.cancel()
            await asyncio.gather(acks, return_exceptions=True)
            log.info("reader went", reader=opening.reader, at=str(subscription.at))

    async def WatchClock(
        self, _: data_ingest_pb2.WatchClockRequest, __: Context
    ) -> AsyncGenerator[data_ingest_pb2.WatchClockResponse, None]:
        """The clock now, then once a second while it moves."""
        sequencer = self._sequencer
        shown: tuple[int, str] | None = None
        with metrics.CLOCK_WATCHERS.track_inprogress():
            while not self._closing.is_set():
                now = (sequencer.now_ns, self._trading_date())
                if now != shown:
                    shown = now
                    yield data_ingest_pb2.WatchClockResponse(
                        event_time=timestamp(now[0]), position=sequencer.position.message(), trading_date=now[1]
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
            position=sequencer.position.message(),
            oldest=Position(stream.ring.epoch, stream.ring.oldest).message(),
            event_time=timestamp(sequencer.now_ns),
            trading_date=self._trading_date(),
            symbols=len(sequencer.symbols),
            reference=self._reference(),
            rejected=self._rejected(),
            readers=len(stream.readers),
            slow_readers=stream.slow,
            warnings=self._warnings(),
            **self._feed.admission.accepted,
        )


async def _read(requests: AsyncIterator[Request], subscription: FrameSubscription) -> None:
    """Takes acknowledgements until the reader cancels or makes a mistake; one that only stops sending reads on."""
    try:
        async for request in requests:
            kind = request.WhichOneof("request")
            if kind == "cancel":
                subscription.end()
                return
            if kind == "open":
                raise OPEN_REPEATED.error("expected open as the first message only")
            if kind != "ack":
                raise INVALID_REQUEST.error("expected open, ack or cancel, was an empty message")
            subscription.acknowledge(Position.of(request.ack.position))
    except ServiceError as error:
        subscription.end(error)


def timestamp(ns: int) -> Timestamp:
    value = Timestamp()
    value.FromNanoseconds(ns)
    return value
