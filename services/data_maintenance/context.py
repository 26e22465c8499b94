"""A task's contract: `async def task(job)`, apart from when and by which replica it is run."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

import asyncpg

from services.data_maintenance.run_store import LostRunError, Progress, Run
from services.kit.stores.notifications import REFERENCE_DATA, Kind, ReferenceChange
from services.market.calendar import Calendar

_STILL_MINE: Final = "SELECT TRUE FROM maintenance_runs WHERE id = $1 AND fence = $2 AND state = 'RUNNING' FOR SHARE"


class TaskError(Exception):
    """The task cannot be done as a whole; the message is the run's error."""


@dataclass
class Job:
    """One run under way, as its task sees it.

    A task keeps `progress` up to date, puts symbols that fail there and continues,
    and raises TaskError when nothing can be done at all. What it writes can be
    written again. It may be cancelled at any await.
    """

    run: Run
    calendar: Calendar
    progress: Progress = field(default_factory=Progress)

    @property
    def trading_date(self) -> date:
        return self.run.trading_date

    def count_set_aside(self, set_aside: Mapping[str, int]) -> None:
        """Counts rows that could not be used, by reason."""
        for reason, count in set_aside.items():
            self.progress.count(f"set_aside_{reason}", count)

    async def guard(self, connection: asyncpg.Connection) -> None:
        """Last in a transaction that writes: it cannot be committed once another replica has the run.

        Last, so that everybody locks rows in one order, and the lease can be renewed meanwhile.

        Raises LostRunError.
        """
        if not await connection.fetchval(_STILL_MINE, self.run.id, self.run.fence):
            raise LostRunError(f"run {self.run.id} of {self.run.task} is not this replica's any more")


Task = Callable[[Job], Awaitable[None]]
Tasks = Mapping[str, Task]


def announced(pool: asyncpg.Pool, kind: Kind, task: Task) -> Task:
    """The task, at whose end PostgreSQL notifies holders of reference data that `kind` has changed.

    Also after one that failed: what it had written is there.
    """

    async def run(job: Job) -> None:
        try:
            await task(job)
        finally:
            change = ReferenceChange(kind, job.trading_date)
            await pool.execute("SELECT pg_notify($1, $2)", REFERENCE_DATA, change.encode())

    return run
