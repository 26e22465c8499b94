"""Rows into a table of PostgreSQL, in bulk and repeatably: COPY beside the table, then a merge, in one transaction."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg
from prometheus_client import Counter

from services.kit.database import DATABASE_ERRORS
from services.kit.logging import get_logger

log = get_logger(__name__)

COMMAND_SECONDS: Final = 30.0
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 10.0
# The rows themselves cannot be stored: waiting would not help.
UNUSABLE: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

Also = Callable[[asyncpg.Connection], Awaitable[None]]


class MergeTable:
    """One table that rows are merged into, over a connection of its own, which opens when it is needed.

    `merge` inserts from the temporary table `incoming`, which has the columns of `table`.
    """

    def __init__(self, url: str, table: str, columns: Sequence[str], merge: str) -> None:
        self._url = url
        self._columns = columns
        self._create = f"CREATE TEMP TABLE incoming (LIKE {table} INCLUDING DEFAULTS) ON COMMIT DELETE ROWS"
        self._merge = merge
        self._connection: asyncpg.Connection | None = None

    async def write(self, rows: Sequence[tuple[object, ...]], also: Also | None = None) -> int:
        """Merges `rows`, and in the same transaction does what `also` does; returns how many were new or changed.

        Raises DATABASE_ERRORS, after which disconnect(); of these UNUSABLE says that it is for the rows.
        """
        if self._connection is None:
            connection = await asyncpg.connect(self._url, timeout=5, command_timeout=COMMAND_SECONDS)
            self._connection = connection
            await connection.execute(self._create)
        async with self._connection.transaction():
            status = "0"
            if rows:
                await self._connection.copy_records_to_table("incoming", records=rows, columns=self._columns)
                status = await self._connection.execute(self._merge)
            if also is not None:
                await also(self._connection)
        return int(status.rsplit(" ", 1)[-1])

    async def disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # An orderly good-bye could wait for a server that is gone.
            connection.terminate()


async def keep_writing(
    write_all: Callable[[], Awaitable[None]], table: MergeTable, what: str, every_seconds: float, failures: Counter
) -> None:
    """Calls `write_all` until cancelled: every so often, and after a failure when a pause that grows is over."""
    pause = FIRST_PAUSE
    while True:
        try:
            await write_all()
        except DATABASE_ERRORS as error:
            failures.inc()
            log.warning(f"{what} not stored", error=str(error) or type(error).__name__, again_in=pause)
            await table.disconnect()
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)
        else:
            pause = FIRST_PAUSE
            await asyncio.sleep(every_seconds)
