"""Dry runs of alert rules: each in processes of its own, as many as there are processors, a day at a time in each."""

import asyncio
import contextlib
import datetime
import os
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
from tradeul.v1 import alert_rule_pb2, dry_run_pb2

from fastcore.wire import read_varint
from services.kit.alerts.dry_run import WORKER, Work
from services.kit.rpc.wire import message_of
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import DRY_RUN_BROKE_OFF, GOING_AWAY, TOO_MANY_DRY_RUNS, ServiceError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described, reason_of
from services.kit.runtime.settings import Settings
from services.kit.runtime.worker_messages import framed, read_message
from services.kit.runtime.workers import end_worker, send, start_worker
from services.ticker import metrics

log = get_logger(__name__)

DIRECTORY: Final = "dry_run"
MOST_RUNS: Final = 2
MOST_PROCESSES: Final = 4
# Each has a market and its history: so much memory, where a container limits it.
PROCESS_BYTES: Final = 1_200_000_000
MEMORY_LIMIT: Final = Path("/sys/fs/cgroup/memory.max")
# Messages between the processes and a client that reads slowly.
HELD_MESSAGES: Final = 256
# The gateway ends a stream that is silent for two minutes.
HEARTBEAT_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 30
Response = dry_run_pb2.DryRunAlertRuleResponse
_FIELDS: Final = {field.number: field.name for field in Response.DESCRIPTOR.fields}


class Wanted(NamedTuple):
    """A dry run: an encoded AlertRule, its days, and what of the alerts is returned."""

    rule: alert_rule_pb2.AlertRule
    days: Sequence[datetime.date]
    symbols: Sequence[str]
    limit: int
    folder: Path


def usual_processes() -> int:
    """As many as there are processors, and as there is memory for."""
    count = min(len(os.sched_getaffinity(0)), MOST_PROCESSES)
    with contextlib.suppress(OSError, ValueError):
        count = min(count, int(MEMORY_LIMIT.read_text()) // PROCESS_BYTES)
    return max(count, 1)


class DryRuns:
    """Those of this process. `end_all()` before it stops."""

    def __init__(self, settings: Settings, max_runs: int = MOST_RUNS, processes: int | None = None) -> None:
        self._settings = settings
        self._max_runs = max_runs
        self._processes = processes or usual_processes()
        self._running: set[_Run] = set()
        self._directory = settings.market_dir / DIRECTORY

    async def messages(self, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        """Encoded DryRunAlertRuleResponses; closing them ends the processes.

        Raises TOO_MANY_DRY_RUNS, DRY_RUN_BROKE_OFF when a process ends before it is done, GOING_AWAY.
        """
        if len(self._running) >= self._max_runs:
            raise TOO_MANY_DRY_RUNS.error(f"limit reached: {self._max_runs} dry runs at once", maximum=self._max_runs)
        run = _Run(self._settings, wanted, self._processes)
        self._running.add(run)
        try:
            with metrics.DRY_RUNS.track_inprogress():
                scratch = await asyncio.to_thread(self._make_scratch)
                try:
                    async with contextlib.aclosing(run.messages(scratch)) as messages:
                        async for message in messages:
                            yield message
                finally:
                    shutil.rmtree(scratch, ignore_errors=True)
        finally:
            self._running.discard(run)

    def end_all(self, reason: str) -> None:
        """Ends the runs with GOING_AWAY."""
        for run in self._running:
            run.end(GOING_AWAY.error(reason))

    def remove_leftovers(self) -> None:
        """Removes what processes that are gone have left."""
        for path in self._directory.glob("*-*"):
            owner = path.name.partition("-")[0]
            if owner.isdecimal() and not Path(f"/proc/{owner}").exists():
                shutil.rmtree(path, ignore_errors=True)

    def _make_scratch(self) -> Path:
        self._directory.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self._directory))


