"""The tasks that load: each is one or several loads of services/historical, followed as the run's progress."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple

from services.data_maintenance.work import Job, TaskError
from services.historical.core import REST, Kind, Request, State
from services.historical.runner import Runner
from services.historical.work import Work
from services.kit.runtime.errors import ServiceError

# Opened for a run and closed after it: what it needs is much, and it is needed a few times a day.
OpenRunner = Callable[[], AbstractAsyncContextManager[Runner]]


class Part(NamedTuple):
    """A load of a task. One that is not needed may fail: the run tells what was not had."""

    request: Request
    is_needed: bool = True


Parts = Callable[[Job], list[Part]]

# A load of which no more than this share failed has succeeded: the run names what failed.
FAILED_SHARE: Final = 0.1


class Load:
    """A task: the loads of `parts(job)`, one after the other, then `further`."""

    def __init__(
        self, open_runner: OpenRunner, parts: Parts, further: Callable[[Job], Awaitable[None]] | None = None
    ) -> None:
        self._open_runner = open_runner
        self._parts = parts
        self._further = further

    async def __call__(self, job: Job) -> None:
        async with self._open_runner() as runner:
            for part in self._parts(job):
                await self._load(job, runner, part)
        if self._further is not None:
            await self._further(job)

    async def _load(self, job: Job, runner: Runner, part: Part) -> None:
        request = part.request
        follower = _Follower(job, request.kind)
        try:
            job_id = await runner.run(request, follower.begun)
        except ServiceError as error:
            raise TaskError(f"{request.kind}: {error.message}") from error
        record = await runner.jobs.get(job_id)
        if record is None or record["state"] == State.SUCCEEDED:
            return
        done, failed = record["done"] + record["skipped"], record["failed"]
        # One bad symbol fails no run; most of the market does.
        is_ended = record["state"] == State.FAILED and failed and done + failed == record["total"]
        if part.is_needed and (not is_ended or failed > FAILED_SHARE * record["total"]):
            raise TaskError(f"{request.kind}: {record['error'] or record['state']}")


class _Follower:
    """Brings a load's progress into the run's."""

    def __init__(self, job: Job, kind: Kind) -> None:
        self._job = job
        self._kind = kind
        self._failed = 0

    def begun(self, job_id: int, work: Work) -> None:
        self._job.standing.counts[f"{self._kind}_load"] = job_id
        changed = work.changed

        def both() -> None:
            changed()
            self._take(work)

        work.changed = both
        self._take(work)

    def _take(self, work: Work) -> None:
        progress, standing = work.progress, self._job.standing
        if progress.failed > self._failed:
            # What failed is told before it is counted, as long as there is room for it.
            problem = work.problems[-1] if work.problems else None
            standing.fail(problem.place if problem else "", problem.reason if problem else "")
        self._failed = progress.failed
        standing.step, standing.total = f"{self._kind}: {progress.step}", progress.total
        standing.done = progress.done + progress.skipped + progress.failed
        counts = {"loaded": progress.done, "skipped": progress.skipped, "rows": progress.rows}
        if progress.set_aside:
            counts["set_aside"] = progress.set_aside
        standing.counts.update({f"{self._kind}_{name}": count for name, count in counts.items()})


def ohlc(job: Job) -> list[Part]:
    """The day's bars, with those of the day before, whose volume was not final at 18:00; then what a year lacks."""
    day = job.trading_date
    before = max((each.date for each in job.calendar.days if each.date < day), default=day)
    newest = Request(Kind.OHLC, REST, before, day, again=True)
    return [Part(newest), Part(Request(Kind.OHLC, REST, None, day), is_needed=False)]


def slots(job: Job) -> list[Part]:
    """The days that are missing among the last 30, and the baselines of the day after."""
    return [Part(Request(Kind.SLOTS, REST, None, job.trading_date))]


def companies(job: Job) -> list[Part]:
    """Which symbols there are, and who is behind each."""
    return [Part(Request(Kind.UNIVERSE)), Part(Request(Kind.METADATA))]
