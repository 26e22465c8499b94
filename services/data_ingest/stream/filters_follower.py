"""Follows the table scanner_filters: its enabled rows, whenever they change."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import asyncpg

from services.kit.lists.scan_filters import ScanFilter, ScanFilterError, default_filters, scan_filter
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described, reason_of
from services.kit.stores.database import DATABASE_ERRORS
from services.kit.stores.notifications import SCANNER_FILTERS, follow_notifications

log = get_logger(__name__)

QUERY: Final = "SELECT name, parameters::text AS parameters FROM scanner_filters WHERE enabled ORDER BY priority, name"
# A notice may be lost with its connection.
REREAD_SECONDS: Final = 3.0
CONNECT_SECONDS: Final = 5.0


class FiltersFollower:
    """While the database is away what was read last holds; before the first reading, the default rows.

    `take` gets the filters and says whether they are others than before. Rows with
    wrong parameters are left out, told of and counted in `wrong`.
    """

    def __init__(self, url: str, take: Callable[[Sequence[ScanFilter]], bool]) -> None:
        self.wrong: Counter[str] = Counter()
        self._url = url
        self._take = take
        self._told: dict[str, str] = {}

    async def first(self) -> None:
        """Reads them once, or takes the default ones when that cannot be done now."""
        try:
            connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS)
            try:
                await self._read(connection)
            finally:
                await connection.close(timeout=CONNECT_SECONDS)
        except DATABASE_ERRORS as error:
            log.warning("scanner_filters cannot be read, the default ones hold", reason=described(error))
            self._take(default_filters())

    async def run(self) -> None:
        """Follows them until cancelled."""
        await follow_notifications(
            self._url, SCANNER_FILTERS, lambda _: None, check=self._read, check_seconds=REREAD_SECONDS
        )

    async def _read(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        rows = await connection.fetch(QUERY, timeout=CONNECT_SECONDS)
        filters = []
        told: dict[str, str] = {}
        for row in rows:
            try:
                filters.append(scan_filter(row["name"], row["parameters"]))
            except ScanFilterError as error:
                told[row["name"]] = reason_of(error)
        for name, problem in told.items():
            if self._told.get(name) != problem:
                self.wrong["scanner_filter"] += 1
                log.warning("scanner filter left out", reason=problem)
        self._told = told
        if self._take(filters):
            log.info("scanner filters", names=[each.name for each in filters])
