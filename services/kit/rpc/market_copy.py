"""A service that keeps a copy of the market: it follows the sequencer, and keeps what it has while that is away.

`MarketCore` is the copy itself, `MarketCopy` keeps it current, `MarketCopyService` runs both.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Generic, Protocol, TypeVar

from prometheus_client import Gauge

from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.frames import Frame, FrameError
from services.kit.rpc.ring import Position
from services.kit.runtime.lifecycle import Service
from services.kit.runtime.metrics import FRAMES
from services.kit.runtime.settings import Settings

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
        try:
            applied = self._core.apply(frame)
        except ValueError as error:
            raise FrameError(f"frame {frame.position} cannot be applied: {error}") from error
        self._frames.inc()
        if frame.begins_market:
            self._replaced(NEW_EPOCH)
        self.frame_applied(frame, applied)

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

    async def follow(self, copy: MarketCopy[Any]) -> None:
        """Begins to read the sequencer's stream into `copy`; returns when that is current."""
        reader = FrameReader(self.settings.address("data_ingest"), copy, self.name)
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
