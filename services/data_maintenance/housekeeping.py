"""housekeeping: what is older than it is kept for leaves the tables; partitions for what comes are made."""

from datetime import datetime, time, timedelta
from typing import Final

import asyncpg

from services.data_maintenance.work import Job
from services.kit.clock import NEW_YORK

# Of a task that runs all day, and of the others.
SHORT: Final = timedelta(days=7)
LONG: Final = timedelta(days=400)

_RUNS: Final = """
    DELETE FROM maintenance_runs
    WHERE state <> 'RUNNING'
        AND ended_at < clock_timestamp() - CASE WHEN task = 'sync_redis' THEN $1::interval ELSE $2::interval END
"""


class Housekeeping:
    """The task. The schema's function knows what is kept where, and leaves hypertables to TimescaleDB's policies."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def __call__(self, job: Job) -> None:
        job.standing.step = "dropping what is old"
        # The mesh's time, not the database's: a feed's may be years earlier.
        moment = job.run.scheduled_at or datetime.combine(job.trading_date, time(), NEW_YORK)
        async with self._pool.acquire() as connection, connection.transaction():
            await job.guard(connection)
            for record in await connection.fetch("SELECT * FROM housekeeping($1)", moment):
                job.standing.count(f"{record['series_name']}: {record['action']}", record["amount"])
            status = await connection.execute(_RUNS, SHORT, LONG)
        job.standing.count("maintenance_runs: rows deleted", int(status.rsplit(" ", 1)[-1]))
