"""maintenance_runs: which replica runs what. PostgreSQL's clock times leases, so replicas' clocks need not agree.

A run is claimed by a row: a time of the timetable has one, and a task has one that
runs. Each claim draws a new fence; writing with an older one raises
LostRunError.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final

import asyncpg

LEASE_SECONDS: Final = 30.0
# A run that failed is tried again, and one whose replicas died is not taken over for ever.
ATTEMPTS: Final = 3
RETRY_SECONDS: Final = 300.0
FAILED_SYMBOLS: Final = 200
LONGEST_ERROR: Final = 2000

_COLUMNS: Final = """
    id, task, trading_date, scheduled_at, state, attempt, started_at, ended_at, holder, fence, cancel_requested,
    step, done, total, counts::text AS counts, failed_count, failed_symbols::text AS failed_symbols, error, revision
"""
# Its replica is gone. A lease that lasts for longer than any was taken by a clock that was ahead.
_IS_OVER: Final = "NOT lease_until BETWEEN clock_timestamp() AND clock_timestamp() + interval '15 minutes'"
_FRESH: Final = """
    state = 'RUNNING', holder = $2, fence = nextval('maintenance_fences'),
    lease_until = clock_timestamp() + $3, attempt = attempt + 1, revision = revision + 1, cancel_requested = FALSE,
    ended_at = NULL, error = NULL, step = '', done = 0, total = NULL, counts = '{}', failed_count = 0,
    failed_symbols = '{}'
"""
_INSERT: Final = f"""
    INSERT INTO maintenance_runs (task, trading_date, scheduled_at, holder, lease_until)
    VALUES ($1, $4, $5, $2, clock_timestamp() + $3)
    ON CONFLICT DO NOTHING RETURNING {_COLUMNS}
"""
_TRY_AGAIN: Final = f"""
    UPDATE maintenance_runs SET {_FRESH}
    WHERE task = $1 AND scheduled_at = $4 AND state = 'FAILED' AND attempt < $5
        AND ended_at <= clock_timestamp() - $6::interval
    RETURNING {_COLUMNS}
"""
_TAKE_OVER: Final = f"""
    UPDATE maintenance_runs SET {_FRESH}
    WHERE task = $1 AND state = 'RUNNING' AND {_IS_OVER} AND attempt < $4 AND NOT cancel_requested
    RETURNING {_COLUMNS}
"""
_GIVE_UP: Final = f"""
    UPDATE maintenance_runs SET
        state = CASE WHEN cancel_requested THEN 'CANCELLED' ELSE 'FAILED' END,
        ended_at = clock_timestamp(), revision = revision + 1,
        error = 'its replica went away (' || holder || ', attempt ' || attempt || ')'
    WHERE task = $1 AND state = 'RUNNING' AND {_IS_OVER} AND (attempt >= $2 OR cancel_requested)
"""
_MINE: Final = "WHERE id = $1 AND fence = $2 AND state = 'RUNNING'"
_PROGRESS: Final = """
    step = $3, done = $4, total = $5, counts = $6::jsonb, failed_count = $7, failed_symbols = $8::jsonb,
    revision = revision + 1
"""
_RENEW: Final = f"""
    UPDATE maintenance_runs SET {_PROGRESS}, lease_until = clock_timestamp() + $9
    {_MINE} RETURNING cancel_requested
"""
_EXTEND: Final = f"""
    UPDATE maintenance_runs SET lease_until = clock_timestamp() + $3 {_MINE} RETURNING cancel_requested
"""
_END: Final = f"""
    UPDATE maintenance_runs SET {_PROGRESS}, state = $9, error = $10, ended_at = clock_timestamp()
    {_MINE} RETURNING {_COLUMNS}
"""
_LET_GO: Final = f"""
    UPDATE maintenance_runs SET lease_until = clock_timestamp() - interval '1 second', attempt = attempt - 1,
        revision = revision + 1 {_MINE}
"""
_CANCEL: Final = f"""
    UPDATE maintenance_runs SET cancel_requested = TRUE, revision = revision + 1
    WHERE id = $1 AND state = 'RUNNING' RETURNING {_COLUMNS}
