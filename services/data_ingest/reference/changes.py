"""Changes of reference data after the day was loaded: splits announced late, and what others write to PostgreSQL."""

import datetime
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.stores.notifications import REFERENCE_DATA, ReferenceChange, follow_notifications
from services.kit.vendor.client import VendorError
from services.kit.vendor.models import Split

log = get_logger(__name__)

# Longer than the market is ever closed.
DAYS_AHEAD: Final = 10

Fetch = Callable[[datetime.date, datetime.date], Awaitable[Sequence[Split]]]


class KnownSplits:
    """`fetch(first, last)` gives the splits executed on these dates and between; raises VendorError."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        # Of the splits after the first of these dates, up to the second, all are known that are announced.
        self._after = self._until = datetime.date.min
        self._splits: list[tuple[datetime.date, str]] = []

    async def look_up(self, after: datetime.date, day: datetime.date) -> None:
        """Fetches the splits after a date, as far ahead of `day` as need be; what was known stays when that fails."""
        until = day + datetime.timedelta(days=DAYS_AHEAD)
        try:
            announced = await self._fetch(after + datetime.timedelta(days=1), until)
        except (VendorError, TimeoutError) as error:
            log.warning("splits to come are not known", after=str(after), error=reason_of(error))
            return
        splits = []
        for split in announced:
            try:
                splits.append((datetime.date.fromisoformat(split.execution_date), split.ticker))
            except ValueError:
                # The loader counts it.
                continue
        self._after, self._until, self._splits = after, until, splits

    def between(self, before: datetime.date, day: datetime.date) -> frozenset[str] | None:
        """The symbols that split after `before`, up to `day`; None when that is not known."""
        if not (self._after <= before and day <= self._until):
            return None
        return frozenset(ticker for executed, ticker in self._splits if before < executed <= day)


class ReferenceNotices:
    """`on_change` gets each change; `on_lost` is called when some may have been lost with their connection."""

    def __init__(self, url: str, on_change: Callable[[ReferenceChange], None], on_lost: Callable[[], None]) -> None:
        # Payloads that are none.
        self.set_aside: Counter[str] = Counter()
        self._url = url
        self._on_change = on_change
        self._on_lost = on_lost

    async def run(self) -> None:
        """Follows them until cancelled; without a database there is nothing to follow."""
        await follow_notifications(self._url, REFERENCE_DATA, self._receive, on_listening=self._listening)

    def _listening(self, is_again: bool) -> None:
        if is_again:
            self._on_lost()

    def _receive(self, payload: str) -> None:
        try:
            change = ReferenceChange.decode(payload)
        except msgspec.MsgspecError as error:
            self.set_aside["reference_notice"] += 1
            log.warning("expected a change of reference data", payload=payload[:200], error=reason_of(error))
        else:
            self._on_change(change)
