"""Only one process loads a kind at a time: an advisory lock, which ends with its connection."""

import asyncio
import contextlib
from typing import Any, Final

import asyncpg

from services.historical.core import Kind
from services.historical.job_store import JobStore
from services.historical.work import LoadError
from services.kit.stores.database import DATABASE_ERRORS

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
        """Whether nobody else has it."""
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
        """Gives it up; a connection that was lost had none."""
        if self._connection is not None:
            with contextlib.suppress(*DATABASE_ERRORS):
                await self._jobs.unlock(self._kind, self._connection)
            await self._drop()

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*DATABASE_ERRORS):
                await self._pool.release(connection)
