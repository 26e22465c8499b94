"""Notices stores that do not take what they are given; /health and the log say so, because lists go on without them."""

import asyncio
from typing import Final

import asyncpg

from services.data_ingest import metrics
from services.kit.runtime.clock import utc_now
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described
from services.kit.stores.database import DATABASE_ERRORS

log = get_logger(__name__)

PROBE_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 3.0
# One failure may be a hiccup.
FAILURES: Final = 2
# A row that every database has: writing it again is refused where writing is. A full disk may have room for it, and for
# what is written ahead of it, but not for a table that grows, as those do to which rows are added.
PROBE: Final = """
    UPDATE market_source SET market = market;
    CREATE TEMP TABLE IF NOT EXISTS disk_probe (value int) ON COMMIT DELETE ROWS;
    INSERT INTO disk_probe VALUES (1)
"""
# A server that answers so is there; what it says is about us.
ANSWERS: Final = (asyncpg.UndefinedTableError, asyncpg.InsufficientPrivilegeError)


class StoreState:
    """Of one store. `warning`: None while it takes what it is given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.warning: str | None = None
        self._failures = 0
        self._since = ""

    def failed(self, error: BaseException) -> None:
        """It has taken nothing."""
        self._failures += 1
        if self._failures == 1:
            self._since = f"{utc_now():%H:%M:%S} UTC"
        if self._failures < FAILURES or self.warning is not None:
            return
        said = f"{self.name} takes nothing since {self._since}: {described(error)}"
        self.warning = f"{said}; lists go on, and what is to be stored waits"
        log.error("a store takes nothing", store=self.name, since=self._since, reason=described(error))
        metrics.STORES_AWAY.labels(self.name).set(1)

    def answered(self) -> None:
        """It has taken what it was given."""
        self._failures = 0
        if self.warning is not None:
            self.warning = None
            log.warning("a store is back", store=self.name, since=self._since)
        metrics.STORES_AWAY.labels(self.name).set(0)


class DatabaseProbe:
    """Asks the database at `url` to write, over a connection of its own."""

    def __init__(self, url: str) -> None:
        self.state = StoreState("PostgreSQL")
        self._url = url
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def run(self) -> None:
        """Asks until cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(ANSWER_SECONDS):
                        await self._write()
                except ANSWERS:
                    self.state.answered()
                except DATABASE_ERRORS as error:
                    self._close()
                    self.state.failed(error)
                else:
                    self.state.answered()
                await asyncio.sleep(PROBE_SECONDS)
        finally:
            self._close()

    async def _write(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(self._url, timeout=ANSWER_SECONDS)
        await self._connection.execute(PROBE)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
