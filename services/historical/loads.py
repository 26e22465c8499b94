"""The loads of this process: started, watched, cancelled; and loads as messages."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final

from tradeul.v1 import historical_pb2

from services.historical import metrics
from services.historical.context import LoadContext
from services.historical.core import Kind, Progress, Request, State
from services.historical.runner import Runner
from services.kit.rpc.envelope import Envelope
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import GOING_AWAY, LOAD_RUNNING, UNKNOWN_LOAD
from services.kit.runtime.logging import get_logger

Record = Any
LoadJob = historical_pb2.LoadJob
ENVELOPE: Final = Envelope(historical_pb2.WatchLoadResponse)
RUNNING: Final = historical_pb2.LOAD_STATE_RUNNING
_COUNTS: Final = ("total", "done", "skipped", "failed")


def job_message(record: Record, progress: Progress | None, problems: Iterable[Record]) -> historical_pb2.LoadJob:
    """A row of load_jobs, with the current progress when its process is this one."""
    now = progress or Progress(*(record[name] for name in Progress._fields))
    message = historical_pb2.LoadJob(
        job_id=record["job_id"],
        kind=record["kind"],
        source=record["source"],
        to=str(record["last_date"]),
        state=historical_pb2.LoadState.Value(f"LOAD_STATE_{record['state']}"),
        step=now.step,
        rows=now.rows,
        rows_set_aside=now.set_aside,
        error=record["error"] or "",
        problems=[
            historical_pb2.LoadProblem(place=row["place"], line=row["line"], reason=row["reason"]) for row in problems
        ],
        **{name: getattr(now, name) for name in _COUNTS},
    )
    # A keyword of Python.
    setattr(message, "from", str(record["first_date"]))
    message.started_at.FromDatetime(record["started_at"])
    if record["ended_at"] is not None:
        message.ended_at.FromDatetime(record["ended_at"])
    elif (left := now.seconds_left(record["seconds"])) is not None:
        message.units_per_second, message.seconds_left = now.rate(record["seconds"]), left
    return message


def counted(message: historical_pb2.LoadJob) -> tuple[object, ...]:
    """The parts whose change is sent to watchers."""
    return (message.step, message.rows, message.rows_set_aside, *(getattr(message, name) for name in _COUNTS))


log = get_logger(__name__)

SHOW_SECONDS: Final = 0.25
# For loads of other processes, whose progress is read from the database.
LOOK_SECONDS: Final = 1.0
HEARTBEAT_SECONDS: Final = 10.0


class Loads:
    """Keeps the tasks; their outcome is in the database."""

    def __init__(self, runner: Runner, epoch: int) -> None:
        self._runner = runner
        self._epoch = epoch
        self._tasks: dict[int, asyncio.Task[int]] = {}
        self._contexts: dict[int, LoadContext] = {}
        self._closing: str | None = None

    async def start(self, request: Request) -> int:
        """Starts a load and returns its id; raises ServiceError when it cannot be started."""
        if self._closing is not None:
            raise GOING_AWAY.error(self._closing)
        begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def begin(job_id: int, context: LoadContext) -> None:
            self._contexts[job_id] = context
            self._tasks[job_id] = task
            begun.set_result(job_id)

        task = asyncio.create_task(self._runner.run(request, begin), name=f"historical.{request.kind}")
        task.add_done_callback(self._ended)
        try:
            await asyncio.wait({task, begun}, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            # Nobody would know of the load.
            task.cancel()
            raise
        if not begun.done():
            return await task
        return begun.result()

    async def cancel(self, job_id: int) -> None:
        """Ends a load of this process; raises UNKNOWN_LOAD, LOAD_RUNNING for one of another process."""
        if (task := self._tasks.get(job_id)) is not None:
            task.cancel()
            await asyncio.wait({task})
            return
        record = await self._record(job_id)
        if record["state"] == State.RUNNING:
            raise LOAD_RUNNING.error(f"load {job_id} runs in another process: cancel it there", job_id=job_id)

    async def job(self, job_id: int, with_problems: bool = True) -> LoadJob:
        """A load as a message; raises UNKNOWN_LOAD."""
        record = await self._record(job_id)
        context = self._contexts.get(job_id)
        progress = None if context is None or record["state"] != State.RUNNING else context.progress
        problems = await self._runner.jobs.problems(job_id) if with_problems else ()
        return job_message(record, progress, problems)

    async def newest(self, limit: int, kind: Kind | None) -> list[LoadJob]:
        return [job_message(record, None, ()) for record in await self._runner.jobs.newest(limit, kind)]

    async def watch(self, job_id: int) -> AsyncGenerator[bytes, None]:
        """Encoded WatchLoadResponses until the load has ended, or close(); raises UNKNOWN_LOAD."""
        with metrics.WATCHERS.track_inprogress():
            job, sequence, quiet = await self.job(job_id, with_problems=False), 1, 0.0
            yield ENVELOPE.opened(Position(self._epoch, sequence))
            sent = None
            pause = SHOW_SECONDS if job_id in self._contexts else LOOK_SECONDS
            while True:
                if job.state != RUNNING:
                    yield ENVELOPE.wrap("ended", (await self.job(job_id)).SerializeToString())
                    return
                if self._closing is not None:
                    yield ENVELOPE.going_away(Position(self._epoch, sequence), self._closing)
                    return
                if counted(job) != sent:
                    sent, quiet, sequence = counted(job), 0.0, sequence + 1
                    yield ENVELOPE.wrap("job", job.SerializeToString())
                elif quiet >= HEARTBEAT_SECONDS:
                    quiet = 0.0
                    if job_id not in self._contexts:
                        # Its process may be gone.
                        await self._runner.jobs.close_leftovers()
                    yield ENVELOPE.heartbeat(Position(self._epoch, sequence))
                await asyncio.sleep(pause)
                quiet += pause
                job = await self.job(job_id, with_problems=False)

    def end_streams(self, reason: str) -> None:
        """Ends the streams, and starts no more."""
        self._closing = reason

    async def close(self) -> None:
        """Cancels the loads: they continue where they were when they are started again."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _record(self, job_id: int) -> Record:
        if (record := await self._runner.jobs.get(job_id)) is None:
            raise UNKNOWN_LOAD.error(f"no load {job_id}", job_id=job_id)
        return record

    def _ended(self, task: "asyncio.Task[int]") -> None:
        for job_id in [job_id for job_id, each in self._tasks.items() if each is task]:
            del self._tasks[job_id], self._contexts[job_id]
        if not task.cancelled():
            # Reported already: to the sender of a request that made no load, else in the log.
            task.exception()
