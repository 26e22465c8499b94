"""Tells whoever holds reference data in memory that the stores have changed: PostgreSQL's NOTIFY."""

import asyncpg

from services.data_maintenance.work import Job, Task
from services.kit.stores.notifications import REFERENCE_DATA, Kind, ReferenceChange


def announced(pool: asyncpg.Pool, kind: Kind, task: Task) -> Task:
    """The task, at whose end it is told which kind has changed, and of which trading date.

    Also after one that failed: what it had written is there.
    """

    async def run(job: Job) -> None:
        try:
            await task(job)
        finally:
            change = ReferenceChange(kind, job.trading_date)
            await pool.execute("SELECT pg_notify($1, $2)", REFERENCE_DATA, change.encode())

    return run
