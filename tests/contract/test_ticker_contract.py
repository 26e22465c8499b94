"""The REST contract of ticker, history and filters (section 6), through the real Envoy."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.kit.rpc.server import Host
from services.scanner.service import ScannerService
from tests.support.gateway import Gateway, gateway_settings
from tests.support.running_ticker import RunningTicker, bar, empty, insert, running_ticker, vendor_details
from tests.support.scripted_sequencer import POLL_SECONDS, ScriptedSequencer
from tests.support.stores import Stores, module_stores
from tests.support.tape import Tape
from tests.support.vendor_server import VendorServer

SYMBOLS = ["AAPL", "BACpL", "BAC/WS", "IDLE"]
OPEN = datetime(2026, 3, 10, 13, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def mesh(stores: Stores, tmp_path: Path) -> AsyncIterator[tuple[RunningTicker, httpx.AsyncClient]]:
    await empty(stores)
    tape = Tape(SYMBOLS)
    async with ScriptedSequencer(tape) as sequencer, VendorServer(vendor_details) as vendor:
        sequencer.send(*tape.opening())
        address = {"TRADEUL_DATA_INGEST_ADDRESS": f"127.0.0.1:{sequencer.port}"}
        settings = gateway_settings(tmp_path, {**stores.environment(), **vendor.environment, **address})
        scanner = ScannerService(settings)
        host = Host(scanner)
        await host.start()
        sequencer.trade({"AAPL": 104.0, "BACpL": 99.0, "BAC/WS": 103.0})
        try:
            while scanner.hub.position != (tape.epoch, sequencer.market.sequence):
                await asyncio.sleep(POLL_SECONDS)
            async with running_ticker(stores, settings) as ticker, Gateway(settings) as gateway:
                yield ticker, gateway.client
        finally:
            await host.stop()


@pytest.fixture
def ticker(mesh: tuple[RunningTicker, httpx.AsyncClient]) -> RunningTicker:
    return mesh[0]


@pytest.fixture
def gateway(mesh: tuple[RunningTicker, httpx.AsyncClient]) -> httpx.AsyncClient:
    return mesh[1]


async def ok(gateway: httpx.AsyncClient, path: str, method: str = "GET", **request: Any) -> dict[str, Any]:
    answer = await gateway.request(method, path, **request)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    return body


async def refused(
    gateway: httpx.AsyncClient, path: str, status: int, reason: str, method: str = "GET", **request: Any
) -> str:
    """The message of a google.rpc.Status with that HTTP status and reason."""
    answer = await gateway.request(method, path, **request)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"code", "message", "details"}
    info = body["details"][0]
    assert (info["@type"], info["domain"], info["reason"]) == (
        "type.googleapis.com/google.rpc.ErrorInfo",
        "tradeul",
        reason,
    )
    return str(body["message"])


async def test_ticker(ticker: RunningTicker, gateway: httpx.AsyncClient) -> None:
    row = await ok(gateway, "/api/v1/ticker/AAPL")
    assert (row["symbol"], row["price"], row["change_percent"], row["session"]) == ("AAPL", 104, 4, "MARKET_OPEN")
    assert row["gap_size"] == "MEDIUM"
    assert datetime.fromisoformat(row["updated_at"]).tzinfo is not None
    # Absent is left out.
    assert not row.keys() & {"rank", "rvol", "bid", "last_day"}
    assert (await ok(gateway, "/api/v1/ticker/aapl"))["symbol"] == "AAPL"
    assert (await ok(gateway, "/api/v1/ticker/BACpL"))["symbol"] == "BACpL"
    while (cached := await ticker.redis.get("ticker:data:AAPL")) is None:
        await asyncio.sleep(POLL_SECONDS)
    assert json.loads(str(cached)) == row


async def test_a_symbol_with_a_slash_is_written_percent_encoded(
    ticker: RunningTicker, gateway: httpx.AsyncClient
) -> None:
    assert (await ok(gateway, "/api/v1/ticker/BAC%2FWS"))["symbol"] == "BAC/WS"
    assert (await ok(gateway, "/api/v1/ticker/bac%2fws"))["symbol"] == "BAC/WS"
    assert (await ok(gateway, "/api/v1/ticker/BAC%2FWS/bars"))["symbol"] == "BAC/WS"
    assert (await ok(gateway, "/api/v1/ticker/BAC%2FWS/metadata"))["symbol"] == "BAC/WS"
    await refused(gateway, "/api/v1/ticker/BAC/WS", 404, "UNKNOWN_ROUTE")


async def test_ticker_refusals(gateway: httpx.AsyncClient) -> None:
    await refused(gateway, "/api/v1/ticker/NOSUCH", 404, "UNKNOWN_SYMBOL")
    for wrong in ("1A", "A%20B", "TOOLONGSYMBOL", "%22", "A;B", "%F0%9F%92%A9"):
        for suffix in ("", "/metadata", "/bars"):
            await refused(gateway, f"/api/v1/ticker/{wrong}{suffix}", 400, "INVALID_SYMBOL")
    # These Envoy refuses by itself.
    await refused(gateway, "/api/v1/ticker/A%00", 400, "INVALID_REQUEST")
    await refused(gateway, "/api/v1/ticker/AAPL?colour=red", 400, "INVALID_REQUEST")


async def test_a_row_without_a_trade_shows_the_stored_day(ticker: RunningTicker, gateway: httpx.AsyncClient) -> None:
    await insert(ticker.database, "daily_ohlc", bar("IDLE", date(2026, 3, 9), (10.0, 12.0, 9.5, 11.0), 5000.0))
    row = await ok(gateway, "/api/v1/ticker/IDLE")
    assert row["price"] == 11
    assert row["last_day"] == {
        "date": "2026-03-09", "open": 10, "high": 12, "low": 9.5, "close": 11, "volume": 5000,
    }  # fmt: skip


async def test_metadata(gateway: httpx.AsyncClient) -> None:
    body = await ok(gateway, "/api/v1/ticker/NEWCO/metadata")
    expected = {
        "symbol": "NEWCO",
        "company_name": "New Company Inc.",
        "exchange": "XNAS",
        "sector": "Technology",
        "industry": "ELECTRONIC COMPUTERS",
        "market_cap": 1.5e9,
        "shares_outstanding": 5e7,
        "is_etf": False,
        "is_actively_trading": True,
        "homepage_url": "https://newco.example",
        "total_employees": 1200,
        "address": {"city": "Boston", "state": "MA"},
    }
    assert {name: body.get(name) for name in expected} == expected
    assert not body.keys() & {"float_shares", "beta", "avg_volume_30d"}
    await refused(gateway, "/api/v1/ticker/NOSUCH/metadata", 404, "UNKNOWN_SYMBOL")


async def test_bars(ticker: RunningTicker, gateway: httpx.AsyncClient) -> None:
    await insert(ticker.database, "aggregates_1min", bar("AAPL", OPEN, (1.0, 2.0, 0.5, 1.5), trades=3))
    body = await ok(gateway, "/api/v1/ticker/AAPL/bars?interval=5m&from=2026-03-10&to=2026-03-10")
    assert body == {
        "symbol": "AAPL",
        "interval": "5m",
        "bars": [
            {
                "time": "2026-03-10T13:30:00Z", "open": 1, "high": 2, "low": 0.5, "close": 1.5, "volume": 100,
                "trades": 3,
            }
        ],
        "count": 1,
    }  # fmt: skip
    assert await ok(gateway, "/api/v1/ticker/IDLE/bars") == {"symbol": "IDLE", "interval": "1m", "bars": [], "count": 0}
    assert (await ok(gateway, "/api/v1/ticker/AAPL/bars?limit=1"))["count"] == 1
    await refused(gateway, "/api/v1/ticker/AAPL/bars?limit=0", 400, "INVALID_LIMIT")
    await refused(gateway, "/api/v1/ticker/AAPL/bars?interval=7m", 400, "INVALID_REQUEST")
    await refused(gateway, "/api/v1/ticker/AAPL/bars?from=x", 400, "INVALID_DATE")
    await refused(gateway, "/api/v1/ticker/NOSUCH/bars", 404, "UNKNOWN_SYMBOL")


async def test_history_of_scans(ticker: RunningTicker, gateway: httpx.AsyncClient) -> None:
    # The scanner's own: an entry each, stored beside the lists.
    while not await ticker.database.fetchval("SELECT count(*) FROM scan_results WHERE list = 'gappers_up'"):
        await asyncio.sleep(POLL_SECONDS)
    body = await ok(gateway, "/api/v1/history/scans?date=2026-03-10&list=gappers_up&limit=1")
    assert body.keys() == {"date", "results", "count", "next_page_token"}
    (result,) = body["results"]
    assert (result["symbol"], result["list"], result["rank"]) == ("AAPL", "gappers_up", 1)
    assert result["session"] == "MARKET_OPEN"
    assert (result["is_entry"], result["price"], result["gap_percent"], result["volume_today"]) == (True, 104, 4, 100)
    token = body["next_page_token"]
    rest = await ok(gateway, f"/api/v1/history/scans?date=2026-03-10&list=gappers_up&page_token={token}")
    assert ([each["symbol"] for each in rest["results"]], rest["next_page_token"]) == (["BAC/WS"], "")
    assert (await ok(gateway, "/api/v1/history/scans?date=2026-03-09"))["results"] == []
    await refused(gateway, "/api/v1/history/scans?limit=0", 400, "INVALID_LIMIT")
    await refused(gateway, "/api/v1/history/scans?limit=x", 400, "INVALID_REQUEST")
    await refused(gateway, "/api/v1/history/scans?list=nope", 404, "UNKNOWN_LIST")
    await refused(gateway, "/api/v1/history/scans?date=2026-13-01", 400, "INVALID_DATE")


async def test_filters(gateway: httpx.AsyncClient) -> None:
    body = await ok(gateway, "/api/v1/filters")
    assert [each["name"] for each in body["filters"]] == [
        "price_range", "volume_min", "volume_min_premarket", "rvol_high",
    ]  # fmt: skip
    assert body["filters"][0]["parameters"] == {"min_price": 1}
    made = await ok(
        gateway,
        "/api/v1/filters",
        "POST",
        json={"name": "tech", "parameters": {"sectors": ["Technology"], "min_rvol": 2}},
    )
    assert (made["name"], made["enabled"], made["priority"]) == ("tech", True, 100)
    assert made["parameters"] == {"sectors": ["Technology"], "min_rvol": 2}
    assert datetime.fromisoformat(made["updated_at"]).tzinfo is not None
    path = "/api/v1/filters/tech"
    changed = await ok(gateway, path, "PATCH", json={"enabled": False})
    assert changed == {**made, "enabled": False, "updated_at": changed["updated_at"]}
    changed = await ok(gateway, path, "PATCH", json={"parameters": {"min_rvol": None, "min_price": 2}})
    assert changed["parameters"] == {"sectors": ["Technology"], "min_price": 2}
    assert changed["enabled"] is False
    assert await ok(gateway, path) == changed
    # A page of another origin may send forms unasked: only JSON is taken.
    form = {"content-type": "application/x-www-form-urlencoded"}
    await refused(gateway, path, 415, "JSON_EXPECTED", "PATCH", content='{"priority": 7}', headers=form)
    json = {"content-type": "application/json"}
    assert (await ok(gateway, path, "PATCH", content='{"priority": 7}', headers=json))["priority"] == 7
    assert await ok(gateway, path, "DELETE") == {}
    await refused(gateway, path, 404, "UNKNOWN_FILTER")
    await refused(gateway, path, 404, "UNKNOWN_FILTER", "DELETE")
    await refused(gateway, path, 404, "UNKNOWN_FILTER", "PATCH", json={"enabled": True})


async def test_filter_refusals(gateway: httpx.AsyncClient) -> None:
    path = "/api/v1/filters"
    await refused(gateway, path, 409, "FILTER_EXISTS", "POST", json={"name": "price_range", "parameters": {}})
    said = await refused(
        gateway, path, 400, "INVALID_FILTER", "POST", json={"name": "x", "parameters": {"min_prize": 1}}
    )
    assert "min_prize" in said and "min_price" in said
    await refused(gateway, path, 400, "INVALID_REQUEST", "POST", json={"name": "Not A Name", "parameters": {}})
    await refused(gateway, path, 400, "INVALID_REQUEST", "POST", json={"name": "x", "params": {"min_price": 1}})
    json = {"content-type": "application/json"}
    await refused(gateway, path, 400, "INVALID_REQUEST", "POST", content="{not json", headers=json)
    await refused(gateway, path, 415, "JSON_EXPECTED", "POST", content="{not json")
    await refused(gateway, f"{path}/price_range", 400, "INVALID_REQUEST", "PATCH", json={"priority": "first"})
    await refused(gateway, f"{path}/price_range", 400, "INVALID_REQUEST", "PATCH", json={"enable": False})


async def test_alert_rules_are_created_changed_switched_and_deleted(gateway: httpx.AsyncClient) -> None:
    path = "/api/v1/alerts/rules"
    rule = {"name": "mine", "title": "Mine", "when": "grows(high)", "sessions": ["MARKET_OPEN"], "min_quality": 2}
    made = await ok(gateway, path, "POST", json={"rule": rule | {"quality": "rvol"}})
    assert (made["enabled"], made["shipped"], made["rule"]["version"]) == (True, False, 1)
    assert (made["rule"]["sessions"], made["rule"]["min_quality"]) == (["MARKET_OPEN"], 2)
    assert datetime.fromisoformat(made["updated_at"]).tzinfo is not None
    changed = await ok(gateway, f"{path}/mine", "PATCH", json={"rule": {**made["rule"], "where": "price > 1"}})
    assert changed["rule"] == {**made["rule"], "where": "price > 1", "version": 2}
    await refused(gateway, f"{path}/mine", 409, "ALERT_RULE_CHANGED", "PATCH", json={"rule": made["rule"]})
    assert (await ok(gateway, f"{path}/mine", "PATCH", json={"enabled": False}))["enabled"] is False
    await refused(gateway, path, 409, "ALERT_RULE_EXISTS", "POST", json={"rule": rule | {"quality": "rvol"}})
    said = await refused(gateway, path, 400, "INVALID_ALERT_RULE", "POST", json={"rule": rule | {"when": "grow(high)"}})
    assert "when: " in said and "position 0" in said and "grows" in said
    said = await refused(gateway, path, 400, "INVALID_REQUEST", "POST", json={"rule": {"wen": "grows(high)"}})
    assert "rule.wen" in said and "when" in said
    assert await ok(gateway, f"{path}/mine", "DELETE") == {}
    await refused(gateway, f"{path}/mine", 404, "UNKNOWN_ALERT_RULE")
    shipped = await ok(gateway, f"{path}/high_of_day")
    assert (shipped["shipped"], shipped["enabled"], shipped["rule"]["version"]) == (True, True, 0)
    await refused(gateway, f"{path}/high_of_day", 403, "ALERT_RULE_SHIPPED", "DELETE")


async def test_browsers_of_the_dashboard_may_change_filters(gateway: httpx.AsyncClient) -> None:
    headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "PATCH"}
    answer = await gateway.options("/api/v1/filters/price_range", headers=headers)
    assert answer.status_code == 200
    assert {"PATCH", "DELETE"} <= {each.strip() for each in answer.headers["access-control-allow-methods"].split(",")}
