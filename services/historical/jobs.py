"""load_jobs and load_problems in PostgreSQL, and the lock that lets one process load a kind at a time."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from services.historical.context import LoadError
from services.historical.core import Kind, Problem, Progress, Request, State
from services.kit.runtime.redaction import redact
from services.kit.stores.database import DATABASE_ERRORS

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
# The locks last as long as the statement's transaction.
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
        """Takes the lock of the kind unless another process has it; held until unlock() or the connection's end."""
        is_free: bool = await connection.fetchval("SELECT pg_try_advisory_lock(hashtext('load'), hashtext($1))", kind)
        return is_free

    async def unlock(self, kind: Kind, connection: asyncpg.Connection) -> None:
        await connection.execute("SELECT pg_advisory_unlock(hashtext('load'), hashtext($1))", kind)

    async def close_leftovers(self) -> list[int]:
        """Ends jobs that seem to run while nobody holds their kind's lock: their process is gone. Returns their ids."""
        async with self._pool.acquire() as connection, connection.transaction():
            records = await connection.fetch(_CLOSE)
        return [record["job_id"] for record in records]

    async def begin(self, request: Request, first: object, last: object) -> int:
        """Returns a new job's id. Jobs of its kind that seem to run do not: the lock is ours."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(_INTERRUPT, request.kind)
            job_id: int = await connection.fetchval(_INSERT, request.kind, redact(request.source), first, last)
        return job_id

    async def update(self, job_id: int, progress: Progress, state: State, error: str | None = None) -> None:
        """Stores a running job's progress and state."""
        await self._pool.execute(_UPDATE, job_id, *progress, state, error)

    async def add_problems(self, job_id: int, problems: Sequence[Problem]) -> None:
        """Stores problems; of the same place and line one is kept."""
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


# A server that lost a connection may take a moment to notice, and to let its lock go.
ATTEMPTS: Final = 20
PAUSE_SECONDS: Final = 0.25


class KindLock:
    """Held by a connection of its own. When the database was away it has to be taken again."""

    def __init__(self, pool: asyncpg.Pool, jobs: JobStore, kind: Kind) -> None:
        self._pool = pool
        self._jobs = jobs
        self._kind = kind
        self._connection: Any = None
        self._taking = asyncio.Lock()

    async def take(self, attempts: int = 1) -> bool:
        """True once it is ours; False when another process has it."""
        self._connection = await self._pool.acquire()
        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(PAUSE_SECONDS)
            if await self._jobs.lock(self._kind, self._connection):
                return True
        await self._drop()
        return False

    async def hold(self) -> None:
        """Takes it again if it was lost. Raises LoadError when another load has it; DATABASE_ERRORS."""
        async with self._taking:
            if self._connection is not None:
                with contextlib.suppress(*DATABASE_ERRORS):
                    await self._connection.fetchval("SELECT 1")
                    return
                await self._drop()
            if not await self.take(ATTEMPTS):
                raise LoadError(f"another load of {self._kind} began while the database was away")

    async def release(self) -> None:
        """Gives the lock up; one of a lost connection is gone already."""
        if self._connection is not None:
            with contextlib.suppress(*DATABASE_ERRORS):
                await self._jobs.unlock(self._kind, self._connection)
            await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*DATABASE_ERRORS):
                await self._pool.release(connection)
