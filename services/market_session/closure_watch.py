"""Follows the closures that the vendor announces: a day of mourning, a storm."""

import asyncio
from collections.abc import Callable
from datetime import date
from typing import Final

from services.kit.runtime.logging import get_logger
from services.kit.runtime.metrics import REJECTED
from services.kit.runtime.redaction import reason_of
from services.kit.runtime.setting_groups import PolygonSettings
from services.kit.vendor.models import MarketHoliday
from services.market.calendar import Calendar
from services.market.closures import Closures, Unusable, read_holidays
from services.market_session import metrics

log = get_logger(__name__)

EVERY_SECONDS: Final = 3600.0
ATTEMPTS: Final = 3


class ClosureWatch:
    """Reads the vendor's coming holidays every hour; what fails or is unusable is counted, and changes nothing."""

    def __init__(
        self,
        vendor: PolygonSettings,
        closures: Closures,
        today: Callable[[], date],
        on_calendar: Callable[[Calendar], None],
        every_seconds: float = EVERY_SECONDS,
    ) -> None:
        self._vendor = vendor
        self._closures = closures
        self._today = today
        self._on_calendar = on_calendar
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Follows them until cancelled."""
        # Loaded when the service serves already.
        from services.kit.vendor.client import VendorClient, VendorError

        async with VendorClient(self._vendor.rest_url, self._vendor.api_key, attempts=ATTEMPTS) as client:
            while True:
                try:
                    rows = await client.market_holidays()
                except VendorError as error:
                    metrics.VENDOR_FAILURES.inc()
                    log.warning("the vendor's coming holidays could not be fetched", error=reason_of(error))
                else:
                    self._take(rows)
                await asyncio.sleep(self._every_seconds)

    def _take(self, rows: list[MarketHoliday]) -> None:
        changes = []
        for each in read_holidays(rows):
            if isinstance(each, Unusable):
                REJECTED.labels(metrics.SERVICE, each.reason).inc()
                log.warning("the vendor's holiday cannot be used", reason=each.reason, row=each.row)
            else:
                changes.append(each)
        calendar, news = self._closures.take(changes, self._today())
        for change in news:
            log.warning("the vendor changed the calendar", date=str(change.date), close=str(change.close or "all day"))
        self._on_calendar(calendar)
