"""Requests for companies' details: as many at once as their rate needs, within limits."""

import asyncio
import datetime
from collections import Counter
from typing import Any

import pytest

from services.data_ingest.reference.batch import ReferenceBatch
from services.data_ingest.reference.load import HistoryDays, Load
from services.data_ingest.reference.metadata_load import MetadataLoad
from services.market.splits import SplitTable

DAY = datetime.date(2026, 3, 10)


class HangingVendor:
    """Answers nothing; counts who waits."""

    def __init__(self) -> None:
        self.waiting = 0

    async def ticker_details(self, symbol: str, date: datetime.date | None) -> None:
        self.waiting += 1
        await asyncio.Event().wait()


@pytest.mark.parametrize(("per_second", "at_once"), [(1, 2), (40, 2), (100, 5), (10_000, 8)])
async def test_as_many_requests_at_once_as_their_rate_needs(per_second: int, at_once: int) -> None:
    vendor: Any = HangingVendor()

    async def emit(batch: ReferenceBatch) -> None:
        raise AssertionError("nothing is known yet")

    counts: Counter[str] = Counter()
    load = Load(
        DAY, HistoryDays.of_nyse(DAY), None, None, None, vendor, SplitTable((), DAY, counts), emit, counts, counts,
        retry_pause_s=0.0, details_per_s=per_second,
        universe=frozenset(f"S{number}" for number in range(20)),
    )  # fmt: skip
    loading = asyncio.create_task(MetadataLoad(load).load_details())
    async with asyncio.timeout(10):
        while vendor.waiting < at_once:
            await asyncio.sleep(0.01)
    # All have had the time for their first request by now.
    await asyncio.sleep(0.05)
    assert vendor.waiting == at_once
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)
