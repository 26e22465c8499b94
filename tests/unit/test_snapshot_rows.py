"""The vendor's snapshot as columns; which symbols have reference data."""

import datetime
import math
from typing import Any

import msgspec
import numpy as np
import pytest
from tradeul.v1 import market_data_pb2

from services.data_ingest.reference import Baselines, ReferenceBatch
from services.data_ingest.reference.holdings import Holdings
from services.data_ingest.reference.load import HistoryDays
from services.data_ingest.vendor_snapshot.rows import SnapshotPart, SnapshotRules, nanoseconds, snapshot_parts
from services.kit.runtime.clock import ns_of
from services.kit.vendor.models import SnapshotTicker
from services.market.dates import server_time
from tests.unit.test_sequencer import CALENDAR, FOUR_OCLOCK, HOUR, SECOND, TODAY

# Condition 5 and 12 (Form T) may not set the price, the latter in regular hours only.
RULES = SnapshotRules(1 << 5 | 1 << 12, TODAY.market_open_ns, TODAY.market_close_ns)
NOON = FOUR_OCLOCK + 8 * HOUR


def ticker(symbol: str = "AAPL", **fields: Any) -> SnapshotTicker:
    return msgspec.convert({"ticker": symbol, "updated": NOON, **fields}, SnapshotTicker)


def row(**fields: Any) -> dict[str, Any]:
    """The one row of a snapshot, without what is absent."""
    (part,) = snapshot_parts([ticker(**fields)], RULES)
    message = market_data_pb2.VendorSnapshot.FromString(part.encode([0]))
    values = {field.name: column[0] for field, column in message.ListFields()}
    return {name: value for name, value in values.items() if value and not (value != value)}


