"""Why clients are sent a whole list, not the changes after what they have: counted, and told in the log."""

import asyncio
from collections import Counter
from enum import StrEnum
from typing import Final

from services.kit.runtime.logging import get_logger
from services.websocket_server import metrics

log = get_logger(__name__)

# Clients that are sent a list for the same reason within this time are one line of the log.
LOG_SECONDS: Final = 5.0


class Cause(StrEnum):
    """The possible causes; docs/websocket.md explains each."""

    NO_POSITION = "no_position"
    REPLACED = "replaced"
    EPOCH = "epoch"
    AHEAD = "ahead"
    GONE = "gone"
    LATE = "late"
    SHORTER = "shorter"
    MERGED = "merged"


class WholeLists:
    """Those of one list or scan, `name`."""

    def __init__(self, name: str) -> None:
        self._name = name
        # By the cause and its details, what the next lines of the log tell.
        self._clients: Counter[tuple[Cause, str]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def sent(self, cause: Cause, details: str = "") -> None:
        """Counts one client's; whoever had no position expected the whole list, and the log leaves it out."""
        metrics.WHOLE_LISTS.labels(cause).inc()
        if cause is Cause.NO_POSITION:
            return
        self._clients[cause, details] += 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOG_SECONDS, self.log)

    def log(self) -> None:
        """Writes what has been counted since the last time to the log."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for (cause, details), clients in self._clients.items():
            log.info("clients were sent the whole list", list=self._name, cause=cause, details=details, clients=clients)
        self._clients.clear()
