"""Says which alerts are in no store: they fired while no scanner ran, and the sequencer holds them no more."""

import asyncio
from collections.abc import Callable
from typing import Final

from services.kit.rpc.ring import Position
from services.kit.runtime.errors import ServiceError
from services.kit.runtime.logging import get_logger
from services.scanner import metrics
from services.scanner.alert_events import AlertHistory

log = get_logger(__name__)

# Another scanner stores what it has within seconds.
SETTLING_SECONDS: Final = 5.0


class MissedAlerts:
    """Compares what is stored with where the alerts of this scanner begin; `is_written`: True if all of these are."""

    def __init__(self, history: AlertHistory, is_written: Callable[[], bool]) -> None:
        self._history = history
        self._is_written = is_written
        self._due = asyncio.Event()
        self._first = Position(0, 1)

    def look_before(self, first: Position) -> None:
        """Looks soon at what is stored of the alerts before `first`."""
        self._first = first
        self._due.set()

    async def run(self) -> None:
        """Looks when that is due, until cancelled."""
        while True:
            await self._due.wait()
            await asyncio.sleep(SETTLING_SECONDS)
            if not self._is_written():
                continue
            self._due.clear()
            try:
                await self._look(self._first)
            except ServiceError:
                # The database is away again.
                self._due.set()

    async def _look(self, first: Position) -> None:
        if first.sequence <= 1:
            return
        stored = await self._history.newest_before(first)
        if missed := first.sequence - 1 - stored:
            metrics.ALERTS_MISSED.inc(missed)
            log.error("alerts are not stored", after=str(Position(first.epoch, stored)), before=str(first))
