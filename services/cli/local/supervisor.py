"""Runs the mesh's processes: ordered start, restart with back-off also of those that hang, stop in reverse.

Each child starts when all it needs are ready, and is started again when it ends
by itself, as often as it takes. A child that was never ready and fails START_ATTEMPTS
times or cannot be started at all, or that reports wrong settings, ends the whole start
with a clear error.

Ours, where a process manager (supervisord, circus) would be a daemon with a configuration of its own, without an order
by readiness, and would leave the children behind when it is killed.
"""

import asyncio
import contextlib
import enum
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.cli.local.process import ChildProcess, LineSink, ProcessSpec
from services.cli.local.watchdog import Watchdog, is_possible
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of

log = get_logger(__name__)

# sysexits.h EX_CONFIG: starting again would not help.
EXIT_CONFIG: Final = 78
START_ATTEMPTS: Final = 3
READY_SECONDS: Final = 120.0
READY_POLL_SECONDS: Final = 0.05
# Interval at which a child is looked at that has to show that it lives.
WATCH_SECONDS: Final = 1.0
# After this long a child's next failure counts as its first again.
STEADY_SECONDS: Final = 30.0
LAST_LINES: Final = 15


class Phase(enum.Enum):
    WAITING = "waiting"
    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


@dataclass
class _Tended:
    spec: ProcessSpec
    phase: Phase = Phase.WAITING
    process: ChildProcess | None = None
    # Set from the first time it was ready until the end.
    ready_once: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    failures: int = 0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.25, longest=15.0))
    starts: int = 0
    last_lines: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))


def check_order(specs: Sequence[ProcessSpec]) -> None:
    """Raises ValueError when a child needs one that is not before it in the sequence."""
    seen: set[str] = set()
    for spec in specs:
        if missing := [name for name in spec.needs if name not in seen]:
            raise ValueError(f"{spec.name} needs {', '.join(missing)}, expected before it")
        seen.add(spec.name)


