"""session_log: every change of the market's session, logged by the first replica that observes it."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from services.data_maintenance import metrics
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.database import DATABASE_ERRORS
from services.market.calendar import Calendar, session_starts

log = get_logger(__name__)

LOOK_SECONDS: Final = 2.0
# Sessions that passed while no mesh ran are logged later, as far back as that.
MAX_DELAY: Final = timedelta(days=14)

_INSERT: Final = """
    INSERT INTO session_log (began_at, session, trading_date, is_early_close) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING
"""


class SessionLog:
    """`now` and `calendar` give None while they are not known."""

    def __init__(
        self, pool: asyncpg.Pool, now: Callable[[], datetime | None], calendar: Callable[[], Calendar | None]
    ) -> None:
        self._pool = pool
        self._now = now
        self._calendar = calendar
        self._logged: datetime | None = None

    async def run(self) -> None:
        """Logs until cancelled; what the database did not take is logged when it is back."""
        while True:
            now, calendar = self._now(), self._calendar()
            if now is not None and calendar is not None:
                try:
                    await self.write(now, calendar)
                except DATABASE_ERRORS as error:
                    metrics.DATABASE_FAILURES.inc()
                    log.warning("sessions not logged", reason=reason_of(error))
            await asyncio.sleep(LOOK_SECONDS)

    async def write(self, now: datetime, calendar: Calendar) -> None:
        """Logs what began since the newest that is logged; on an empty table only the session of now."""
        if self._logged is None or self._logged > now:
            self._logged = await self._pool.fetchval("SELECT max(began_at) FROM session_log WHERE began_at <= $1", now)
        since = self._logged
        starts = session_starts(calendar.days, max(since or now - MAX_DELAY, now - MAX_DELAY), now)
        if since is None:
            starts = starts[-1:]
        if starts:
            await self._pool.executemany(_INSERT, starts)
            self._logged = starts[-1].began_at
