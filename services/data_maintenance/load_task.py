"""The tasks that load: each is one or several loads of the historical service, followed as the run's progress."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

import grpc.aio
from tradeul.v1 import historical_pb2

from fastcore.feed_elements import SYMBOL
from services.data_maintenance.context import Job, TaskError
from services.kit.rpc.channel import reason_name
from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import GOING_AWAY, LOAD_RUNNING, STORE_UNAVAILABLE
from services.kit.runtime.logging import get_logger

log = get_logger(__name__)

# A load of which no more than this share failed has succeeded: the run names what failed.
FAILED_SHARE: Final = 0.1
# How long a run waits for a historical service that does not answer.
PATIENCE_SECONDS: Final = 60.0
# Starting a load includes what it asks of the vendor.
START_SECONDS: Final = 120.0
CANCEL_SECONDS: Final = 5.0
# Between looks at whether another load of the kind has ended.
OTHER_LOAD_SECONDS: Final = 2.0
# These pass: the service restarts, or waits for its database.
_PASSING: Final = frozenset({"", GOING_AWAY.name, STORE_UNAVAILABLE.name})
# Of a load that its service did not finish.
_BROKEN_OFF: Final = (historical_pb2.LOAD_STATE_CANCELLED, historical_pb2.LOAD_STATE_INTERRUPTED)


class Part(NamedTuple):
    """A load of a task. One that is not needed may fail: the run names what is missing."""

    request: historical_pb2.StartLoadRequest
    is_needed: bool = True


Parts = Callable[[Job], list[Part]]


class LoadTask:
    """A task: the loads of `parts(job)`, one after the other, then `further`."""

    def __init__(
        self,
        stub: Any,
        parts: Parts,
        further: Callable[[Job], Awaitable[None]] | None = None,
    ) -> None:
        self._stub = stub
        self._parts = parts
        self._further = further

    async def __call__(self, job: Job) -> None:
        for part in self._parts(job):
            ended = await _Load(self._stub, job, part.request).run()
            _check(part, ended)
        if self._further is not None:
            await self._further(job)


class _Load:
    """One load, from its start to its end.

    The historical service may restart meanwhile: a load that ended with its process is started again, and continues
    where it stopped. Cancelled, it cancels the load.
    """

    def __init__(self, stub: Any, job: Job, request: historical_pb2.StartLoadRequest) -> None:
        self._stub = stub
        self._progress = job.progress
        self._failed_before = job.progress.failed_further
        self._request = request
        self._kind = request.kind
        self._answered_at = monotonic()
        self._backoff = Backoff()
        self._job_id = 0

    async def run(self) -> historical_pb2.LoadJob:
        """Returns how the load ended; raises TaskError when it cannot be started or followed."""
        try:
            while True:
                self._job_id = await self._start()
                self._progress.counts[f"{self._kind}_load"] = self._job_id
                if (ended := await self._follow()) is not None:
                    return ended
        except asyncio.CancelledError:
            if self._job_id:
                await asyncio.shield(self._cancel())
            raise

    async def _start(self) -> int:
        while True:
            try:
                load = await self._stub.StartLoad(self._request, timeout=START_SECONDS)
            except grpc.aio.AioRpcError as error:
                if reason_name(error) == LOAD_RUNNING.name:
                    # One by hand, or of a run whose replica is gone: ours will skip what it stores.
                    self._answered()
                    self._progress.step = f"{self._kind}: waiting for another load to end"
                    await asyncio.sleep(OTHER_LOAD_SECONDS)
                else:
                    await self._pause(error)
            else:
                self._answered()
                return int(load.job_id)

    async def _follow(self) -> historical_pb2.LoadJob | None:
        """How the load ended; None when it ended with the process that ran it."""
        request = historical_pb2.WatchLoadRequest(job_id=self._job_id)
        has_restarted = False
        while True:
            error: grpc.aio.AioRpcError | None = None
            try:
                async for response in self._stub.WatchLoad(request):
                    self._answered()
                    match response.WhichOneof("response"):
                        case "job":
                            self._show(response.job)
                        case "ended":
                            if has_restarted and response.ended.state in _BROKEN_OFF:
                                return None
                            self._show(response.ended)
                            self._name_failures(response.ended)
                            ended: historical_pb2.LoadJob = response.ended
                            return ended
            except grpc.aio.AioRpcError as caught:
                error = caught
            has_restarted = True
            await self._pause(error)

    def _answered(self) -> None:
        self._answered_at = monotonic()
        self._backoff.reset()

    async def _pause(self, error: grpc.aio.AioRpcError | None) -> None:
        """Waits before another attempt; raises TaskError when there is no use in one. None: the stream went away."""
        details = "it went away" if error is None else error.details()
        if error is not None and reason_name(error) not in _PASSING:
            raise TaskError(f"{self._kind}: {details}") from error
        if monotonic() - self._answered_at > PATIENCE_SECONDS:
            raise TaskError(f"{self._kind}: the historical service does not answer: {details}") from error
        pause = self._backoff.next()
        log.warning("the historical service does not answer", load=self._kind, reason=details, again_in=pause)
        await asyncio.sleep(pause)

    async def _cancel(self) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):
            request = historical_pb2.CancelLoadRequest(job_id=self._job_id)
            await self._stub.CancelLoad(request, timeout=CANCEL_SECONDS)

    def _show(self, load: historical_pb2.LoadJob) -> None:
        progress = self._progress
        progress.step, progress.total = f"{self._kind}: {load.step}", load.total
        progress.done = load.done + load.skipped + load.failed
        progress.failed_further = self._failed_before + load.failed
        counts = {"loaded": load.done, "skipped": load.skipped, "rows": int(load.rows)}
        if load.rows_set_aside:
            counts["set_aside"] = int(load.rows_set_aside)
        progress.counts.update({f"{self._kind}_{name}": count for name, count in counts.items()})

    def _name_failures(self, load: historical_pb2.LoadJob) -> None:
        """Names the units that failed, as far as their problems were kept; the others stay counted."""
        failures = [each for each in load.problems if _is_failure(self._kind, each)][: load.failed]
        self._progress.failed_further -= len(failures)
        for each in failures:
            self._progress.fail(each.place, each.reason)


def _is_failure(kind: str, problem: historical_pb2.LoadProblem) -> bool:
    """True for a unit that failed; other problems are rows that were set aside, or parts of a unit's answer."""
    return not problem.line and (kind == "ohlc" or SYMBOL.fullmatch(problem.place) is not None)


