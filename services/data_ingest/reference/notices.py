"""Follows the notices that reference data have changed in PostgreSQL (services/kit/stores/reference_notices.py)."""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import asyncpg
import msgspec

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS
from services.kit.stores.reference_notices import CHANNEL, Notice, decode

log = get_logger(__name__)

CONNECT_SECONDS: Final = 5.0
# A connection that is dead does not say so.
PULSE_SECONDS: Final = 15.0
FIRST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0


class ReferenceNotices:
    """`on_notice` gets each; `on_lost` is called when some may have been lost with their connection."""

    def __init__(self, url: str, on_notice: Callable[[Notice], None], on_lost: Callable[[], None]) -> None:
        self.wrong = 0
        self._url = url
        self._on_notice = on_notice
        self._on_lost = on_lost

    async def run(self) -> None:
        """Follows them until cancelled; without a database there is nothing to follow."""
        if not self._url:
            return
        pause, was_connected = FIRST_PAUSE, False
        while True:
            try:
                connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS, command_timeout=CONNECT_SECONDS)
                try:
                    await connection.add_listener(CHANNEL, self._take)
                    if was_connected:
                        self._on_lost()
                    pause, was_connected = FIRST_PAUSE, True
                    while True:
                        await asyncio.sleep(PULSE_SECONDS)
                        await connection.execute("SELECT 1")
                finally:
                    connection.terminate()
            except DATABASE_ERRORS as error:
                reason = reason_of(error)
                log.warning("notices of reference data cannot be followed", reason=reason, again_in=pause)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _take(self, _: object, __: object, ___: object, payload: object) -> None:
        try:
            notice = decode(str(payload))
        except msgspec.MsgspecError as error:
            self.wrong += 1
            log.warning("expected a notice of reference data", payload=str(payload)[:200], error=reason_of(error))
        else:
            self._on_notice(notice)
