"""The loads of this process: started, watched, cancelled."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from services.historical import messages, metrics
from services.historical.core import Kind, Request, State
from services.historical.messages import ENVELOPE
from services.historical.runner import Runner
from services.historical.work import Work
from services.kit.rpc.ring import Position
from services.kit.runtime.errors import GOING_AWAY, LOAD_RUNNING, UNKNOWN_LOAD
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

SHOW_SECONDS: Final = 0.25
# Of loads of other processes, whose progress the database tells.
LOOK_SECONDS: Final = 1.0
HEARTBEAT_SECONDS: Final = 10.0


class Loads:
    """Keeps the tasks; what they come to is in the database."""

    def __init__(self, runner: Runner, epoch: int) -> None:
        self._runner = runner
        self._epoch = epoch
        self._tasks: dict[int, asyncio.Task[int]] = {}
        self._works: dict[int, Work] = {}
        self._closing: str | None = None

    async def start(self, request: Request) -> int:
        """The new load's number; raises ServiceError when there is none."""
        if self._closing is not None:
            raise GOING_AWAY.error(self._closing)
        begun: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def begin(job_id: int, work: Work) -> None:
            self._works[job_id] = work
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

    async def job(self, job_id: int, with_problems: bool = True) -> messages.LoadJob:
        """How a load stands; raises UNKNOWN_LOAD."""
        record = await self._record(job_id)
        work = self._works.get(job_id)
        progress = None if work is None or record["state"] != State.RUNNING else work.progress
        problems = await self._runner.jobs.problems(job_id) if with_problems else ()
        return messages.job(record, progress, problems)

    async def newest(self, limit: int, kind: Kind | None) -> list[messages.LoadJob]:
        return [messages.job(record, None, ()) for record in await self._runner.jobs.newest(limit, kind)]

    async def watch(self, job_id: int) -> AsyncGenerator[bytes, None]:
        """Encoded WatchLoadResponses until the load has ended, or close(); raises UNKNOWN_LOAD."""
        with metrics.WATCHERS.track_inprogress():
            job, sequence, quiet = await self.job(job_id, with_problems=False), 1, 0.0
            yield ENVELOPE.opened(Position(self._epoch, sequence))
            shown = None
            pause = SHOW_SECONDS if job_id in self._works else LOOK_SECONDS
            while True:
                if job.state != messages.RUNNING:
                    yield ENVELOPE.wrap("ended", (await self.job(job_id)).SerializeToString())
                    return
                if self._closing is not None:
                    yield ENVELOPE.going_away(Position(self._epoch, sequence), self._closing)
                    return
                if messages.counted(job) != shown:
                    shown, quiet, sequence = messages.counted(job), 0.0, sequence + 1
                    yield ENVELOPE.wrap("job", job.SerializeToString())
                elif quiet >= HEARTBEAT_SECONDS:
                    quiet = 0.0
                    if job_id not in self._works:
                        # Its process may be gone.
                        await self._runner.jobs.close_leftovers()
                    yield ENVELOPE.heartbeat(Position(self._epoch, sequence))
                await asyncio.sleep(pause)
                quiet += pause
                job = await self.job(job_id, with_problems=False)

    def say_goodbye(self, reason: str) -> None:
        """Ends the streams, and starts no more."""
        self._closing = reason

    async def close(self) -> None:
        """Cancels the loads: they go on where they were when they are started again."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _record(self, job_id: int) -> messages.Record:
        if (record := await self._runner.jobs.get(job_id)) is None:
            raise UNKNOWN_LOAD.error(f"no load {job_id}", job_id=job_id)
        return record

    def _ended(self, task: "asyncio.Task[int]") -> None:
        for job_id in [job_id for job_id, each in self._tasks.items() if each is task]:
            del self._tasks[job_id], self._works[job_id]
        if not task.cancelled():
            # Told already: to the sender of a request that made no load, else to the log.
            task.exception()