class Supervisor:
    """`start()` returns when all are ready; `wait()` raises when the mesh cannot continue; `stop()` ends all.

    `specs` come in an order in which each follows what it needs. A child with `has_watchdog` whose event loop stands
    still for `hung_seconds`, 0 for any time, is killed and started again.
    """

    def __init__(self, specs: Sequence[ProcessSpec], sink: LineSink, hung_seconds: float = 0.0) -> None:
        check_order(specs)
        self._hung_seconds = hung_seconds if is_possible() else 0.0
        self._sink = sink
        self._children = {spec.name: _Tended(spec) for spec in specs}
        self._tasks: list[asyncio.Task[None]] = []
        self._failure: asyncio.Future[None] | None = None
        self._stopping = False

    @property
    def phases(self) -> dict[str, Phase]:
        return {name: child.phase for name, child in self._children.items()}

    @property
    def pids(self) -> dict[str, int]:
        """The processes running now."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process is not None and child.process.running
        }

    def starts(self, name: str) -> int:
        """Returns how often `name` has been started."""
        return self._children[name].starts

    async def start(self) -> None:
        """Starts all; raises StartError when one cannot start, with its last lines."""
        loop = asyncio.get_running_loop()
        self._failure = loop.create_future()
        self._tasks = [loop.create_task(self._tend(child), name=name) for name, child in self._children.items()]
        everything = asyncio.gather(*(child.ready_once.wait() for child in self._children.values()))
        try:
            waited: set[asyncio.Future[Any]] = {everything, self._failure}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                self._failure.result()
        finally:
            everything.cancel()
            await asyncio.gather(everything, return_exceptions=True)

    async def wait(self) -> None:
        """Returns never; raises StartError when a child cannot continue."""
        assert self._failure is not None, "start() first"
        await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Stops every child after those that need it; kills what does not stop in its time."""
        self._stopping = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(self._stop_child(child) for child in self._children.values()))
        if self._failure is not None and not self._failure.done():
            self._failure.cancel()

    def kill(self) -> None:
        """Kills all at once: a second Ctrl-C."""
        for child in self._children.values():
            if child.process is not None:
                child.process.kill()

    async def _stop_child(self, child: _Tended) -> None:
        name = child.spec.name
        dependents = [other for other in self._children.values() if name in other.spec.needs]
        await asyncio.gather(*(other.stopped.wait() for other in dependents))
        try:
            if child.process is not None and child.process.running:
                status = await child.process.stop()
                log.debug("child stopped", child=name, status=status)
        finally:
            if child.spec.clean_up is not None:
                child.spec.clean_up()
            child.phase = Phase.STOPPED
            child.stopped.set()

    async def _tend(self, child: _Tended) -> None:
        try:
            for needed in child.spec.needs:
                await self._children[needed].ready_once.wait()
            while not await self._one_life(child):
                pause = child.backoff.next()
                child.phase = Phase.BACKING_OFF
                log.warning("starting again", child=child.spec.name, in_seconds=pause, failures=child.failures)
                await asyncio.sleep(pause)
        except (StartError, OSError) as error:
            self._fail(StartError(f"{child.spec.name}: {error}"))

    async def _one_life(self, child: _Tended) -> bool:
        """Starts the child and sees it end; whether that was its task's end (`once`)."""
        spec = child.spec
        child.phase = Phase.STARTING
        child.starts += 1
        began = monotonic()
        with contextlib.ExitStack() as stack:
            watchdog = None
            try:
                if spec.has_watchdog and self._hung_seconds:
                    watchdog = stack.enter_context(Watchdog(self._hung_seconds))
                further = watchdog.environment if watchdog is not None else {}
                child.process = process = await ChildProcess.start(spec, self._lines(child), further)
            except OSError as error:
                if not child.ready_once.is_set():
                    raise
                # Of us or of the system: out of open files, processes or memory. The others run on.
                log.error("cannot be started now", child=spec.name, problem=reason_of(error))
                child.failures += 1
                return False
            ended = asyncio.create_task(process.wait())
            try:
                if not spec.once and await self._becomes_ready(child, ended):
                    child.phase = Phase.READY
                    child.ready_once.set()
                    log.info("ready", child=spec.name, seconds=round(monotonic() - began, 2))
                    if watchdog is not None:
                        await _ended_or_hung(process, ended, watchdog)
                status = await ended
            finally:
                ended.cancel()
        if spec.once and status == 0:
            child.phase = Phase.READY
            child.ready_once.set()
            log.info("done", child=spec.name, seconds=round(monotonic() - began, 2))
            return True
        log.error("child ended", child=spec.name, status=status)
        if monotonic() - began > STEADY_SECONDS:
            child.failures = 0
            child.backoff.reset()
        child.failures += 1
        hopeless = status == EXIT_CONFIG or (not child.ready_once.is_set() and child.failures >= START_ATTEMPTS)
        if hopeless:
            lines = "".join(f"\n  {line}" for line in self._last_lines(child))
            raise StartError(f"ended with status {status}, {child.failures} times in a row{lines}")
        return False

    async def _becomes_ready(self, child: _Tended, ended: "asyncio.Task[int]") -> bool:
        """Asks until it is ready or has ended; one that never gets ready is stopped."""
        deadline = monotonic() + READY_SECONDS
        while not ended.done():
            if await child.spec.ready():
                return not ended.done()
            if monotonic() > deadline:
                log.error("not ready in time", child=child.spec.name, seconds=READY_SECONDS)
                assert child.process is not None
                await child.process.stop()
                return False
            await asyncio.wait({ended}, timeout=READY_POLL_SECONDS)
        return False

    def _lines(self, child: _Tended) -> Callable[[str, str], None]:
        def take(name: str, line: str) -> None:
            child.last_lines.append(line)
            self._sink(name, line)

        return take

    def _last_lines(self, child: _Tended) -> list[str]:
        if (path := child.spec.log_file) is not None and path.exists():
            return path.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return list(child.last_lines)

    def _fail(self, error: StartError) -> None:
        assert self._failure is not None
        if not self._failure.done():
            self._failure.set_exception(error)


async def _ended_or_hung(process: ChildProcess, ended: "asyncio.Task[int]", watchdog: Watchdog) -> None:
    """Returns when the process has ended, or has been killed because it hangs."""
    watchdog.watch(process.pid)
    while not ended.done():
        await asyncio.wait({ended}, timeout=WATCH_SECONDS)
        if not ended.done() and watchdog.is_hung:
            log.error("hung: its event loop stood still", child=process.spec.name, seconds=watchdog.seconds)
            process.kill()
            return
