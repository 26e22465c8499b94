"""Where the sequencer's frames become the state; how bars that were missed before the start are read again."""

import asyncio
from collections.abc import Callable
from typing import Final

from services.analytics import metrics
from services.analytics.core import AnalyticsCore, Mark
from services.kit.rpc.frame_reader import FrameReader
from services.kit.rpc.frames import FrameError, next_frame
from services.kit.rpc.ring import Position
from services.kit.runtime.logging import get_logger
from services.kit.runtime.settings import Address

log = get_logger(__name__)

CATCH_UP_SECONDS: Final = 60.0


class MarketFollower:
    """The frame reader's sink. `on_frame` is called after each frame, `on_state` after each other state.

    Bars that were missed before the start are read again from `target`, once catch_up() says since where.
    """

    def __init__(
        self,
        core: AnalyticsCore,
        target: Address | str,
        on_state: Callable[[], None],
        on_frame: Callable[[memoryview], None],
    ) -> None:
        self.core = core
        self.problem = "not connected to data_ingest yet"
        self._target = target
        self._mark: Mark | None = None
        self._catching_up: asyncio.Task[None] | None = None
        self._on_state = on_state
        self._on_frame = on_frame
        self._current = asyncio.Event()

    async def until_current(self) -> None:
        """Waits until there is a state and it follows the sequencer."""
        await self._current.wait()

    @property
    def position(self) -> Position | None:
        return self.core.position

    def apply(self, frame: memoryview) -> None:
        begins = self.core.apply(frame)
        metrics.FRAMES_APPLIED.inc()
        if begins:
            self._state_replaced()
        self._on_frame(frame)

    def load(self, data: bytes, position: Position) -> None:
        self.core.load(data, position)
        metrics.WHOLE_STATES.inc()
        self._begin_catch_up()
        self._state_replaced()

    def catch_up(self, mark: Mark) -> None:
        """Reads again what came since an earlier process stored bars last, now or once there is a state; once only."""
        self._mark = mark
        self._begin_catch_up()

    def _begin_catch_up(self) -> None:
        position = self.core.position
        if self._mark is None or position is None:
            return
        mark, self._mark = self._mark, None
        if is_behind(mark, position):
            # At once: the next frame has to wait already.
            self.core.begin_catch_up(mark.whole_from_ns if mark.whole_position is not None else -1)
            self._catching_up = asyncio.create_task(
                catch_up(self.core, self._target, mark, position), name="analytics.catch_up"
            )

    async def close(self) -> None:
        """Ends the catch-up, if there is one under way."""
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.gather(self._catching_up, return_exceptions=True)

    def forget(self) -> None:
        self.core.forget()

    def set_problem(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            metrics.IS_CURRENT.set(not problem)
            self._note_current()

    def _state_replaced(self) -> None:
        self._on_state()
        self._note_current()

    def _note_current(self) -> None:
        if self.core.is_loaded and not self.problem:
            self._current.set()
        else:
            self._current.clear()


class _Replay:
    """A sink that takes bars from `position` up to where the state was taken."""

    def __init__(self, core: AnalyticsCore, begin: Position, end: Position) -> None:
        self.done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._core = core
        self._generation = core.generation
        self._position: Position | None = begin
        self._end = end

    @property
    def position(self) -> Position | None:
        return self._position

    def apply(self, frame: memoryview) -> None:
        if self.done.done():
            return
        if self._core.generation != self._generation or not self._core.is_catching_up:
            self._finish(False)
            return
        parts, _ = next_frame(frame, self._position)
        try:
            self._core.replay(frame)
        except ValueError as error:
            self._finish(False)
            raise FrameError(f"frame {parts.epoch}/{parts.sequence} cannot be read again: {error}") from error
        self._position = Position(parts.epoch, parts.sequence)
        if self._position == self._end:
            self._finish(True)

    def load(self, data: bytes, position: Position) -> None:
        # The frames are no longer held.
        self._finish(False)

    def forget(self) -> None:
        self._finish(False)

    def set_problem(self, problem: str) -> None:
        pass

    def _finish(self, is_whole: bool) -> None:
        if not self.done.done():
            self.done.set_result(is_whole)


def is_behind(mark: Mark, position: Position) -> bool:
    """Whether there is anything between them that can be read again."""
    return mark.position.epoch == position.epoch and mark.position.sequence < position.sequence


async def catch_up(core: AnalyticsCore, target: Address | str, mark: Mark, end: Position) -> None:
    """Reads again what came between `mark` and `end`, as far as the sequencer still has it."""
    generation = core.generation
    places = [] if mark.whole_position is None else [(mark.whole_position, mark.whole_from_ns)]
    # Further back than is held, perhaps; then at least the vendor's bars.
    places.append((mark.position, -1))
    is_whole = False
    try:
        for begin, whole_from_ns in places:
            core.begin_catch_up(whole_from_ns)
            if await _read_again(core, target, begin, end):
                is_whole = True
                metrics.CATCH_UPS.labels("whole" if whole_from_ns >= 0 else "vendor_bars").inc()
                log.info("bars that were missed are here", since=str(begin), until=str(end))
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


async def _read_again(core: AnalyticsCore, target: Address | str, begin: Position, end: Position) -> bool:
    replay = _Replay(core, begin, end)
    reading = asyncio.create_task(FrameReader(target, replay, "analytics_catch_up").run(), name="analytics.catch_up")
    try:
        async with asyncio.timeout(CATCH_UP_SECONDS):
            return await replay.done
    except TimeoutError:
        return False
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
