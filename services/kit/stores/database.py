"""TimescaleDB or PostgreSQL: the connection pool, the errors of one that is away, and whose market's data it holds."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

import asyncpg
from prometheus_client import Counter

from services.kit.runtime.clock import monotonic
from services.kit.runtime.errors import STORE_UNAVAILABLE, StartError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of, without_passwords

log = get_logger(__name__)

RETRY_SECONDS: Final = 0.25
# Everything that a statement on a connection may raise, however the connection was cut.
DATABASE_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
# The server is away, too slow, or out of resources; its other answers are about the statement.
DATABASE_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)
# A server that is away, begins, ends or has no connection to spare: it may soon be there.
_NOT_YET: Final = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InternalClientError,
)


@contextlib.contextmanager
def store_unavailable(
    errors: tuple[type[Exception], ...] = DATABASE_ERRORS, failures: Counter | None = None
) -> Iterator[None]:
    """Raises STORE_UNAVAILABLE in place of `errors`, and counts them in `failures`."""
    try:
        yield
    except errors as error:
        if failures is not None:
            failures.inc()
        outcome = "refused" if isinstance(error, asyncpg.PostgresError) else "did not answer"
        raise STORE_UNAVAILABLE.error(f"the database {outcome}: {reason_of(error)}") from error


async def open_pool(url: str, *, max_size: int = 4, wait_seconds: float = 10.0) -> asyncpg.Pool:
    """Opens a pool whose first connection works, waiting up to `wait_seconds` for the server; the caller closes it.

    Raises StartError when the server does not answer, or when no URL is set.
    """
    if not url:
        raise StartError("expected TRADEUL_DATABASE_URL to be set, was empty")
    deadline = monotonic() + wait_seconds
    logged = ""
    while True:
        try:
            return await asyncpg.create_pool(url, min_size=1, max_size=max_size, command_timeout=60)
        except _NOT_YET as error:
            if monotonic() >= deadline:
                raise StartError(f"no database at {without_passwords(url)}: {reason_of(error)}") from error
            if (reason := reason_of(error)) != logged:
                log.warning("database not there yet", url=without_passwords(url), error=reason)
                logged = reason
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise StartError(f"database at {without_passwords(url)} refuses: {reason_of(error)}") from error
        await asyncio.sleep(RETRY_SECONDS)


class OtherMarketError(StartError):
    """The database holds another market's data."""


async def claim_market(url: str, market: str) -> None:
    """Notes that the database's data are this market's.

    Raises OtherMarketError when they are another's, StartError when the database is away.
    """
    if not url:
        raise StartError("expected TRADEUL_DATABASE_URL to be set, was empty")
    try:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            await connection.execute("INSERT INTO market_source (market) VALUES ($1) ON CONFLICT DO NOTHING", market)
            holder = await connection.fetchval("SELECT market FROM market_source")
        finally:
            await connection.close()
    except DATABASE_ERRORS as error:
        raise StartError(f"database at {without_passwords(url)}: {reason_of(error)}") from error
    if holder != market:
        raise OtherMarketError(other_market(f"the database at {without_passwords(url)}", holder, market))


def other_market(store: str, holder: str, market: str) -> str:
    """Returns the error message of a store that holds another market's data."""
    return (
        f"{store} holds the {holder}'s data, this mesh's market is the {market}'s: expected a store for each"
        " (TRADEUL_MARKET says whose market it is)"
    )
