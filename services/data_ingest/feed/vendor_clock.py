"""Compares this machine's clock with the vendor's own: before the stream begins, and now and then."""

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from services.data_ingest.feed.market_clock import AGREE_NS, MarketClock
from services.kit.runtime.clock import NS_PER_SECOND, monotonic_ns, ns_of
from services.kit.runtime.logging import get_logger
from services.kit.runtime.redaction import described
from services.kit.vendor.client import VendorClient, VendorError
from services.market.dates import server_time

log = get_logger(__name__)

COMPARE_SECONDS: Final = 30.0
# A vendor that does not answer delays the mesh's start by so much.
ANSWER_SECONDS: Final = 5.0
# An answer that took longer may be old.
FRESH_NS: Final = 2 * NS_PER_SECOND
# A clock that differs is read again after that: whoever answers from a cache has one that stands still.
AGAIN_SECONDS: Final = 4.0


class _Reading(NamedTuple):
    vendor_ns: int
    steady_ns: int


class VendorClock:
    """Tells `clock` what the vendor's says; `stream_ns` gives the stream's time, 0 before it has begun."""

    def __init__(
        self,
        vendor: VendorClient,
        clock: MarketClock,
        stream_ns: Callable[[], int] = lambda: 0,
        again_seconds: float = AGAIN_SECONDS,
    ) -> None:
        self._vendor = vendor
        self._clock = clock
        self._stream_ns = stream_ns
        self._again_seconds = again_seconds
        self._problem = ""

    async def run(self) -> None:
        """Compares until cancelled; raises StartError when the stream is ahead, and has to begin again."""
        while True:
            await asyncio.sleep(COMPARE_SECONDS)
            await self.compare()

    async def compare(self) -> None:
        """Compares once; a vendor that does not answer, or whose clock does not run, leaves the clock as it is."""
        problem = ""
        try:
            reading = await self._read()
            if abs(reading.vendor_ns - self._clock.now_ns()) >= AGREE_NS:
                first = reading
                await asyncio.sleep(self._again_seconds)
                reading = await self._read()
                ran_ns, passed_ns = reading.vendor_ns - first.vendor_ns, reading.steady_ns - first.steady_ns
                if abs(ran_ns - passed_ns) > FRESH_NS:
                    raise ValueError(f"in {passed_ns / 1e9:.0f} s it went on by {ran_ns / 1e9:.0f} s")
            self._clock.vendor_said(reading.vendor_ns, self._stream_ns())
        except (VendorError, ValueError, TimeoutError) as error:
            problem = described(error)
            if not self._problem:
                log.warning("this machine's clock cannot be compared with the vendor's", reason=problem)
        self._problem = problem

    async def _read(self) -> _Reading:
        asked_at = monotonic_ns()
        async with asyncio.timeout(ANSWER_SECONDS):
            told = server_time((await self._vendor.market_status()).server_time)
        now = monotonic_ns()
        if now - asked_at > FRESH_NS:
            raise TimeoutError(f"expected an answer within {FRESH_NS // NS_PER_SECOND} s")
        # It tells whole seconds.
        return _Reading(ns_of(told) + NS_PER_SECOND // 2, now)
