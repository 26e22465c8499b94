"""Rows of a table that the stream carries: read at the start, and again after each change of them."""

import abc
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import asyncpg

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described
from services.kit.stores.database import DATABASE_ERRORS
from services.kit.stores.notifications import CONNECT_SECONDS, follow_notifications

log = get_logger(__name__)

# A notification may be lost with its connection.
REREAD_SECONDS: Final = 3.0


class TableFollower(abc.ABC):
    """Follows the table `table`, whose trigger notifies the channel of that name; `query` reads its rows.

    `what`: one row, in the log and, with underscores, in `set_aside`, which counts rows that were left out. Until the
    rows have been read for the first time, those hold that the stream has, or in a new stream what begin() adds.
    """

    table: ClassVar[str]
    query: ClassVar[str]
    what: ClassVar[str]

    def __init__(self, url: str) -> None:
        self.set_aside: Counter[str] = Counter()
        self._url = url
        # Rows left out, and why.
        self._left_out: dict[str, str] = {}

    @abc.abstractmethod
    def begin(self, is_alone: bool) -> None:
        """Adds what holds while the rows cannot be read, or, when `is_alone`, where there is no database."""

    @abc.abstractmethod
    def take(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Adds the rows to the stream if they have changed; returns those that it left out, with the reasons."""

    async def load_first(self) -> None:
        """Reads the rows once, or leaves what holds when that cannot be done now."""
        if not self._url:
            self.begin(is_alone=True)
            return
        try:
            connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS)
            try:
                await self._read(connection)
            finally:
                await connection.close(timeout=CONNECT_SECONDS)
        except DATABASE_ERRORS as error:
            log.warning(f"{self.table} cannot be read, what was there before holds", reason=described(error))
            self.begin(is_alone=False)

    async def run(self) -> None:
        """Follows them until cancelled."""
        await follow_notifications(
            self._url, self.table, lambda _: None, check=self._read, check_seconds=REREAD_SECONDS
        )

    async def _read(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        left_out = self.take(await connection.fetch(self.query, timeout=CONNECT_SECONDS))
        for name, reason in left_out.items():
            if self._left_out.get(name) != reason:
                self.set_aside[self.what.replace(" ", "_")] += 1
                log.warning(f"{self.what} left out", name=name, reason=reason)
        self._left_out = left_out
