"""This machine's clock is compared with the vendor's, where that can be read and runs."""

from types import SimpleNamespace
from typing import Any, cast

from structlog.testing import capture_logs

from services.data_ingest.feed.market_clock import MarketClock
from services.data_ingest.feed.vendor_clock import VendorClock
from services.kit.runtime.clock import NS_PER_SECOND, utc_time, wall_ns
from services.kit.vendor.client import VendorClient, VendorError

HOUR = 3600


class Vendor:
    """Its clock is `ahead` seconds ahead, and `step` more after each answer; or it answers with `error`."""

    def __init__(self, ahead: float = 0, step: float = 0, error: Exception | None = None) -> None:
        self.ahead = ahead
        self.step = step
        self.error = error

    async def market_status(self) -> Any:
        if self.error is not None:
            raise self.error
        time = utc_time(wall_ns() + round(self.ahead * NS_PER_SECOND))
        self.ahead += self.step
        return SimpleNamespace(server_time=time.isoformat(timespec="seconds"))


async def off_by(vendor: Vendor, times: int = 1) -> float:
    """How far the market's clock is ahead of this machine's after so many comparisons, in seconds."""
    clock = MarketClock()
    watch = VendorClock(cast(VendorClient, vendor), clock, again_seconds=0)
    for _ in range(times):
        await watch.compare()
    return round((clock.now_ns() - wall_ns()) / NS_PER_SECOND)


async def test_a_clock_that_differs_from_the_vendors_is_not_followed() -> None:
    assert await off_by(Vendor()) == 0
    assert await off_by(Vendor(3)) == 0
    assert abs(await off_by(Vendor(HOUR)) - HOUR) <= 1
    assert abs(await off_by(Vendor(-24 * HOUR)) + 24 * HOUR) <= 1


async def test_a_vendor_who_does_not_answer_or_whose_clock_does_not_run_changes_nothing() -> None:
    for vendor in (Vendor(HOUR, step=10), Vendor(error=VendorError("away")), Vendor(error=TimeoutError())):
        with capture_logs() as logs:
            assert await off_by(vendor, times=3) == 0
        said = [each["event"] for each in logs]
        assert said == ["this machine's clock cannot be compared with the vendor's"]
