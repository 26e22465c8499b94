"""Reference batches, metadata's values, and what a refusing vendor does to a load."""

import datetime
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from redis.exceptions import RedisError

from services.data_ingest.reference import Baselines, HistoryDays, ReferenceBatch
from services.data_ingest.reference.baseline_load import BaselineLoad
from services.data_ingest.reference.batch import pack, unpack
from services.data_ingest.reference.load import Load
from services.kit.stores.database import DATABASE_ERRORS
from services.kit.vendor.client import VendorError
from services.kit.vendor.companies import details_values, summary_values
from services.kit.vendor.models import TickerDetails, TickerSummary
from services.market.companies import usable_values
from services.market.splits import SplitTable
from services.market.volume_slots import SLOTS


def baselines(count: int) -> Baselines:
    values = np.arange(count * SLOTS, dtype=np.float64).reshape(count, SLOTS)
    return Baselines(np.arange(count, dtype=np.uint32), values, values / 2, values * math.nan)


def columns(count: int) -> ReferenceBatch:
    names = [f"S{i}" for i in range(count)]
    return ReferenceBatch(
        names, {"atr": np.arange(count, dtype=np.float64)}, {"sector": [f"é{i}" for i in range(count)]}
    )


@pytest.mark.parametrize(
    "batch", [columns(3), ReferenceBatch([]), ReferenceBatch(["A", "B"], baselines=baselines(2))], ids=repr
)
def test_what_another_process_gets_is_the_same(batch: ReferenceBatch) -> None:
    again = unpack(pack(batch))
    ids = list(range(7, 7 + len(batch.symbols)))
    assert again.symbols == batch.symbols and again.kinds == batch.kinds
    assert again.encode(ids) == batch.encode(ids)


@pytest.mark.parametrize("batch", [columns(501), ReferenceBatch(["S"] * 50, baselines=baselines(50))], ids=["c", "b"])
def test_pieces_are_the_whole(batch: ReferenceBatch) -> None:
    pieces = list(batch.pieces())
    assert len(pieces) == 3
    assert [symbol for piece in pieces for symbol in piece.symbols] == batch.symbols
    if batch.baselines is None:
        np.testing.assert_array_equal(np.concatenate([piece.numbers["atr"] for piece in pieces]), batch.numbers["atr"])
        assert [text for piece in pieces for text in piece.texts["sector"]] == batch.texts["sector"]
    else:
        volumes = [piece.baselines.avg_volume for piece in pieces if piece.baselines is not None]
        np.testing.assert_array_equal(np.concatenate(volumes), batch.baselines.avg_volume)


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="atr: expected 1 values, was 2"):
        ReferenceBatch(["A"], {"atr": np.zeros(2)})
    with pytest.raises(ValueError, match="days: expected 3 values"):
        ReferenceBatch(["A", "B", "C"], baselines=baselines(2))
    with pytest.raises(ValueError, match="expected 1 ids, was 2"):
        ReferenceBatch(["A"]).encode([1, 2])


def test_usable_values_are_taken_and_others_counted() -> None:
    set_aside: Counter[str] = Counter()
    fields: dict[str, Any] = {
        "company_name": "  A\u00a0\u2028Corp ", "exchange": "", "sector": "Mining", "industry": 5, "market_cap": "1e9",
        "security_type": "CS", "list_date": "2020-1-2",
        "float_shares": -1, "shares_outstanding": 1e300, "beta": -1.5, "is_etf": "True", "avg_volume_30d": [1],
        "avg_volume_10d": 10**400, "avg_price_30d": math.nan, "unheard_of": object(),
    }  # fmt: skip
    values = usable_values(fields, set_aside)
    assert values == {
        "company_name": "A Corp",
        "market_cap": 1e9,
        "beta": -1.5,
        "is_etf": 1.0,
        "security_type": "CS",
    }
    assert set_aside == {"metadata": 8}


def test_the_vendors_rows() -> None:
    set_aside: Counter[str] = Counter()
    assert summary_values(TickerSummary("SPY", type="ETF"), set_aside) == {
        "security_type": "ETF",
        "is_etf": 1.0,
    }
    assert summary_values(TickerSummary("X", name="X", type="CS"), set_aside) == {
        "company_name": "X",
        "security_type": "CS",
        "is_etf": 0.0,
    }
    details = TickerDetails(
        "X",
        list_date="1980-12-12",
        share_class_shares_outstanding=5.0,
        weighted_shares_outstanding=7.0,
        sic_code="3571",
    )
    values = details_values(details, set_aside)
    assert (values["shares_outstanding"], values["sector"], values["list_date"]) == (5.0, "Technology", "1980-12-12")
    assert details_values(TickerDetails("X", weighted_shares_outstanding=7.0), set_aside) == {"shares_outstanding": 7.0}
    assert not set_aside


class Refusing:
    def __init__(self, status: int) -> None:
        self.status = status
        self.requests = 0

    async def volume_bars(self, *args: object) -> list[object]:
        self.requests += 1
        raise VendorError("no", status=self.status, retryable=self.status != 403)


@pytest.mark.parametrize(("status", "most"), [(403, 8), (500, 3 * 32)])
async def test_a_vendor_that_refuses_or_is_down_is_not_asked_for_every_symbol(status: int, most: int) -> None:
    failed: Counter[str] = Counter()
    vendor: Any = Refusing(status)
    await BaselineLoad(a_load(vendor, failed)).load_from_vendor([f"S{i}" for i in range(5000)])
    assert 0 < vendor.requests <= most
    assert failed == {"baselines": 5000}


def a_load(vendor: Any, failed: Counter[str]) -> Load:
    """A load that must emit nothing."""
    day = datetime.date(2026, 3, 10)
    days = HistoryDays(tuple(day - datetime.timedelta(days=i) for i in range(30, 0, -1)), frozenset())

    async def emit(batch: ReferenceBatch) -> None:
        raise AssertionError("expected no batch")

    return Load(
        day,
        days,
        None,
        None,
        None,
        vendor,
        SplitTable((), day, Counter()),
        emit,
        Counter(),
        failed,
        retry_pause_s=0.0,
        details_per_s=40,
    )


@pytest.mark.parametrize("error", [*DATABASE_ERRORS, RedisError], ids=lambda error: error.__name__)
async def test_a_store_that_cannot_be_read_is_counted_and_the_load_goes_on(error: type[Exception]) -> None:
    """However a connection was cut: asyncpg says it in several ways."""

    async def query() -> list[int]:
        raise error("gone")

    failed: Counter[str] = Counter()
    assert await a_load(None, failed).read("daily_ohlc", query(), [0]) == [0]
    assert failed == {"daily_ohlc": 1}
