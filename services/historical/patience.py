"""Waits, for a while, for a database that went away in the middle of a load: each write can be repeated."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

import asyncpg

from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import monotonic
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS

log = get_logger(__name__)

# Longer than a restart takes, also one that has much to recover.
WAIT_SECONDS: Final = 120.0
# It is not there, or it is busy with somebody else's lock: the same may work later.
PASSING: Final = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
)


class DatabaseAwayError(Exception):
    """The database did not come back for as long as a load waits; what is loaded stays."""


class Patient:
    """A store whose `patiently` methods wait. `when_back` is awaited before one of them is tried again."""

    def __init__(self, wait_seconds: float = WAIT_SECONDS) -> None:
        self.wait_seconds = wait_seconds
        self.when_back: Callable[[], Awaitable[None]] = _nothing


async def _nothing() -> None:
    return


StoreT = TypeVar("StoreT", bound=Patient)
P = ParamSpec("P")
R = TypeVar("R")


def patiently(
    method: Callable[Concatenate[StoreT, P], Awaitable[R]],
) -> Callable[Concatenate[StoreT, P], Awaitable[R]]:
    """A method that can be repeated. It raises DatabaseAwayError after `wait_seconds`, errors of its own at once."""

    @functools.wraps(method)
    async def repeated(self: StoreT, /, *args: P.args, **kwargs: P.kwargs) -> R:
        since, backoff = 0.0, Backoff()
        while True:
            try:
                if since:
                    await self.when_back()
                return await method(self, *args, **kwargs)
            except DATABASE_ERRORS as error:
                if not isinstance(error, PASSING):
                    raise
                if not since:
                    since = monotonic()
                    log.warning("the database is away: the load waits", reason=reason_of(error))
                elif monotonic() - since > self.wait_seconds:
                    raise DatabaseAwayError(
                        f"the database was away for {self.wait_seconds:g} s: {reason_of(error)}"
                    ) from error
            await asyncio.sleep(backoff.next())

    return repeated
