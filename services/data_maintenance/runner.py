"""Runs a claimed run: the task, the lease that is renewed meanwhile, and the end that is written."""

import asyncio
import contextlib
import copy
from typing import Final

from services.data_maintenance import metrics
from services.data_maintenance.context import Job, Task, TaskError
from services.data_maintenance.run_store import LostRunError, Progress, Run, RunStore
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described, reason_of
from services.kit.stores.database import DATABASE_ERRORS

log = get_logger(__name__)

# Progress is written so often, if there is any.
PROGRESS_SECONDS: Final = 1.0
# Renewed with that much of the lease left, and given up with so much left when the database is away.
RENEW_SHARE: Final = 1 / 3
LOST_SHARE: Final = 0.8
END_ATTEMPTS: Final = 5
END_PAUSE_SECONDS: Final = 1.0


class Cancelled(Exception):
    """The run is to be cancelled."""


class Runner:
    """Runs one run. `stop_event` is set to leave it to another replica."""

    def __init__(self, store: RunStore, progress_seconds: float = PROGRESS_SECONDS) -> None:
        self._store = store
        self._progress_seconds = progress_seconds
        self._poked: dict[int, asyncio.Event] = {}

    def poke(self, run_id: int) -> None:
        """The run's row has changed: it may be one that is to be cancelled."""
        if (event := self._poked.get(run_id)) is not None:
            event.set()

    async def run(self, job: Job, task: Task) -> Run | None:
        """Returns the ended run; None when it is another replica's now. Cancelled, it lets the run go."""
        run = job.run
        log.info("run begins", task=run.task, run=run.id, trading_date=str(run.trading_date), attempt=run.attempt)
        began = monotonic()
        metrics.RUNNING.labels(run.task).set(1)
        try:
            ended = await self._run(job, task)
        except LostRunError as error:
            log.warning("run lost", task=run.task, run=run.id, reason=reason_of(error))
            metrics.RUNS.labels(run.task, "LOST").inc()
            return None
        except asyncio.CancelledError:
            with contextlib.suppress(*DATABASE_ERRORS):
                await asyncio.shield(self._store.let_go(run))
            raise
        finally:
            metrics.RUNNING.labels(run.task).set(0)
        metrics.RUNS.labels(run.task, ended.state).inc()
        metrics.SECONDS.labels(run.task).observe(monotonic() - began)
        metrics.FAILED_SYMBOLS.labels(run.task).inc(ended.failed_count)
        if ended.state == "SUCCEEDED":
            metrics.LAST_SUCCESS.labels(run.task).set((ended.ended_at or ended.started_at).timestamp())
        write = log.info if ended.state == "SUCCEEDED" else log.error
        write(
            "run ended",
            task=run.task,
            run=run.id,
            state=ended.state,
            counts=dict(ended.counts),
            failed=ended.failed_count,
            error=ended.error,
            seconds=round(monotonic() - began, 3),
        )
        return ended

    async def _run(self, job: Job, task: Task) -> Run:
        run = job.run
        self._poked[run.id] = asyncio.Event()
        working = asyncio.ensure_future(task(job))
        keeping = asyncio.create_task(self._keep(job), name=f"maintenance.keep.{run.task}")
        try:
            await asyncio.wait({working, keeping}, return_when=asyncio.FIRST_COMPLETED)
            if keeping.done():
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
            state, error = _outcome(working, keeping)
        finally:
            for each in (working, keeping):
                each.cancel()
            await asyncio.gather(working, keeping, return_exceptions=True)
            del self._poked[run.id]
        return await self._end(run, job.progress, state, error)

    async def _keep(self, job: Job) -> None:
        """Renews the lease and stores progress; raises Cancelled, LostRunError."""
        lease = self._store.lease_seconds
        event = self._poked[job.run.id]
        stored: Progress | None = None
        held_at = monotonic()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._progress_seconds, lease * RENEW_SHARE)):
                    await event.wait()
            is_news = stored != job.progress
            if not (is_news or event.is_set() or monotonic() - held_at >= lease * RENEW_SHARE):
                continue
            event.clear()
            requested_at = monotonic()
            try:
                if is_news:
                    stored = copy.deepcopy(job.progress)
                is_to_end = await self._store.renew(job.run, stored if is_news else None)
            except DATABASE_ERRORS as error:
                stored = None
                log.warning("lease not renewed", run=job.run.id, reason=reason_of(error))
                if monotonic() - held_at > lease * LOST_SHARE:
                    # Another replica may soon take it over: better none than two.
                    raise LostRunError(
                        f"the database has been away for most of the lease: {reason_of(error)}"
                    ) from error
                continue
            held_at = requested_at
            if is_to_end:
                raise Cancelled

    async def _end(self, run: Run, progress: Progress, state: str, error: str | None) -> Run:
        for attempt in range(END_ATTEMPTS):
            try:
                return await self._store.end(run, progress, state, error)
            except DATABASE_ERRORS as problem:
                log.warning("end of the run not written", run=run.id, reason=reason_of(problem))
                if attempt + 1 == END_ATTEMPTS:
                    raise LostRunError(f"its end could not be written: {reason_of(problem)}") from problem
            await asyncio.sleep(END_PAUSE_SECONDS)
        raise AssertionError("not reached")


def _outcome(working: "asyncio.Future[None]", keeping: "asyncio.Task[None]") -> tuple[str, str | None]:
    """The run's state and error; raises LostRunError."""
    if keeping.done():
        problem = keeping.exception()
        if isinstance(problem, Cancelled):
            return "CANCELLED", None
        if problem is not None:
            raise problem
    failure = working.exception()
    if failure is None:
        return "SUCCEEDED", None
    if isinstance(failure, LostRunError):
        raise failure
    if not isinstance(failure, (TaskError, *DATABASE_ERRORS)):
        # A defect is the run's, not the service's.
        log.error("task failed", exc_info=failure)
    return "FAILED", reason_of(failure) if isinstance(failure, TaskError) else described(failure)
