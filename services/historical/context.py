"""A load under way, as its loader sees it: the request, the sources, the progress."""

import asyncio
import datetime
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from services.historical import metrics
from services.historical.core import Problem, Progress, Request, State
from services.historical.history_store import HistoryStore
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of, redact
from services.kit.runtime.settings import Settings
from services.kit.vendor.client import VendorClient, VendorError
from services.market.calendar import Calendar, TradingDay

log = get_logger(__name__)

# The first problems of a job are kept, all are counted.
MAX_PROBLEMS: Final = 1000
# So many in a row: the vendor is down, not the symbol wrong.
FAILURES_IN_A_ROW: Final = 25

Item = TypeVar("Item")


class LoadError(Exception):
    """The load cannot continue. Loaded units stay, and are not loaded again."""


@dataclass
class LoadContext:
    """One load under way. `days` are the requested trading days.

    `known_from` is the date from which on the market knows what is loaded now, by the vendor's time.
    """

    request: Request
    settings: Settings
    calendar: Calendar
    days: Sequence[TradingDay]
    store: HistoryStore
    vendor: VendorClient
    known_from: datetime.date
    progress: Progress = field(default_factory=Progress)
    # How it ended, and why; set even if the database could not be updated.
    state: State = State.RUNNING
    error: str | None = None
    problems: list[Problem] = field(default_factory=list)
    # Called at every change.
    changed: Callable[[], None] = lambda: None
    _failures_in_a_row: int = 0
    _stop_reason: str = ""

    def begin(self, step: str, total: int) -> None:
        """Begins a step: from now on its units are counted."""
        self._show(self.progress._replace(step=step, total=total, done=0, skipped=0, failed=0))

    def step(self, step: str) -> None:
        self._show(self.progress._replace(step=step))

    def skip(self, count: int = 1) -> None:
        """Counts units that were loaded before."""
        self._show(self.progress._replace(skipped=self.progress.skipped + count))

    def done(self, rows: int, set_aside: int = 0, problems: Iterable[Problem] = (), count: int = 1) -> None:
        """Counts units that are stored, with their rows."""
        kind = self.request.kind
        metrics.UNITS.labels(kind, "done").inc(count)
        metrics.ROWS.labels(kind).inc(rows)
        metrics.SET_ASIDE.labels(kind).inc(set_aside)
        self._keep(problems)
        now = self.progress
        self._show(now._replace(done=now.done + count, rows=now.rows + rows, set_aside=now.set_aside + set_aside))

    def fail(self, problem: Problem) -> None:
        """Counts a unit that cannot be loaded; the load continues."""
        metrics.UNITS.labels(self.request.kind, "failed").inc()
        log.warning("not loaded", **problem._asdict())
        self._keep([problem])
        self._show(self.progress._replace(failed=self.progress.failed + 1))

    def vendor_failed(self, symbol: str, error: VendorError, subject: str) -> None:
        """Counts a symbol whose `subject` the vendor failed to give; after too many in a row the load is to stop."""
        self.fail(Problem(symbol, 0, reason_of(error)))
        self._failures_in_a_row += 1
        if error.is_refusal or self._failures_in_a_row >= FAILURES_IN_A_ROW:
            self._stop_reason = f"the vendor gives no {subject}: {reason_of(error)}"

    def vendor_answered(self) -> None:
        """Ends a row of vendor_failed()."""
        self._failures_in_a_row = 0

    async def for_each(self, items: Iterable[Item], at_once: int, one: Callable[[Item], Awaitable[None]]) -> None:
        """Awaits `one` for all items, `at_once` of them concurrently; the first exception ends all.

        Raises LoadError once the vendor has failed too often in a row.
        """
        queue = iter(items)

        async def work() -> None:
            while not self._stop_reason and (item := next(queue, None)) is not None:
                await one(item)

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(at_once):
                    tasks.create_task(work())
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from group
        if self._stop_reason:
            raise LoadError(self._stop_reason)

    def _keep(self, problems: Iterable[Problem]) -> None:
        room = max(MAX_PROBLEMS - len(self.problems), 0)
        self.problems += [Problem(redact(place), line, redact(reason)) for place, line, reason in [*problems][:room]]

    def _show(self, progress: Progress) -> None:
        self.progress = progress
        self.changed()
