"""PostgreSQL's notifications: the channels of this house, and the one loop that follows a channel."""

import asyncio
import contextlib
import datetime
from collections.abc import Awaitable, Callable
from typing import Final, Literal, get_args

import asyncpg
import msgspec

from services.kit.runtime.backoff import Backoff
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of, without_passwords
from services.kit.stores.database import DATABASE_ERRORS

log = get_logger(__name__)

# The tables' triggers notify the first four, whoever has written reference data the fifth.
SCANNER_FILTERS: Final = "scanner_filters"
ALERT_RULES: Final = "alert_rules"
MAINTENANCE_RUNS: Final = "maintenance_runs"
API_KEYS: Final = "api_keys"
REFERENCE_DATA: Final = "reference_data"

CONNECT_SECONDS: Final = 5.0
# A connection that is dead does not say so.
CHECK_SECONDS: Final = 15.0

# What of the stores: daily_ohlc, ticker_atr, volume_slots, ticker_metadata.
Kind = Literal["daily", "atr", "baselines", "metadata"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class ReferenceChange(msgspec.Struct, frozen=True):
    """A notification of REFERENCE_DATA: `kind` has changed; `date` is the newest trading day whose data are in it."""

    kind: Kind
    date: datetime.date

    def encode(self) -> str:
        """The payload for pg_notify."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, payload: str) -> "ReferenceChange":
        """Raises msgspec.MsgspecError for any other payload."""
        return msgspec.json.decode(payload, type=cls)


async def _ping(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    await connection.execute("SELECT 1")


async def follow_notifications(
    url: str,
    channel: str,
    on_payload: Callable[[str], object],
    *,
    on_listening: Callable[[bool], object] = lambda is_again: None,
    check: "Callable[[asyncpg.Connection[asyncpg.Record]], Awaitable[object]]" = _ping,
    check_seconds: float = CHECK_SECONDS,
    on_failure: Callable[[], object] = lambda: None,
) -> None:
    """Listens to a channel until cancelled, and reconnects whenever the connection is lost.

    Args:
        url: of the database; there is nothing to follow when it is empty.
        on_payload: gets each notification's payload.
        on_listening: is called when it listens, with True when notifications may have been lost since it last did.
        check: is awaited once it listens, after notifications, and every `check_seconds`; its database errors count
            as a lost connection.
        on_failure: is called for every connection lost or refused.
    """
    if not url:
        return
    notified = asyncio.Event()

    def receive(_: object, __: object, ___: object, payload: object) -> None:
        on_payload(str(payload))
        notified.set()

    backoff, is_again = Backoff(longest=5.0), False
    while True:
        try:
            connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS, command_timeout=CONNECT_SECONDS)
            try:
                await connection.add_listener(channel, receive)
                on_listening(is_again)
                is_again = True
                while True:
                    notified.clear()
                    await check(connection)
                    backoff.reset()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(check_seconds):
                            await notified.wait()
            finally:
                connection.terminate()
        except DATABASE_ERRORS as error:
            on_failure()
            pause = backoff.next()
            log.warning(
                "notifications cannot be followed", channel=channel, url=without_passwords(url),
                reason=reason_of(error), again_in=pause,
            )  # fmt: skip
            await asyncio.sleep(pause)
