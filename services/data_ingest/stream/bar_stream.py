"""Bars by themselves, as they are admitted: the ring's bar frames without everything else."""

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, Final

import grpc.aio
from tradeul.v1 import bars_pb2, frame_pb2

from services.data_ingest import metrics
from services.data_ingest.stream.sequencer import Sequencer
from services.kit.rpc.cursor import Broadcast, Subscription, Timers
from services.kit.rpc.envelope import Envelope
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import INVALID_REQUEST
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

# Batches that wait for a watcher; seconds of them when the market is busy.
MAX_WAITING: Final = 256
# By these a watcher notices that a sequencer stands still and another one leads, as soon as by frames.
HEARTBEAT_SECONDS: Final = 1.0
LONGEST_NAME: Final = 100
BARS: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["bars"].number
ENVELOPE: Final = Envelope(bars_pb2.WatchBarsResponse)

Context = grpc.aio.ServicerContext[Any, Any]


class _Watcher(Subscription):
    """Encoded responses that wait for one watcher, the oldest making room."""

    def __init__(self, timers: Timers) -> None:
        super().__init__(timers)
        self.waiting: deque[bytes] = deque(maxlen=MAX_WAITING)
        # Symbols whose names it has.
        self.named = 0


class BarStream(Broadcast[_Watcher]):
    """BarService. Costs nothing while nobody watches."""

    def __init__(self, sequencer: Sequencer, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> None:
        super().__init__(heartbeat_seconds)
        self._sequencer = sequencer
        # Responses that may not be shown yet, with their frames' positions.
        self._held: deque[tuple[Position, bytes]] = deque()
        sequencer.listen(self._on_frame)
        sequencer.committed.listen(self._show)

    def _on_frame(self, body: str, content: bytes) -> None:
        if body != "bars" or not self.readers:
            return
        self._held.append((self._sequencer.position, ENVELOPE.wrap("bars", content)))
        self._show()

    def _show(self) -> None:
        while self._held and self._sequencer.committed.covers(self._held[0][0]):
            self._give(self._held.popleft()[1])

    def _give(self, response: bytes) -> None:
        for watcher in self.readers:
            if len(watcher.waiting) == MAX_WAITING:
                metrics.DROPPED_BARS.inc()
            watcher.waiting.append(response)
            watcher.wake()

    async def WatchBars(self, request: bars_pb2.WatchBarsRequest, _: Context) -> AsyncIterator[bytes]:
        if (length := len(request.watcher)) > LONGEST_NAME:
            raise INVALID_REQUEST.error(f"watcher: expected at most {LONGEST_NAME} characters, was {length}")
        log.info("bar watcher connected", watcher=request.watcher)
        async with contextlib.aclosing(self._messages()) as messages:
            async for message in messages:
                yield message

    async def _messages(self) -> AsyncGenerator[bytes, None]:
        with metrics.BAR_WATCHERS.track_inprogress(), self.joined(_Watcher(self.timers)) as watcher:
            while watcher.closing is None:
                if (names := self._new_names(watcher)) is not None:
                    yield names
                elif watcher.waiting:
                    watcher.sent()
                    yield watcher.waiting.popleft()
                elif not await watcher.wait():
                    yield ENVELOPE.heartbeat(self._sequencer.committed.position)
            yield ENVELOPE.going_away(self._sequencer.committed.position, watcher.closing)

    def _new_names(self, watcher: _Watcher) -> bytes | None:
        texts = self._sequencer.symbols.texts
        if watcher.named == len(texts):
            return None
        table = frame_pb2.SymbolTable(first_id=watcher.named, symbols=texts[watcher.named :])
        watcher.named = len(texts)
        return ENVELOPE.wrap("symbols", table.SerializeToString())