def test_a_whole_row() -> None:
    assert row(
        day={"o": 10, "h": 12, "l": 9, "c": 11, "v": 5, "vw": 10.5},
        min={"av": 700, "t": NOON // 10**6, "o": 11, "h": 11.5, "l": 10.75, "c": 11.25, "v": 3, "vw": 11},
        lastTrade={"p": 11.3, "t": NOON - 1, "s": 100, "c": [37]},
        lastQuote={"p": 11.2, "P": 11.4, "t": NOON},
    ) == {
        "updated_ns": NOON, "last_trade_ns": NOON - 1, "last_trade_price": 11.3, "day_open": 10.0, "day_high": 12.0,
        "day_low": 9.0, "day_close": 11.0, "day_vwap": 10.5, "accumulated_volume": 700.0, "minute_close": 11.25,
        "bid": 11.2, "ask": 11.4, "minute_start_ns": NOON, "minute_high": 11.5, "minute_low": 10.75,
    }  # fmt: skip


def test_zeros_and_nonsense_are_absent() -> None:
    zeros = {"o": 0, "h": 0, "l": 0, "c": 0, "v": 0, "vw": 0}
    only_updated = {"updated_ns": NOON}
    assert row(day=zeros, min={**zeros, "av": 0, "t": 0}) == only_updated
    assert row(day={**zeros, "o": -1, "h": 1e7, "c": 1e300}, min={**zeros, "av": 1e12}) == only_updated
    assert row(lastTrade={"p": 0, "t": NOON}, lastQuote={"t": NOON, "p": -3, "P": 1e9}) == only_updated
    assert row(lastTrade={"p": 5, "t": 0}) == only_updated
    assert row(min={**zeros, "t": -5}) == only_updated


def test_volume_with_fractions_comes_from_the_text() -> None:
    assert row(min={"av": 700, "dav": "700.25"})["accumulated_volume"] == 700.25
    assert row(min={"av": 700, "dav": "many"})["accumulated_volume"] == 700.0


@pytest.mark.parametrize(
    ("conditions", "time_ns", "sets"),
    [
        ([], NOON, True),
        ([37, 99], NOON, True),
        ([37, 5], NOON, False),
        ([12], NOON, False),
        ([12], TODAY.market_open_ns - 1, True),
        ([12, 5], TODAY.market_open_ns - 1, False),
        ([12], TODAY.market_close_ns, True),
    ],
)
def test_a_last_trade_may_set_the_price_by_its_conditions(conditions: list[int], time_ns: int, sets: bool) -> None:
    values = row(lastTrade={"p": 5, "t": time_ns, "c": conditions})
    assert ("last_trade_price" in values, "last_trade_ns" in values) == (sets, sets)


def test_parts_and_ids() -> None:
    tickers = [ticker(f"S{n}", lastTrade={"p": n + 1, "t": NOON}) for n in range(5)]
    tickers.insert(2, ticker("NEVER", updated=0))
    parts = list(snapshot_parts(tickers, RULES, part_rows=2))
    assert [part.symbols for part in parts] == [["S0", "S1"], ["S2", "S3"], ["S4"]]
    # As it goes between processes.
    part = msgspec.msgpack.decode(msgspec.msgpack.encode(parts[1]), type=SnapshotPart)
    message = market_data_pb2.VendorSnapshot.FromString(part.encode([7, 3]))
    assert (list(message.symbol_id), list(message.last_trade_price)) == ([7, 3], [3.0, 4.0])
    # Refused symbols are left out.
    message = market_data_pb2.VendorSnapshot.FromString(part.encode([-1, 3]))
    assert (list(message.symbol_id), list(message.last_trade_price)) == ([3], [4.0])
    assert len({len(column) for _, column in message.ListFields()}) == 1
    assert part.encode([-1, -1]) == b""
    with pytest.raises(ValueError, match="expected 2 ids, was 1"):
        part.encode([1])


def test_times_of_any_unit() -> None:
    for time in (NOON // 10**9, NOON // 10**6, NOON // 10**3, NOON):
        assert nanoseconds(time) == NOON
    assert [nanoseconds(time) for time in (0, -NOON, 2**63)] == [0, 0, 0]


def test_server_time() -> None:
    assert ns_of(server_time("2026-03-10T04:00:00-04:00")) == FOUR_OCLOCK
    assert ns_of(server_time("2026-03-10T08:00:00.5Z")) == FOUR_OCLOCK + SECOND // 2
    for wrong in ("2026-03-10T04:00:00", "now", ""):
        with pytest.raises(ValueError, match=r"offset|isoformat"):
            server_time(wrong)


def test_holdings_count_symbols_with_a_value() -> None:
    holdings = Holdings()
    holdings.add(
        ReferenceBatch(["A", "B", "C"], {"prev_close": np.array([1.0, math.nan, 3.0])}, {"sector": ["x", "", ""]}),
        [0, 5, 70],
    )
    slots = np.ones((1, 192))
    holdings.add(ReferenceBatch(["B"], baselines=Baselines(np.ones(1, np.uint32), slots, slots, slots)), [5])
    assert holdings.counts() == {"prev_close": 2, "sector": 1, "baseline": 1}
    holdings.add(ReferenceBatch(["B", "C"], {"prev_close": np.array([2.0, math.nan])}), [5, 70])
    assert holdings.counts()["prev_close"] == 2
    holdings.add(ReferenceBatch(["A", "C"], {"atr": np.array([1.0, 2.0])}), [0, 70])
    # The day has changed: metadata outlast it, and what is of many days where shares are the same.
    holdings.forget_day([5, 70, 9999])
    assert holdings.counts() == {"prev_close": 0, "sector": 1, "baseline": 0, "atr": 1}
    holdings.forget_day(None)
    assert holdings.counts() == {"prev_close": 0, "sector": 1, "baseline": 0, "atr": 0}


def test_the_calendar_of_a_load() -> None:
    days = HistoryDays.of(CALENDAR.all_before(TODAY.date))
    assert days.before == tuple(datetime.date(2026, 3, day) for day in range(5, 10))
    assert days.early_closes == frozenset()