def _check(part: Part, ended: historical_pb2.LoadJob) -> None:
    """Raises TaskError for a load that failed as a whole: one bad symbol fails no run, most of the market does."""
    if not part.is_needed or ended.state == historical_pb2.LOAD_STATE_SUCCEEDED:
        return
    is_complete = ended.failed and ended.done + ended.skipped + ended.failed == ended.total
    if ended.state != historical_pb2.LOAD_STATE_FAILED or not is_complete or ended.failed > FAILED_SHARE * ended.total:
        state = historical_pb2.LoadState.Name(ended.state).removeprefix("LOAD_STATE_")
        raise TaskError(f"{ended.kind}: {ended.error or state}")


def ohlc(job: Job) -> list[Part]:
    """The day's bars, with those of the day before, whose volume was not final at 18:00; then what a year lacks."""
    day = str(job.trading_date)
    before = job.calendar.all_before(job.trading_date)
    newest = historical_pb2.StartLoadRequest(kind="ohlc", to=day, again=True)
    # A keyword of Python.
    setattr(newest, "from", str(before[-1].date) if before else day)
    return [Part(newest), Part(historical_pb2.StartLoadRequest(kind="ohlc", to=day), is_needed=False)]


def slots(job: Job) -> list[Part]:
    """The days that are missing among the last 30, and the baselines of the day after."""
    return [Part(historical_pb2.StartLoadRequest(kind="slots", to=str(job.trading_date)))]


def companies(job: Job) -> list[Part]:
    """The symbols there are, and the company behind each."""
    return [Part(historical_pb2.StartLoadRequest(kind=kind)) for kind in ("universe", "metadata")]