class _Run:
    def __init__(self, settings: Settings, wanted: Wanted, processes: int) -> None:
        self._settings = settings
        self._wanted = wanted
        self._processes = min(processes, len(wanted.days))
        self._days = deque(wanted.days)
        self._queue: asyncio.Queue[bytes] = asyncio.Queue(HELD_MESSAGES)
        self._ending: asyncio.Future[ServiceError] = asyncio.get_running_loop().create_future()
        # The last message of the days that run.
        self._progress: dict[str, bytes] = {}
        self._ended = dry_run_pb2.DryRunEnded()

    def end(self, error: ServiceError) -> None:
        if not self._ending.done():
            self._ending.set_result(error)

    async def messages(self, scratch: Path) -> AsyncGenerator[bytes, None]:
        began = monotonic()
        opened = dry_run_pb2.DryRunOpened(rule=self._wanted.rule, days=[str(day) for day in self._wanted.days])
        yield Response(opened=opened).SerializeToString()
        work = Work(
            self._settings.model_dump_json(),
            self._wanted.rule.SerializeToString(),
            list(self._wanted.symbols),
            self._wanted.limit,
            str(self._wanted.folder),
            str(scratch),
        )
        first = framed(msgspec.msgpack.encode(work))
        lanes = [asyncio.create_task(self._lane(first), name="dry_run.lane") for _ in range(self._processes)]
        for lane in lanes:
            lane.add_done_callback(self._lane_ended)
        try:
            left = len(self._wanted.days)
            while left:
                async for message in self._next():
                    left -= self._note(message)
                    yield message
            self._ended.seconds = round(monotonic() - began, 3)
            yield Response(ended=self._ended).SerializeToString()
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def _next(self) -> AsyncGenerator[bytes, None]:
        """The next message, or, after a while without one, where the days are. Raises what ends the run."""
        getting = asyncio.ensure_future(self._queue.get())
        try:
            waited: set[asyncio.Future[Any]] = {getting, self._ending}
            await asyncio.wait(waited, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not getting.done():
                getting.cancel()
        if self._ending.done():
            raise self._ending.result()
        if not getting.done():
            for message in list(self._progress.values()):
                yield message
        else:
            yield getting.result()

    def _note(self, message: bytes) -> int:
        """Counts a message that is sent; returns 1 for the end of a day."""
        match _FIELDS.get(read_varint(message, 0)[0] >> 3):
            case "progress":
                date = message_of(Response, message).progress.date
                self._progress[date] = message
            case "day":
                day = message_of(Response, message).day
                self._progress.pop(day.date, None)
                self._ended.alerts += day.alerts
                self._ended.returned += day.returned
                self._ended.days += not day.problem
                self._ended.failed_days += bool(day.problem)
                metrics.DRY_RUN_DAYS.labels("failed" if day.problem else "run").inc()
                return 1
        return 0

    async def _lane(self, first: bytes) -> None:
        """A process, to which the days are given as it is done with the one before."""
        try:
            process = await start_worker(WORKER, first)
            try:
                while self._days:
                    await self._run_day(process, self._days.popleft())
            finally:
                await end_worker(process)
        except (OSError, asyncio.IncompleteReadError) as error:
            self.end(DRY_RUN_BROKE_OFF.error(f"a process of the dry run cannot be used: {reason_of(error)}"))
        except ServiceError as error:
            self.end(error)

    def _lane_ended(self, lane: "asyncio.Task[None]") -> None:
        """Whatever a lane ends with, nobody waits for its days."""
        if not lane.cancelled() and (error := lane.exception()) is not None:
            log.error("a dry run broke off", error=described(error))
            self.end(DRY_RUN_BROKE_OFF.error(f"the dry run broke off: {reason_of(error)}"))

    async def _run_day(self, process: asyncio.subprocess.Process, date: datetime.date) -> None:
        send(process, framed(str(date).encode()))
        while True:
            try:
                message = await read_message(process)
            except asyncio.IncompleteReadError:
                code = await process.wait()
                why = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
                log.error("a process of a dry run is gone", date=str(date), code=code)
                raise DRY_RUN_BROKE_OFF.error(f"the process that ran {date} {why}", date=date) from None
            await self._queue.put(message)
            if _FIELDS.get(read_varint(message, 0)[0] >> 3) == "day":
                return
