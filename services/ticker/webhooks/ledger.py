"""How far each webhook has come, written over the connection that holds the right to deliver.

PostgreSQL gives the lock to one session at a time, and whatever is written here is written by that session: a deliverer
that stood still, or was cut off, until another one took over can write nothing any more.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

import asyncpg

from services.kit.rpc.ring import Position
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS
from services.ticker.webhooks.store import ADD_ATTEMPT, ALL, Attempt, Hook

Result = TypeVar("Result")

LOCK_NAME: Final = "webhooks"
# A machine that is gone keeps its session no longer than this: 10 s + 3 * 5 s.
SESSION_SETTINGS: Final = {
    "application_name": "tradeul webhooks",
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
CONNECT_SECONDS: Final = 5.0
COMMAND_SECONDS: Final = 10.0

_HERE: Final = "WHERE webhook_id = $1 AND begun = $2"
_ADVANCE: Final = f"UPDATE webhook_progress SET epoch = $3, sequence = $4 {_HERE}"
# In one statement, which is one way to the database and back for each message.
_NOTED: Final = f"WITH noted AS ({ADD_ATTEMPT}) UPDATE webhook_progress"
_AND_HERE: Final = "WHERE webhook_id = $1 AND begun = $10"
_ACCEPTED: Final = f"""
    {_NOTED} SET epoch = $11, sequence = $12, failing_since = NULL, failures = 0, next_attempt_at = NULL {_AND_HERE}
"""
_REFUSED: Final = f"{_NOTED} SET failing_since = $11, failures = $12, next_attempt_at = $13 {_AND_HERE}"
_PROBLEM: Final = f"UPDATE webhook_progress SET problem = $3 {_HERE}"
_SWITCH_OFF: Final = "UPDATE webhooks SET enabled = FALSE, disabled_reason = $2 WHERE id = $1 AND version = $3"


class LedgerLost(Exception):
    """The connection is lost, and the right to deliver with it."""


class Failing(NamedTuple):
    """A message that waits: since when and how often it was refused, and when it is sent again."""

    since: datetime
    failures: int
    next_attempt_at: datetime | None


class Ledger:
    """Every method raises LedgerLost when the connection is lost, and from then on. Close it."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.lost = asyncio.Event()
        self._connection = connection
        # A connection does one thing at a time.
        self._turn = asyncio.Lock()
        connection.add_termination_listener(lambda _: self.lost.set())

    @classmethod
    async def open(cls, url: str) -> "Ledger":
        """Raises LedgerLost."""
        try:
            return cls(
                await asyncpg.connect(
                    url, timeout=CONNECT_SECONDS, command_timeout=COMMAND_SECONDS, server_settings=SESSION_SETTINGS
                )
            )
        except DATABASE_ERRORS as error:
            raise LedgerLost(reason_of(error)) from error

    def close(self) -> None:
        """Ends the session, and with it the right to deliver."""
        self._connection.terminate()

    async def claim(self) -> bool:
        """True if it has the right to deliver, from now on until it is closed or lost."""
        query = "SELECT pg_try_advisory_lock(hashtext($1))"
        return bool(await self._do(lambda: self._connection.fetchval(query, LOCK_NAME)))

    async def listen(self, notified: Callable[[], object]) -> None:
        """Calls `notified` whenever webhooks have changed."""
        await self._do(lambda: self._connection.add_listener("webhooks", lambda *_: notified()))

    async def hooks(self) -> list[tuple[Hook, str]]:
        """All webhooks, each with the reason for which it was switched off by the service."""
        rows = await self._do(lambda: self._connection.fetch(ALL))
        return [(Hook.of(row), row["disabled_reason"]) for row in rows]

    async def advance(self, hook: Hook, position: Position) -> None:
        """Notes a position up to which nothing is to be delivered."""
        await self._do(lambda: self._connection.execute(_ADVANCE, hook.id, hook.begun, *position))

    async def accepted(self, hook: Hook, attempt: Attempt, position: Position) -> None:
        """Notes that everything up to a position is delivered."""
        values = (hook.id, *attempt, hook.begun, *position)
        await self._do(lambda: self._connection.execute(_ACCEPTED, *values))

    async def refused(self, hook: Hook, attempt: Attempt, failing: Failing) -> None:
        """Notes that a message waits."""
        values = (hook.id, *attempt, hook.begun, *failing)
        await self._do(lambda: self._connection.execute(_REFUSED, *values))

    async def problem(self, hook: Hook, problem: str) -> None:
        """Notes what keeps alerts from a webhook; empty for nothing."""
        await self._do(lambda: self._connection.execute(_PROBLEM, hook.id, hook.begun, problem))

    async def switch_off(self, hook: Hook, attempt: Attempt, failing: Failing, reason: str) -> None:
        """Notes the last attempt, and switches the webhook off unless it has been changed meanwhile."""

        async def all_of_it() -> None:
            async with self._connection.transaction():
                # First, as whoever changes it does.
                await self._connection.execute(_SWITCH_OFF, hook.id, reason, hook.version)
                await self._connection.execute(_REFUSED, hook.id, *attempt, hook.begun, *failing)

        await self._do(all_of_it)

    async def _do(self, action: Callable[[], Awaitable[Result]]) -> Result:
        async with self._turn:
            if self.lost.is_set():
                raise LedgerLost("the connection is lost")
            try:
                return await action()
            except DATABASE_ERRORS as error:
                # How far a transaction has come is not known, nor whether the lock is still held.
                self.lost.set()
                self._connection.terminate()
                raise LedgerLost(reason_of(error)) from error
