"""Reads the minute bars again that were missed since an earlier process stored bars last."""

import asyncio
from typing import Final

from services.analytics import metrics
from services.analytics.bar_queue import Mark
from services.analytics.core import AnalyticsCore
from services.kit.rpc.frame_reader import PATIENT_SECONDS, FrameReader
from services.kit.rpc.frames import Frame, FrameError
from services.kit.rpc.ring import Position
from services.kit.rpc.sequencers import SequencerTarget
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

CATCH_UP_SECONDS: Final = 60.0


class BarCatchUp:
    """Reads from `target`, once, what lies between the mark and the first snapshot."""

    def __init__(self, core: AnalyticsCore, target: SequencerTarget) -> None:
        self._core = core
        self._target = target
        self._mark: Mark | None = None
        self._task: asyncio.Task[None] | None = None

    def since(self, mark: Mark) -> None:
        """Takes the mark of the earlier process, and begins at once or when there is a market."""
        self._mark = mark
        self.begin()

    def begin(self) -> None:
        """Begins when there are both a mark and a market. No frame may be applied between a snapshot and this."""
        position = self._core.position
        if self._mark is None or position is None:
            return
        mark, self._mark = self._mark, None
        if is_behind(mark, position):
            # At once: the next frame has to wait already.
            self._core.begin_catch_up(mark.whole_from_ns if mark.whole_position is not None else -1)
            self._task = asyncio.create_task(
                catch_up(self._core, self._target, mark, position), name="analytics.catch_up"
            )

    async def close(self) -> None:
        """Ends a catch-up that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class _Replay:
    """A sink that takes the bars after `position`, up to the position of the snapshot."""

    def __init__(self, core: AnalyticsCore, begin: Position, end: Position) -> None:
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._core = core
        self._generation = core.generation
        self.position: Position | None = begin
        self._end = end

    def apply(self, frame: Frame) -> None:
        if self.done.done():
            return
        if self._core.generation != self._generation or not self._core.is_catching_up:
            self._finish(False)
            return
        try:
            self._core.replay(frame.encoded)
        except ValueError as error:
            self._finish(False)
            raise FrameError(f"frame {frame.position} cannot be read again: {error}") from error
        self.position = frame.position
        if frame.position == self._end:
            self._finish(True)

    def load(self, data: bytes, position: Position) -> None:
        # The frames are no longer held.
        self._finish(False)

    def forget(self) -> None:
        self._finish(False)

    def set_unhealthy_reason(self, reason: str) -> None:
        pass

    def _finish(self, is_whole: bool) -> None:
        if not self.done.done():
            self.done.set_result(is_whole)


def is_behind(mark: Mark, position: Position) -> bool:
    """True if there is anything between them that can be read again."""
    return mark.position.epoch == position.epoch and mark.position.sequence < position.sequence


async def catch_up(core: AnalyticsCore, target: SequencerTarget, mark: Mark, end: Position) -> None:
    """Reads what lies between `mark` and `end`, as far as the sequencer still holds it."""
    generation = core.generation
    beginnings = [] if mark.whole_position is None else [(mark.whole_position, mark.whole_from_ns)]
    # That may be further back than is held; then at least the vendor's bars.
    beginnings.append((mark.position, -1))
    is_whole = False
    try:
        for begin, whole_from_ns in beginnings:
            core.begin_catch_up(whole_from_ns)
            if await _read_again(core, target, begin, end):
                is_whole = True
                metrics.CATCH_UPS.labels("whole" if whole_from_ns >= 0 else "vendor_bars").inc()
                log.info("bars that were missed were read again", since=str(begin), until=str(end))
                return
            if core.generation != generation:
                return
        metrics.CATCH_UPS.labels("lost").inc()
        log.warning("bars are missing: the sequencer no longer has them", since=str(mark.position), until=str(end))
    except asyncio.CancelledError:
        if core.generation == generation:
            core.give_up_catch_up()
        raise
    finally:
        if core.generation == generation and core.is_catching_up:
            core.end_catch_up(is_whole)


async def _read_again(core: AnalyticsCore, target: SequencerTarget, begin: Position, end: Position) -> bool:
    replay = _Replay(core, begin, end)
    reader = FrameReader(target, replay, "analytics_catch_up", patience_seconds=PATIENT_SECONDS)
    reading = asyncio.create_task(reader.run(), name="analytics.catch_up")
    try:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            return await replay.done
    except TimeoutError:
        return False
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
