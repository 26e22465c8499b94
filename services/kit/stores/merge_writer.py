"""Rows into a table of PostgreSQL, in bulk and repeatably: COPY beside the table, then a merge, in one transaction."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import asyncpg
from prometheus_client import Counter

from services.kit.runtime.backoff import Backoff
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS

log = get_logger(__name__)

COMMAND_SECONDS: Final = 30.0
# What is still there at a stop is written within this time; the supervisor kills after 10 s.
LAST_WRITE_SECONDS: Final = 6.0
# The rows themselves cannot be stored: waiting would not help.
UNUSABLE: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

Extra = Callable[[asyncpg.Connection], Awaitable[None]]


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

    @property
    def is_connected(self) -> bool:
        """True while there is a connection, which may have been cut."""
        return self._connection is not None

    async def write(self, rows: Sequence[tuple[object, ...]], extra: Extra | None = None) -> int:
        """Merges `rows`, and calls `extra` in the same transaction; returns how many rows were new or changed.

        Raises DATABASE_ERRORS; those of UNUSABLE are for the rows themselves. Stopped anywhere, by an error or a
        cancellation, it may have stored all of them or none: the same rows can be written again.
        """
        try:
            if self._connection is None:
                self._connection = await asyncpg.connect(self._url, timeout=5, command_timeout=COMMAND_SECONDS)
                await self._connection.execute(self._create)
            transaction = self._connection.transaction()
            await transaction.start()
            status = "0"
            if rows:
                await self._connection.copy_records_to_table("incoming", records=rows, columns=self._columns)
                status = await self._connection.execute(self._merge)
            if extra is not None:
                await extra(self._connection)
            await transaction.commit()
        except BaseException:
            # How far the transaction has come is not known here. The server takes back what was not committed, and
            # the next write begins on a connection of its own.
            self.disconnect()
            raise
        return int(status.rsplit(" ", 1)[-1])

    def disconnect(self) -> None:
        """Ends the connection, if there is one; the next write opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # An orderly close could wait for a server that is gone.
            connection.terminate()


async def keep_writing(
    write_all: Callable[[], Awaitable[None]], table: MergeTable, what: str, every_seconds: float, failures: Counter
) -> None:
    """Calls `write_all` until cancelled: every so often, and after a failure when a pause that grows is over."""
    backoff = Backoff(longest=10.0)
    while True:
        try:
            await write_all()
        except DATABASE_ERRORS as error:
            failures.inc()
            pause = backoff.next()
            log.warning(f"{what} not stored", error=reason_of(error), again_in=pause)
            await asyncio.sleep(pause)
        else:
            backoff.reset()
            await asyncio.sleep(every_seconds)


async def write_last(
    write_all: Callable[[], Awaitable[None]], table: MergeTable, seconds: float = LAST_WRITE_SECONDS
) -> str | None:
    """Calls `write_all` a last time, after keep_writing() was cancelled, and disconnects.

    Returns None once everything is stored, else the reason why it is not after `seconds`.
    """
    was_connected = table.is_connected
    try:
        async with asyncio.timeout(seconds):
            try:
                await write_all()
            except DATABASE_ERRORS:
                if not was_connected:
                    raise
                # The connection of before was cut; the server may well be there.
                await write_all()
    except DATABASE_ERRORS as error:
        return reason_of(error)
    finally:
        table.disconnect()
    return None
