"""The day's minute bars from before the mesh started, or from while it was away: the vendor's, on request."""

import asyncio
from datetime import date, datetime, time
from typing import Final

from services.kit.runtime.clock import NEW_YORK, NS_PER_MINUTE, NS_PER_MS, monotonic, ns_of
from services.kit.runtime.errors import ServiceError
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import AggregateSource, VendorError
from services.ticker import metrics
from services.ticker.store import TickerStore

log = get_logger(__name__)

DAY_BEGINS: Final = time(4)
# The vendor corrects bars for so long; what a gap took away is there afterwards.
AGAIN_SECONDS: Final = 900.0
# After a failure, so that a vendor that is away does not delay every request.
RETRY_SECONDS: Final = 30.0
_MINUTE_MS: Final = NS_PER_MINUTE // NS_PER_MS


class MinuteFill:
    """Completes the stored minute bars of a symbol's day, once in a while.

    A minute has one bar: the vendor's replaces one that was made of trades, and leaves one of the vendor's as it is,
    which may be corrected already.
    """

    def __init__(self, store: TickerStore, vendor: AggregateSource) -> None:
        self._store = store
        self._vendor = vendor
        self._day: date | None = None
        # By symbol: when its bars may be requested again, by the monotonic clock.
        self._due: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    async def complete(self, symbol: str, now: datetime) -> None:
        """Returns when the bars of the day of `now` that are over by then are stored, as far as the vendor has them."""
        if (task := self._running.get(symbol)) is None:
            day = now.astimezone(NEW_YORK).date()
            if day != self._day:
                self._day = day
                self._due.clear()
            if monotonic() < self._due.get(symbol, 0.0):
                return
            self._running[symbol] = task = asyncio.create_task(self._fill(symbol, day, now), name="ticker.minute_fill")
            task.add_done_callback(lambda _: self._running.pop(symbol, None))
        # A client that goes away does not end what others wait for.
        await asyncio.shield(task)

    async def close(self) -> None:
        """Ends requests that are under way."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fill(self, symbol: str, day: date, now: datetime) -> None:
        start_ms = ns_of(datetime.combine(day, DAY_BEGINS, NEW_YORK)) // NS_PER_MS
        end_ms = ns_of(now) // NS_PER_MINUTE * _MINUTE_MS
        pause = RETRY_SECONDS
        try:
            if start_ms < end_ms:
                bars = await self._vendor.aggs(symbol, 1, "minute", start_ms, end_ms - 1)
                # The vendor rounds the bounds: the minute of now is not over.
                await self._store.add_minutes(symbol, [bar for bar in bars if start_ms <= bar.t < end_ms])
            pause = AGAIN_SECONDS
        except VendorError as error:
            metrics.FAILURES.labels("vendor").inc()
            log.warning("the day's bars are not completed", symbol=symbol, error=reason_of(error))
        except ServiceError:
            # The database is away, which the request itself will find.
            metrics.FAILURES.labels("database").inc()
        self._due[symbol] = monotonic() + pause
