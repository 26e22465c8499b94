"""The trading calendar, from market_session, and the day that a feed begins with, from the vendor."""

import asyncio
import datetime
from collections.abc import Callable
from typing import Any, Final

import grpc.aio
from tradeul.v1 import market_session_pb2, market_session_pb2_grpc

from services.kit.runtime.backoff import Backoff
from services.kit.runtime.clock import ns_of
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import reason_of
from services.kit.vendor.client import VendorClient, VendorError
from services.market.days import Calendar, Day

log = get_logger(__name__)

# 250 trading days of history, and a month ahead; market_session lists at most 400 days.
DAYS_BEHIND: Final = 365
DAYS_AHEAD: Final = 30
DEADLINE_SECONDS: Final = 5.0
# The vendor may announce a holiday or an early close at any time.
REFRESH_SECONDS: Final = 1800.0


class TradingDays:
    """Asks market_session; tries again until it answers."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = market_session_pb2_grpc.MarketSessionServiceStub(channel)

    async def calendar(self, around: datetime.date) -> Calendar:
        """The trading days of the year before a date and of the month after it."""
        request = market_session_pb2.ListTradingDaysRequest(
            start_date=str(around - datetime.timedelta(days=DAYS_BEHIND)),
            end_date=str(around + datetime.timedelta(days=DAYS_AHEAD)),
        )
        backoff = Backoff()
        while True:
            try:
                answer = await self._stub.ListTradingDays(request, timeout=DEADLINE_SECONDS)
                return Calendar(map(Day.of, answer.days))
            except (grpc.aio.AioRpcError, ValueError) as error:
                reason = error.details() if isinstance(error, grpc.aio.AioRpcError) else reason_of(error)
            pause = backoff.next()
            log.warning("no trading days from market_session", reason=reason, again_in=pause)
            await asyncio.sleep(pause)

    async def follow(
        self, date: Callable[[], datetime.date], changed: asyncio.Event, take: Callable[[Calendar], None]
    ) -> None:
        """Gives `take` a calendar around `date()` when `changed` is set, and now and then."""
        while True:
            try:
                async with asyncio.timeout(REFRESH_SECONDS):
                    await changed.wait()
            except TimeoutError:
                pass
            changed.clear()
            take(await self.calendar(date()))


async def vendor_now_ns(vendor: VendorClient) -> int:
    """What the vendor takes as now; asks until it can be had."""
    backoff = Backoff()
    while True:
        try:
            return server_time_ns((await vendor.market_status()).server_time)
        except (VendorError, ValueError) as error:
            pause = backoff.next()
            log.warning("no market status from the vendor", reason=reason_of(error), again_in=pause)
            await asyncio.sleep(pause)


def server_time_ns(text: str) -> int:
    """An RFC 3339 time in ns since 1970 UTC; raises ValueError for anything else, a time without offset too."""
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"server time: expected an offset from UTC, was {text!r}")
    return ns_of(time)