"""


@dataclass
class Progress:
    """How far a run is: its task writes it, watchers read it.

    `done` of `total` of the `step`; `counts` by what was done; `failed` symbols
    with the reason of each.
    """

    step: str = ""
    done: int = 0
    total: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    # Those beyond the ones with a name.
    failed_further: int = 0

    @property
    def failed_count(self) -> int:
        return len(self.failed) + self.failed_further

    def count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    def fail(self, symbol: str, reason: str) -> None:
        """A symbol that could not be done: named among the first, counted always."""
        if len(self.failed) < FAILED_SYMBOLS or symbol in self.failed:
            self.failed[symbol] = reason[:200]
        else:
            self.failed_further += 1


@dataclass(frozen=True)
class Run:
    """A row of maintenance_runs."""

    id: int
    task: str
    trading_date: date
    scheduled_at: datetime | None
    state: str
    attempt: int
    started_at: datetime
    ended_at: datetime | None
    holder: str
    fence: int
    cancel_requested: bool
    step: str
    done: int
    total: int | None
    counts: Mapping[str, int]
    failed_count: int
    failed_symbols: Mapping[str, str]
    error: str | None
    revision: int

    @property
    def is_final(self) -> bool:
        """True if the run will not be tried or taken over again."""
        if self.state == "FAILED":
            return self.scheduled_at is None or self.attempt >= ATTEMPTS
        return self.state != "RUNNING"


class LostRunError(Exception):
    """Another replica has taken the run over, or it has been ended."""


def _run(record: "asyncpg.Record | None") -> Run | None:
    if record is None:
        return None
    values: dict[str, Any] = dict(record)
    values["counts"] = json.loads(values["counts"])
    values["failed_symbols"] = json.loads(values["failed_symbols"])
    return Run(**values)


class RunStore:
    """Every method raises DATABASE_ERRORS while the database is away. `holder` names this replica."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        holder: str,
        lease_seconds: float = LEASE_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self.lease_seconds = lease_seconds
        self._pool = pool
        self._holder = holder
        self._lease = timedelta(seconds=lease_seconds)
        self._retry = timedelta(seconds=retry_seconds)

    async def claim(self, task: str, trading_date: date, scheduled_at: datetime | None) -> Run | None:
        """The run of that time (None: by hand), now ours; None when it has one, or while the task runs."""
        record = await self._pool.fetchrow(_INSERT, task, self._holder, self._lease, trading_date, scheduled_at)
        return _run(record)

    async def try_again(self, task: str, scheduled_at: datetime) -> Run | None:
        """The failed run of that time, now ours, if enough time has passed and it has attempts left."""
        try:
            record = await self._pool.fetchrow(
                _TRY_AGAIN, task, self._holder, self._lease, scheduled_at, ATTEMPTS, self._retry
            )
        except asyncpg.UniqueViolationError:
            # The task runs, for another time or by hand.
            return None
        return _run(record)

    async def take_over(self, task: str) -> Run | None:
        """A run whose replica is gone, now ours; one without attempts left, or to be cancelled, is ended."""
        await self._pool.execute(_GIVE_UP, task, ATTEMPTS)
        return _run(await self._pool.fetchrow(_TAKE_OVER, task, self._holder, self._lease, ATTEMPTS))

    async def renew(self, run: Run, progress: Progress | None) -> bool:
        """Holds the run for another lease and stores its progress, if given; True if it is to be cancelled.

        Raises LostRunError.
        """
        if progress is None:
            cancel = await self._pool.fetchval(_EXTEND, run.id, run.fence, self._lease)
        else:
            cancel = await self._pool.fetchval(_RENEW, run.id, run.fence, *_values(progress), self._lease)
        if cancel is None:
            raise LostRunError(f"run {run.id} of {run.task} is not this replica's any more")
        return bool(cancel)

    async def end(self, run: Run, progress: Progress, state: str, error: str | None = None) -> Run:
        """Ends the run. Raises LostRunError."""
        text = None if error is None else error[:LONGEST_ERROR].replace("\0", "")
        ended = _run(await self._pool.fetchrow(_END, run.id, run.fence, *_values(progress), state, text))
        if ended is None:
            raise LostRunError(f"run {run.id} of {run.task} is not this replica's any more")
        return ended

    async def let_go(self, run: Run) -> None:
        """Releases the run to the next replica that looks: this one is about to stop."""
        await self._pool.execute(_LET_GO, run.id, run.fence)

    async def cancel(self, run_id: int) -> Run | None:
        """Asks for the run's end; None when it does not run."""
        return _run(await self._pool.fetchrow(_CANCEL, run_id))

    async def get(self, run_id: int) -> Run | None:
        return _run(await self._pool.fetchrow(f"SELECT {_COLUMNS} FROM maintenance_runs WHERE id = $1", run_id))

    async def newest(self, task: str) -> Run | None:
        """The run that was begun last."""
        query = f"SELECT {_COLUMNS} FROM maintenance_runs WHERE task = $1 ORDER BY id DESC LIMIT 1"
        return _run(await self._pool.fetchrow(query, task))

    async def list(self, task: str, trading_date: date | None, before_id: int | None, limit: int) -> "list[Run]":
        """Runs by id, newest first."""
        query = f"""
            SELECT {_COLUMNS} FROM maintenance_runs
            WHERE ($1 = '' OR task = $1) AND ($2::date IS NULL OR trading_date = $2) AND ($3::bigint IS NULL OR id < $3)
            ORDER BY id DESC LIMIT $4
        """
        records = await self._pool.fetch(query, task, trading_date, before_id, limit)
        return [run for run in map(_run, records) if run is not None]

    async def scheduled(self, task: str, times: Collection[datetime]) -> dict[datetime, Run]:
        """The runs of these times, by time."""
        query = f"SELECT {_COLUMNS} FROM maintenance_runs WHERE task = $1 AND scheduled_at = ANY($2::timestamptz[])"
        records = await self._pool.fetch(query, task, list(times))
        runs = (run for run in map(_run, records) if run is not None)
        return {run.scheduled_at: run for run in runs if run.scheduled_at is not None}

    async def runs_now(self, task: str) -> bool:
        """True while a run of the task has not ended."""
        query = "SELECT EXISTS (SELECT FROM maintenance_runs WHERE task = $1 AND state = 'RUNNING')"
        return bool(await self._pool.fetchval(query, task))

    async def is_running(self, task: str, trading_date: date) -> bool:
        query = """
            SELECT EXISTS (SELECT FROM maintenance_runs WHERE task = $1 AND trading_date = $2 AND state = 'RUNNING')
        """
        return bool(await self._pool.fetchval(query, task, trading_date))


def _values(progress: Progress) -> tuple[object, ...]:
    return (
        progress.step,
        progress.done,
        progress.total,
        json.dumps(progress.counts),
        progress.failed_count,
        json.dumps(progress.failed),
    )
