"""Requests of the ticker service checked, and stored facts made into answers, without any I/O."""

import json
from datetime import UTC, date, datetime, timedelta

import pytest
from tradeul.v1 import ticker_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.runtime.errors import ServiceError
from services.kit.vendor.companies import metadata_columns
from services.kit.vendor.models import TickerDetails
from services.market.companies import METADATA_COLUMNS, metadata_message
from services.market.dates import day_bounds
from services.market.symbols import spellings
from services.ticker import core
from services.ticker.requests import (
    INTERVALS,
    PageMark,
    date_of,
    page_mark,
    page_token,
    span_of,
)


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [("AAPL", ("AAPL",)), ("aapl", ("aapl", "AAPL")), ("BACpL", ("BACpL", "BACPL")), ("brk/a", ("brk/a", "BRK/A"))],
)
def test_spellings_are_tried_as_written_then_upper_cased(symbol: str, expected: tuple[str, ...]) -> None:
    assert spellings(symbol) == expected


def test_a_day_in_new_york_is_23_24_or_25_hours_long() -> None:
    for day, hours in ((date(2026, 3, 8), 23), (date(2026, 3, 9), 24), (date(2026, 11, 1), 25)):
        start, end = day_bounds(day)
        assert end - start == timedelta(hours=hours)


def test_spans_take_dates_and_times_and_end_with_a_date() -> None:
    span = span_of("2026-03-10", "2026-03-10", INTERVALS["1m"])
    assert span == (datetime(2026, 3, 10, 4, tzinfo=UTC), datetime(2026, 3, 11, 4, tzinfo=UTC))
    span = span_of("2026-03-10T09:30:00-04:00", "", INTERVALS["1m"])
    assert span == (datetime(2026, 3, 10, 13, 30, tzinfo=UTC), None)


def test_the_longest_span_is_allowed_and_no_longer() -> None:
    for each in INTERVALS.values():
        start = datetime(2015, 1, 1, tzinfo=UTC)
        span_of(start.isoformat(), (start + each.longest).isoformat(), each)
        with pytest.raises(ServiceError, match="expected at most"):
            span_of(start.isoformat(), (start + each.longest + timedelta(seconds=1)).isoformat(), each)


@pytest.mark.parametrize(
    "text", ["2026-3-1", "20260301", "2026-02-30", "\u0661\u0662\u0663\u0664-01-01", "2026-03-01T", " 2026-03-01"]
)
def test_other_dates_are_refused(text: str) -> None:
    with pytest.raises(ServiceError, match="expected a date like"):
        date_of(text)


def test_page_tokens_come_back_as_they_were() -> None:
    mark = PageMark(datetime(2026, 3, 10, 13, 30, 0, 123456, tzinfo=UTC), "gappers_up", 7, "BRK.A")
    assert page_mark(page_token(mark)) == mark
    assert page_mark("") is None


@pytest.mark.parametrize("token", ["x", "====", "é", "bnVsbA", "W10", "WzEsMiwzLDRd", "W1tbW1tbW1tbW1s"])
def test_other_page_tokens_are_refused(token: str) -> None:
    with pytest.raises(ServiceError, match="next_page_token"):
        page_mark(token)


def test_the_vendors_description_fills_columns_and_keeps_the_rest() -> None:
    columns = metadata_columns(
        TickerDetails(
            "SPY",
            name="S&P\u00a0500 ETF",
            type="ETF",
            weighted_shares_outstanding=5.0,
            total_employees=3,
            list_date="1993-01-29",
        )
    )
    assert (columns["company_name"], columns["is_etf"], columns["shares_outstanding"]) == ("S&P 500 ETF", True, 5.0)
    assert (columns["security_type"], columns["list_date"], columns["sector"]) == ("ETF", "1993-01-29", None)
    assert columns["is_actively_trading"] is None
    assert columns["details"] == {"type": "ETF", "weighted_shares_outstanding": 5.0, "total_employees": 3}


def test_a_row_of_ticker_metadata_with_a_wrong_detail_loses_only_that() -> None:
    record = {
        **dict.fromkeys(METADATA_COLUMNS),
        "symbol": "X",
        "company_name": "X\tCorp",
        "details": json.dumps({"total_employees": "many", "cik": "12", "never_heard": [1]}),
        "updated_at": None,
    }
    message, left_out = metadata_message(record)
    assert (message.company_name, message.cik, left_out) == ("X Corp", "12", ["total_employees"])
    assert not message.HasField("market_cap") and not message.HasField("updated_at")


def test_what_is_known_stands_over_what_the_vendor_says() -> None:
    known = ticker_pb2.TickerMetadata(symbol="X", company_name="Ours", address={"city": "Here"})
    more = ticker_pb2.TickerMetadata(symbol="X", company_name="Theirs", cik="1", address={"state": "MA"})
    filled = core.fill(known, more)
    assert (filled.company_name, filled.cik, dict(filled.address)) == ("Ours", "1", {"city": "Here"})
    assert json.loads(core.further_fields(filled)) == {"cik": "1", "address": {"city": "Here"}}


def test_a_row_is_completed_without_inventing_anything() -> None:
    live = TickerRow(symbol="X", company_name="Live Name", prev_close=10.0)
    metadata = ticker_pb2.TickerMetadata(symbol="X", company_name="Stored Name", sector="Energy")
    day = {"date": date(2026, 3, 9), "open": 1.0, "high": 3.0, "low": 0.5, "close": 2.0, "volume": 9.0}
    row = core.complete_row("X", live, metadata, {**day, "vwap": None, "trades": None})
    assert (row.company_name, row.sector, row.prev_close, row.price) == ("Live Name", "Energy", 10.0, 2.0)
    assert not row.last_day.HasField("vwap")
    for name in ("open", "volume_today", "change_percent", "updated_at", "session"):
        assert not row.HasField(name)
    assert core.complete_row("X", None, None, None) == TickerRow(symbol="X")
