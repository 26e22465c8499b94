"""housekeeping: drops rows that are older than they are kept for, and makes partitions ahead.

Ages are measured by the market's time, which in a simulated market is another year's; the settings
TRADEUL_KEEP_* say how long rows are kept.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, time, timedelta
from typing import Final

import asyncpg

from services.data_maintenance.context import Job, TaskError
from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.logging import get_logger
from services.kit.runtime.setting_groups import KeepSettings

log = get_logger(__name__)

# A longer wait would block every other client of the table.
LOCK_SECONDS: Final = 10
ATTEMPTS: Final = 3
PAUSE_SECONDS: Final = 0.5
# Others hold the lock: it can be tried again.
CONTENDED: Final = (asyncpg.DeadlockDetectedError, asyncpg.LockNotAvailableError)

_RUNS: Final = """
    DELETE FROM maintenance_runs
    WHERE state <> 'RUNNING' AND (task = 'sync_redis') = $1 AND ended_at < clock_timestamp() - $2::interval
"""
_ATTEMPTS: Final = "DELETE FROM webhook_attempts WHERE time < clock_timestamp() - $1::interval"

Step = Callable[[asyncpg.Connection], Awaitable[None]]


class Housekeeping:
    """The task, one table after the other, each in a transaction of its own.

    The schema's function housekeeping() does it. `now` is the market's time: a run about a later day deletes no more.
    """

    def __init__(self, pool: asyncpg.Pool, keep: KeepSettings, now: Callable[[], datetime | None]) -> None:
        self._pool = pool
        self._keep = keep
        self._now = now

    async def __call__(self, job: Job) -> None:
        as_of = self._as_of(job)
        keep = days_kept(self._keep)
        tables = [row["name"] for row in await self._pool.fetch("SELECT name FROM series ORDER BY name")]
        for table in dict.fromkeys((*tables, *keep)):
            job.progress.step = f"dropping what is old of {table}"
            await self._in_order(job, self._part(job, as_of, keep, table))
        job.progress.step = "dropping what is old of maintenance_runs"
        await self._in_order(job, self._runs(job))
        job.progress.step = "dropping what is old of webhook_attempts"
        await self._in_order(job, self._attempts(job))
        job.progress.step = "compressing"
        for record in await self._pool.fetch("SELECT chunks_to_compress($1) AS chunk", as_of):
            await self._in_order(job, self._compress(job, record["chunk"]))

    def _as_of(self, job: Job) -> datetime:
        """The run's time on the market's clock."""
        now = self._now()
        if now is None:
            raise TaskError("the market's time is not known")
        wanted = job.run.scheduled_at or datetime.combine(job.trading_date, time(), NEW_YORK)
        return min(wanted, now)

    async def _in_order(self, job: Job, step: Step) -> None:
        """One step in a transaction of its own; tried again when others held the locks.

        The run is looked at last, as other tasks do: whoever renews its lease must not wait for the step.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
                    await step(connection)
                    await job.guard(connection)
                return
            except CONTENDED as error:
                if attempt == ATTEMPTS:
                    raise
                log.warning("housekeeping waits for others", step=job.progress.step, reason=type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)

    def _part(self, job: Job, as_of: datetime, keep: Mapping[str, int], table: str) -> Step:
        async def step(connection: asyncpg.Connection) -> None:
            done = await connection.fetch("SELECT * FROM housekeeping($1, $2, $3)", as_of, json.dumps(keep), table)
            for record in done:
                job.progress.count(f"{record['series_name']}: {record['action']}", record["amount"])

        return step

    def _runs(self, job: Job) -> Step:
        async def step(connection: asyncpg.Connection) -> None:
            for is_sync, days in ((True, self._keep.sync_runs), (False, self._keep.runs)):
                if days:
                    status = await connection.execute(_RUNS, is_sync, timedelta(days=days))
                    job.progress.count("maintenance_runs: rows deleted", int(status.rsplit(" ", 1)[-1]))

        return step

    def _attempts(self, job: Job) -> Step:
        async def step(connection: asyncpg.Connection) -> None:
            if days := self._keep.webhook_attempts:
                status = await connection.execute(_ATTEMPTS, timedelta(days=days))
                job.progress.count("webhook_attempts: rows deleted", int(status.rsplit(" ", 1)[-1]))

        return step

    def _compress(self, job: Job, chunk: str) -> Step:
        async def step(connection: asyncpg.Connection) -> None:
            await connection.execute("SELECT compress_chunk($1::regclass, if_not_compressed => TRUE)", chunk)
            job.progress.count("chunks compressed")

        return step


def days_kept(keep: KeepSettings) -> dict[str, int]:
    """Days by table, as the schema's housekeeping() takes them; 0 is for ever."""
    return {
        "aggregates_1min": keep.minute_bars,
        "scan_results": keep.scan_results,
        "alert_events": keep.alerts,
        "daily_ohlc": keep.daily_bars,
        "slot_days": keep.slot_days,
        "load_jobs": keep.loads,
    }
