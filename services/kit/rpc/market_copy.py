"""A service that keeps a copy of the market: it follows the sequencer, and keeps what it has while that is away.

`MarketCore` is the copy itself, `MarketCopy` keeps it current, `MarketCopyService` runs both.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from prometheus_client import Gauge
from tradeul.v1 import frame_pb2

from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.frames import Frame, FrameError
from services.kit.rpc.ring import Position
from services.kit.rpc.wire import message_of
from services.kit.runtime.clock import wall_ns
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.metrics import FRAMES
from services.kit.runtime.settings import Settings

if TYPE_CHECKING:
    from services.kit.runtime.spans import Traces

WATERMARK: Final = frame_pb2.Frame.DESCRIPTOR.fields_by_name["watermark"].number
NEW_EPOCH = "the sequencer began a new epoch"
AppliedT = TypeVar("AppliedT")
AppliedT_co = TypeVar("AppliedT_co", covariant=True)


class MarketCore(Protocol[AppliedT_co]):
    """A copy of the market, without any I/O."""

    @property
    def position(self) -> Position | None:
        """The last frame applied; None when a snapshot is needed."""

    @property
    def is_loaded(self) -> bool:
        """True once there is a market, which also a copy has that waits for another snapshot."""

    def apply(self, frame: Frame) -> AppliedT_co:
        """Applies the frame after `position`; raises ValueError when it cannot be applied."""

    def load(self, data: bytes, position: Position) -> None:
        """Replaces the market by a snapshot; raises ValueError when it cannot be read."""

    def forget(self) -> None:
        """Drops the position, so that a snapshot comes next; answers continue from what there is."""


class MarketCopy(Generic[AppliedT]):
    """The sink of a FrameReader, which applies what it reads to `core`. Override what happens then."""

    def __init__(self, core: MarketCore[AppliedT], service: str, is_current: Gauge) -> None:
        # Why the copy does not follow the sequencer; "" while it does.
        self.unhealthy_reason = "not connected to data_ingest yet"
        self.traces: CopyTraces | None = None
        self._core = core
        self._frames = FRAMES.labels(service, "frame")
        self._snapshots = FRAMES.labels(service, "snapshot")
        self._is_current = is_current
        self._current = asyncio.Event()

    def frame_applied(self, frame: Frame, applied: AppliedT) -> None:
        """A frame was applied, with this result."""

    def market_replaced(self, reason: str) -> None:
        """The market is another one, or the same one at another position."""

    async def until_current(self) -> None:
        """Waits until there is a market and it follows the sequencer."""
        await self._current.wait()

    @property
    def position(self) -> Position | None:
        return self._core.position

    def apply(self, frame: Frame) -> None:
        if self.traces is not None:
            self.traces.received()
        try:
            applied = self._core.apply(frame)
        except ValueError as error:
            raise FrameError(f"frame {frame.position} cannot be applied: {error}") from error
        self._frames.inc()
        if frame.begins_market:
            self._replaced(NEW_EPOCH)
        self.frame_applied(frame, applied)
        if self.traces is not None and frame.kind == WATERMARK:
            self.traces.refreshed(frame)

    def load(self, data: bytes, position: Position) -> None:
        try:
            self._core.load(data, position)
        except ValueError as error:
            raise FrameError(f"the snapshot at {position} cannot be read: {error}") from error
        self._snapshots.inc()
        self._replaced(f"a snapshot was loaded at {position}")

    def forget(self) -> None:
        self._core.forget()

    def set_unhealthy_reason(self, reason: str) -> None:
        if reason != self.unhealthy_reason:
            self.unhealthy_reason = reason
            self._is_current.set(not reason)
            self._note_current()

    def _replaced(self, reason: str) -> None:
        self.market_replaced(reason)
        self._note_current()

    def _note_current(self) -> None:
        # An epoch's first frame may come long after the stream is current.
        if self._core.is_loaded and not self.unhealthy_reason:
            self._current.set()
        else:
            self._current.clear()


class CopyTraces:
    """A copy's part of traces: from the first frame after a watermark to the lists of the next."""

    def __init__(self, traces: "Traces", service: str) -> None:
        self._traces = traces
        self._service = service
        self._received_ns = 0
        self._newest_ns = 0

    def received(self) -> None:
        """A frame has come."""
        if not self._received_ns:
            self._received_ns = wall_ns()

    def refreshed(self, watermark: Frame) -> None:
        """A watermark was applied."""
        received_ns, self._received_ns = self._received_ns, 0
        time_ns = message_of(frame_pb2.Watermark, watermark.body).event_time_ns
        # While no time passes, a watermark changes nothing.
        if time_ns == self._newest_ns:
            return
        self._newest_ns = time_ns
        if (refresh := self._traces.sampled(watermark.position.epoch, time_ns)) is not None:
            attributes = {"tradeul.position": str(watermark.position)}
            self._traces.add(self._service, refresh, received_ns, wall_ns(), attributes, parent="frame")


class MarketCopyService(Service):
    """Serves once its copy is current. `begin` what else it does, then `follow`, in start()."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._resources = AsyncExitStack()

    def begin(
        self, name: str, work: Coroutine[Any, Any, None], close: Callable[[], Awaitable[None]] | None = None
    ) -> asyncio.Task[None]:
        """Runs `work` until the service stops; then it is cancelled and `close` awaited, the last begun first."""
        task = asyncio.create_task(work, name=f"{self.name}.{name}")
        self._tasks.append(task)
        if close is not None:
            self.close_at_stop(close)
        return task

    def close_at_stop(self, close: Callable[[], Awaitable[None]]) -> None:
        """Awaits `close` when the service stops, after its tasks have ended."""
        self._resources.push_async_callback(close)

    async def follow(
        self,
        copy: MarketCopy[Any],
        *,
        patience_seconds: float = 0.0,
        take_alerts: Callable[[list[bytes]], None] | None = None,
        settle: Callable[[], None] | None = None,
    ) -> None:
        """Begins to read the sequencer's stream into `copy`; returns when that is current.

        `patience_seconds`, `take_alerts`, `settle`: as FrameReader has them.
        """
        if self.traces is not None:
            copy.traces = CopyTraces(self.traces, self.name)
        reader = FrameReader(
            self.settings.sequencer_addresses,
            copy,
            self.name,
            patience_seconds=patience_seconds,
            take_alerts=take_alerts,
            settle=settle,
        )
        reading = self.begin("reading", reader.run())
        current = asyncio.create_task(copy.until_current(), name=f"{self.name}.until_current")
        try:
            # A reader that ends is a defect: then nothing would ever come.
            await asyncio.wait({reading, current}, return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                await reading
        finally:
            current.cancel()

    async def run(self) -> None:
        await asyncio.gather(*self._tasks)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._resources.aclose()
