"""The trading calendar as market_session serves it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import date, timedelta
from typing import Final, Protocol

from tradeul.v1 import market_session_pb2

from services.kit.runtime.backoff import Backoff
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.market.calendar import Calendar, TradingDay

log = get_logger(__name__)

# 250 trading days of history, and a month ahead; market_session lists at most 400 days.
SPAN_BEHIND: Final = timedelta(days=365)
SPAN_AHEAD: Final = timedelta(days=30)
DEADLINE_SECONDS: Final = 5.0
# The vendor may announce a holiday or an early close at any time.
REFRESH_SECONDS: Final = 1800.0


class SessionStub(Protocol):
    """The part of MarketSessionServiceStub that is used here: this package imports no gRPC."""

    def ListTradingDays(
        self, request: market_session_pb2.ListTradingDaysRequest, *, timeout: float
    ) -> Awaitable[market_session_pb2.ListTradingDaysResponse]: ...


class CalendarClient:
    """Reads the calendar from market_session, again and again until it answers."""

    def __init__(self, stub: SessionStub) -> None:
        self._stub = stub

    async def calendar(self, around: date) -> Calendar:
        """The trading days of the year before a date and of the month after it."""
        request = market_session_pb2.ListTradingDaysRequest(
            start_date=str(around - SPAN_BEHIND), end_date=str(around + SPAN_AHEAD)
        )
        backoff = Backoff()
        while True:
            try:
                answer = await self._stub.ListTradingDays(request, timeout=DEADLINE_SECONDS)
                return Calendar(map(TradingDay.of_info, answer.days))
            except Exception as error:
                # A failed call has details(); an answer that is no calendar is a ValueError.
                details = getattr(error, "details", None)
                if details is None and not isinstance(error, ValueError):
                    raise
                reason = reason_of(error) if details is None else details()
            pause = backoff.next()
            log.warning("no trading days from market_session", reason=reason, again_in=pause)
            await asyncio.sleep(pause)

    async def follow(
        self, today: Callable[[], date], changed: asyncio.Event, on_calendar: Callable[[Calendar], None]
    ) -> None:
        """Calls `on_calendar` with a calendar around `today()` when `changed` is set, and every half hour."""
        while True:
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await changed.wait()
            except TimeoutError:
                pass
            changed.clear()
            on_calendar(await self.calendar(today()))
