"""Starts what is due, as the table of runs and the timetable say.

Looking is harmless and can be repeated: at a task's time, at startup, after
another task has ended, and every 30 seconds, which is when runs of a dead replica
are taken over and failed ones tried again.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Final

from services.data_maintenance import core, metrics
from services.data_maintenance.context import Job, Tasks
from services.data_maintenance.core import TASKS, Occurrence, TaskSpec
from services.data_maintenance.run_store import Run, RunStore
from services.data_maintenance.runner import Runner
from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.errors import NOT_A_TRADING_DAY, NOT_READY, TASK_RUNNING, UNKNOWN_TASK
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS
from services.market.calendar import Calendar

log = get_logger(__name__)

LOOK_SECONDS: Final = 30.0
SHORTEST_PAUSE_SECONDS: Final = 0.05
SYNC: Final = "sync_redis"
# After the others Redis is synced at once.
NOT_SYNCED: Final = frozenset({SYNC, "housekeeping"})


class Timetable:
    """`now` and `calendar` give None while they are not known.

    Args:
        catch_up: True if times before this replica's start are made up for.
        tasks: the tasks by name; those without an entry are left out.
    """

    def __init__(
        self,
        store: RunStore,
        runner: Runner,
        tasks: Tasks,
        now: Callable[[], datetime | None],
        calendar: Callable[[], Calendar | None],
        catch_up: bool,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self.specs: Mapping[str, TaskSpec] = {spec.name: spec for spec in TASKS if spec.name in tasks}
        self._store = store
        self._runner = runner
        self._tasks = tasks
        self._now = now
        self._calendar = calendar
        self._catch_up = catch_up
        self._look_seconds = look_seconds
        self._since: datetime | None = None
        self._looking = asyncio.Lock()
        self._running: dict[str, asyncio.Task[None]] = {}
        # Set when the task's run of this process is over.
        self._freed: dict[str, asyncio.Event] = {}
        # Those of the runs, to the end of what follows a run: until then one may begin another.
        self._working: set[asyncio.Task[None]] = set()
        self._woken = {name: asyncio.Event() for name in self.specs}

    async def run(self) -> None:
        """Starts what is due until cancelled, then lets the runs under way go."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for spec in self.specs.values():
                    tasks.create_task(self._look_at_its_times(spec), name=f"maintenance.look.{spec.name}")
        finally:
            for each in self._working:
                each.cancel()
            await asyncio.gather(*self._working, return_exceptions=True)

    def look(self, task: str) -> None:
        """Looks at a task as soon as possible."""
        if task in self._woken:
            self._woken[task].set()

    def next_time(self, spec: TaskSpec) -> datetime | None:
        """The next time of the timetable; None while it is not known."""
        now, calendar = self._now(), self._calendar()
        if now is None or calendar is None:
            return None
        occurrence = core.following(spec, now, calendar_days(calendar))
        return None if occurrence is None else occurrence.at

    async def start_by_hand(self, task: str, trading_date: date | None) -> Run:
        """A run of its own, begun here. Raises UNKNOWN_TASK, TASK_RUNNING, NOT_READY, NOT_A_TRADING_DAY."""
        if (spec := self.specs.get(task)) is None:
            raise UNKNOWN_TASK.error(f"expected one of {', '.join(self.specs)}, was {task!r}", task=task)
        now, calendar = self._now(), self._calendar()
        if now is None or calendar is None:
            raise NOT_READY.error("the mesh's time or the trading calendar is not known yet")
        if trading_date is None:
            trading_date = core.newest(spec, now, calendar_days(calendar))[-1].trading_date
        elif spec.days is not core.Days.DAILY and not calendar_days(calendar)(trading_date):
            raise NOT_A_TRADING_DAY.error(f"expected a trading day of the last year, was {trading_date}", task=task)
        await self._let_end(task)
        async with self._looking:
            run = None
            if task not in self._running:
                run = await self._store.take_over(task) or await self._store.claim(task, trading_date, None)
            if run is None:
                raise TASK_RUNNING.error(f"{task} is running", task=task)
            self._begin(spec, run, calendar)
        return run

    async def _let_end(self, task: str) -> None:
        """Waits for the rest of a run that has ended: a client that saw its end may begin the next one."""
        if (freed := self._freed.get(task)) is not None and not await self._store.runs_now(task):
            await freed.wait()

    async def _look_at_its_times(self, spec: TaskSpec) -> None:
        """Looks at the task's times, when woken by look(), and at least every `look_seconds`."""
        woken = self._woken[spec.name]
        while True:
            await self._look(spec)
            pause = min(self._seconds_to(spec), self._look_seconds)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(pause, SHORTEST_PAUSE_SECONDS)):
                    await woken.wait()
            woken.clear()

    async def _look(self, spec: TaskSpec) -> None:
        now, calendar = self._now(), self._calendar()
        if now is None or calendar is None:
            return
        if self._since is None and not self._catch_up:
            self._since = now
        async with self._looking:
            if self._is_busy(spec):
                return
            try:
                run = await self._store.take_over(spec.name) or await self._claim(spec, now, calendar)
            except DATABASE_ERRORS as error:
                metrics.DATABASE_FAILURES.inc()
                log.warning("runs cannot be looked at", task=spec.name, reason=reason_of(error))
                return
            if run is not None:
                self._begin(spec, run, calendar)

    def _is_busy(self, spec: TaskSpec) -> bool:
        if spec.name in self._running:
            return True
        return spec.is_heavy and any(self.specs[name].is_heavy for name in self._running)

    async def _claim(self, spec: TaskSpec, now: datetime, calendar: Calendar) -> Run | None:
        """The first run that is due, now ours."""
        is_trading_day = calendar_days(calendar)
        times = core.candidates(spec, now, is_trading_day, self._since)
        runs = await self._store.scheduled(spec.name, [each.at for each in times])
        for occurrence in times:
            known = runs.get(occurrence.at)
            if known is not None and (known.is_final or known.state == "RUNNING"):
                continue
            if await self._has_to_wait(spec, occurrence, now, calendar):
                continue
            if known is None:
                run = await self._store.claim(spec.name, occurrence.trading_date, occurrence.at)
            else:
                run = await self._store.try_again(spec.name, occurrence.at)
            if run is not None:
                return run
        return None

    async def _has_to_wait(self, spec: TaskSpec, occurrence: Occurrence, now: datetime, calendar: Calendar) -> bool:
        if spec.after is None or (before := self.specs.get(spec.after)) is None:
            return False
        awaited = core.candidates(before, now, calendar_days(calendar), self._since)
        runs = await self._store.scheduled(before.name, [each.at for each in awaited])
        ended = {at for at, run in runs.items() if run.is_final}
        running = await self._store.is_running(before.name, occurrence.trading_date)
        return core.has_to_wait(spec, occurrence.trading_date, awaited, ended, running)

    def _begin(self, spec: TaskSpec, run: Run, calendar: Calendar) -> None:
        task = asyncio.create_task(self._work(spec, Job(run, calendar)), name=f"maintenance.{spec.name}")
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        self._running[spec.name] = task
        self._freed[spec.name] = asyncio.Event()

    async def _work(self, spec: TaskSpec, job: Job) -> None:
        try:
            ended = await self._runner.run(job, self._tasks[spec.name])
        finally:
            del self._running[spec.name]
            self._freed.pop(spec.name).set()
        for name in self.specs:
            self.look(name)
        if ended is not None and ended.state == "SUCCEEDED" and spec.name not in NOT_SYNCED:
            await self.sync()

    async def sync(self) -> None:
        """Starts sync_redis at once, or when its run under way is over, which may have passed what changed."""
        calendar = self._calendar()
        if SYNC not in self.specs or calendar is None or (now := self._now()) is None:
            return
        if (freed := self._freed.get(SYNC)) is not None:
            await freed.wait()
        async with self._looking:
            if SYNC in self._running:
                return
            try:
                run = await self._store.claim(SYNC, now.astimezone(NEW_YORK).date(), None)
            except DATABASE_ERRORS as error:
                metrics.DATABASE_FAILURES.inc()
                log.warning("sync_redis waits for its time", reason=reason_of(error))
                return
            if run is not None:
                self._begin(self.specs[SYNC], run, calendar)

    def _seconds_to(self, spec: TaskSpec) -> float:
        at, now = self.next_time(spec), self._now()
        return math.inf if at is None or now is None else (at - now).total_seconds()


def calendar_days(calendar: Calendar) -> core.IsTradingDay:
    """A predicate: True for the calendar's trading days."""
    return lambda on: calendar.find(on) is not None
