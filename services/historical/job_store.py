"""load_jobs and load_problems in PostgreSQL. A load's process holds an advisory lock of its kind while it runs."""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from services.historical.core import Kind, Problem, Progress, Request, State
from services.kit.runtime.redaction import redact

Record = Any
_COLUMNS: Final = (
    "job_id, kind, source, first_date, last_date, state, step, total, done, skipped, failed, rows, set_aside, error,"
    " started_at, ended_at, extract(epoch FROM coalesce(ended_at, now()) - started_at)::float8 AS seconds"
)
_INSERT: Final = "INSERT INTO load_jobs (kind, source, first_date, last_date) VALUES ($1, $2, $3, $4) RETURNING job_id"
_UPDATE: Final = """
    UPDATE load_jobs SET step = $2, total = $3, done = $4, skipped = $5, failed = $6, rows = $7, set_aside = $8,
        state = $9, error = $10, updated_at = now(), ended_at = CASE WHEN $9 = 'RUNNING' THEN NULL ELSE now() END
    WHERE job_id = $1 AND state = 'RUNNING'
"""
GONE: Final = "its process was gone before it had ended"
_INTERRUPT: Final = f"""
    UPDATE load_jobs SET state = 'INTERRUPTED', ended_at = updated_at, error = coalesce(error, '{GONE}')
    WHERE kind = $1 AND state = 'RUNNING'
"""
# The locks last as long as the statement's transaction: a load that begins meanwhile looks again.
_CLOSE: Final = f"""
    WITH free AS MATERIALIZED (
        SELECT kind FROM (SELECT DISTINCT kind FROM load_jobs WHERE state = 'RUNNING') AS running
        WHERE pg_try_advisory_xact_lock(hashtext('load'), hashtext(kind))
    )
    UPDATE load_jobs SET state = 'INTERRUPTED', ended_at = updated_at, error = coalesce(error, '{GONE}')
    WHERE state = 'RUNNING' AND kind IN (SELECT kind FROM free) RETURNING job_id
"""
_PROBLEM: Final = "INSERT INTO load_problems VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"


class JobStore:
    """Raises asyncpg's errors."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def lock(self, kind: Kind, connection: asyncpg.Connection) -> bool:
        """Whether no other process loads this kind; held until the connection ends or unlock()."""
        is_free: bool = await connection.fetchval("SELECT pg_try_advisory_lock(hashtext('load'), hashtext($1))", kind)
        return is_free

    async def unlock(self, kind: Kind, connection: asyncpg.Connection) -> None:
        await connection.execute("SELECT pg_advisory_unlock(hashtext('load'), hashtext($1))", kind)

    async def close_leftovers(self) -> list[int]:
        """Ends the jobs that seem to run while nobody holds their kind's lock: their process is gone. Their numbers."""
        async with self._pool.acquire() as connection, connection.transaction():
            records = await connection.fetch(_CLOSE)
        return [record["job_id"] for record in records]

    async def begin(self, request: Request, first: object, last: object) -> int:
        """A new job's number. Those of its kind that seem to run are not: the lock is ours."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_INTERRUPT, request.kind)
            job_id: int = await connection.fetchval(_INSERT, request.kind, redact(request.source), first, last)
        return job_id

    async def update(self, job_id: int, progress: Progress, state: State, error: str | None = None) -> None:
        """How it stands."""
        await self._pool.execute(_UPDATE, job_id, *progress, state, error)

    async def add_problems(self, job_id: int, problems: Sequence[Problem]) -> None:
        """Two of the same place and line are one."""
        await self._pool.executemany(_PROBLEM, [(job_id, each.place, each.line, each.reason) for each in problems])

    async def get(self, job_id: int) -> Record | None:
        """A row of load_jobs."""
        return await self._pool.fetchrow(f"SELECT {_COLUMNS} FROM load_jobs WHERE job_id = $1", job_id)

    async def problems(self, job_id: int) -> Sequence[Record]:
        """In order of place and line."""
        rows: Sequence[Record] = await self._pool.fetch(
            "SELECT place, line, reason FROM load_problems WHERE job_id = $1 ORDER BY place, line", job_id
        )
        return rows

    async def newest(self, limit: int, kind: Kind | None) -> Sequence[Record]:
        """The newest jobs, of one kind or of all."""
        rows: Sequence[Record] = await self._pool.fetch(
            f"SELECT {_COLUMNS} FROM load_jobs WHERE $2::text IS NULL OR kind = $2 ORDER BY job_id DESC LIMIT $1",
            *(limit, kind),
        )
        return rows
