"""The older system's REST (its gateway at :8000): endpoints, parameters, defaults and the names of every answer.

What the ticker service answers in detail is in test_ticker_contract.py.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.modules import GATEWAY_NEEDS
from tests.support.mesh import Mesh

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

SESSIONS = {"PRE_MARKET", "MARKET_OPEN", "POST_MARKET", "CLOSED"}
FILTERED = "/api/v1/scanner/filtered"
TIME_OF_DAY = re.compile(r"\d\d:\d\d:\d\d")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[httpx.AsyncClient]:
    environment = {"TRADEUL_SIM_SYMBOLS": "300", "TRADEUL_SIM_START": "2026-03-10T09:45:00", "TRADEUL_SIM_SEED": "3"}
    async with (
        Mesh(tmp_path_factory.mktemp("mesh"), environment) as mesh,
        httpx.AsyncClient(base_url=mesh.url, timeout=20) as client,
    ):
        await mesh.until_time_is_known()
        yield client


async def ok(gateway: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await gateway.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    body: dict[str, Any] = answer.json()
    return body


async def once(gateway: httpx.AsyncClient, path: str, name: str) -> dict[str, Any]:
    """The answer once its list `name` has rows."""
    async with asyncio.timeout(60):
        while not (body := await ok(gateway, path))[name]:
            await asyncio.sleep(0.1)
    return body


def check_row(row: dict[str, Any]) -> None:
    assert isinstance(row["symbol"], str)
    for name in ("price", "volume_today", "change_percent", "gap_percent"):
        assert isinstance(row[name], int | float), name
    assert row["session"] in SESSIONS
    assert datetime.fromisoformat(row["updated_at"]).tzinfo is not None
    assert None not in row.values()


async def company(gateway: httpx.AsyncClient) -> dict[str, Any]:
    """The first row with all of its reference data, which comes a while after trades; a fund has no sector."""
    async with asyncio.timeout(60):
        while True:
            for row in (await ok(gateway, FILTERED))["tickers"]:
                if row.keys() >= {"sector", "market_cap", "change_percent"}:
                    found: dict[str, Any] = row
                    return found
            await asyncio.sleep(0.1)


async def refused(gateway: httpx.AsyncClient, path: str, status: int) -> None:
    answer = await gateway.get(path)
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"code", "message", "details"}


async def test_health(gateway: httpx.AsyncClient) -> None:
    body = await ok(gateway, "/health")
    assert body["status"] == "healthy"
    assert {"scanner", "market_session"} <= body["services"].keys()
    assert {body["services"][name] for name in GATEWAY_NEEDS} == {"SERVING"}


@pytest.mark.parametrize("path", ["/api/session/current", "/api/v1/session/current"])
async def test_current_session(gateway: httpx.AsyncClient, path: str) -> None:
    body = await ok(gateway, path)
    assert body.keys() == {
        "current_session", "trading_date", "is_trading_day", "is_holiday", "is_early_close", "pre_market_start",
        "market_open", "market_close", "post_market_end", "next_session", "seconds_until_next_session",
    }  # fmt: skip
    assert (body["current_session"], body["next_session"]) == ("MARKET_OPEN", "POST_MARKET")
    assert (body["trading_date"], body["is_trading_day"], body["is_holiday"]) == ("2026-03-10", True, False)
    for name in ("pre_market_start", "market_open", "market_close", "post_market_end"):
        assert TIME_OF_DAY.fullmatch(body[name]), name
    assert isinstance(body["seconds_until_next_session"], int | float)


async def test_gappers(gateway: httpx.AsyncClient) -> None:
    body = await once(gateway, "/api/v1/scanner/gappers", "gappers_up")
    assert body.keys() == {"gappers_up", "gappers_down", "count", "timestamp", "position", "stale_seconds"}
    assert body["count"] == len(body["gappers_up"]) + len(body["gappers_down"])
    assert body["position"].keys() == {"epoch", "sequence"}
    assert datetime.fromisoformat(body["timestamp"]).tzinfo is not None
    # min_gap is 4 when it is left out.
    assert min(row["gap_percent"] for row in body["gappers_up"]) >= 4
    assert all(row["gap_percent"] <= -4 for row in body["gappers_down"])
    check_row(body["gappers_up"][0])
    some = await ok(gateway, "/api/v1/scanner/gappers?min_gap=2&limit=1")
    assert [len(some["gappers_up"]), len(some["gappers_down"])] <= [1, 1]
    assert (await ok(gateway, "/api/v1/scanner/gappers?min_gap=1000"))["count"] == 0
    for wrong in ("min_gap=-1", "min_gap=x", "limit=0", "limit=501", "gap=4"):
        await refused(gateway, f"/api/v1/scanner/gappers?{wrong}", 400)


async def test_filtered(gateway: httpx.AsyncClient) -> None:
    body = await once(gateway, FILTERED, "tickers")
    assert body.keys() == {"tickers", "count", "timestamp", "stale_seconds"}
    # limit is 100 when it is left out.
    assert body["count"] == len(body["tickers"]) <= 100
    scores = [row["score"] for row in body["tickers"] if "score" in row]
    assert scores == sorted(scores, reverse=True)
    check_row(body["tickers"][0])
    assert (await ok(gateway, "/api/v1/scanner/filtered?limit=1"))["count"] == 1
    assert (await ok(gateway, "/api/v1/scanner/filtered?limit=1000"))["count"] >= body["count"]
    for wrong in ("0", "1001", "-1", "x", "1.5"):
        await refused(gateway, f"/api/v1/scanner/filtered?limit={wrong}", 400)


async def test_one_symbol(gateway: httpx.AsyncClient) -> None:
    symbol = (await company(gateway))["symbol"]
    row = await ok(gateway, f"/api/v1/ticker/{symbol}")
    check_row(row)
    assert "rank" not in row
    metadata = await ok(gateway, f"/api/v1/ticker/{symbol}/metadata")
    assert {"company_name", "exchange", "sector", "industry", "is_etf", "is_actively_trading"} <= metadata.keys()
    await refused(gateway, "/api/v1/ticker/NOSUCH", 404)
    await refused(gateway, "/api/v1/ticker/NOSUCH/metadata", 404)


async def test_log_of_the_lists(gateway: httpx.AsyncClient) -> None:
    page = await once(gateway, "/api/v1/scanner/changes?limit=1", "next_page_token")
    assert page.keys() == {"changes", "count", "next_page_token", "since"}
    assert page["count"] == len(page["changes"]) == 1
    for change in page["changes"]:
        assert change.keys() - {"rank", "change_percent"} == {"time", "list", "symbol", "action", "price", "sequence"}
        assert (change["action"] == "ENTER") == ("rank" in change)
        assert page["since"] <= change["time"]
    older = await ok(gateway, f"/api/v1/scanner/changes?page_token={page['next_page_token']}")
    assert all(each["time"] <= page["changes"][-1]["time"] for each in older["changes"])
    name, symbol = page["changes"][0]["list"], page["changes"][0]["symbol"]
    of_list = await ok(gateway, f"/api/v1/scanner/lists/{name}/changes")
    assert {each["list"] for each in of_list["changes"]} == {name}
    of_symbol = await ok(gateway, f"/api/v1/scanner/changes?symbol={symbol}")
    assert {each["symbol"] for each in of_symbol["changes"]} == {symbol}
    await refused(gateway, "/api/v1/scanner/lists/nothing/changes", 404)
    await refused(gateway, "/api/v1/scanner/changes?symbol=NOSUCH", 404)
    await refused(gateway, "/api/v1/scanner/changes?page_token=x", 400)


async def test_symbol_search(gateway: httpx.AsyncClient) -> None:
    row = await company(gateway)
    found = await ok(gateway, f"/api/v1/symbols?query={row['symbol'].lower()}")
    assert found.keys() == {"symbols", "count"}
    assert found["count"] == len(found["symbols"])
    first = found["symbols"][0]
    assert first.keys() == {
        "symbol", "company_name", "security_type", "exchange", "sector", "is_etf", "market_cap", "price",
        "change_percent", "volume_today",
    }  # fmt: skip
    assert (first["symbol"], first["company_name"]) == (row["symbol"], row["company_name"])
    by_name = await ok(gateway, f"/api/v1/symbols?query={first['company_name'].split()[0]}&limit=100")
    assert row["symbol"] in [each["symbol"] for each in by_name["symbols"]]
    assert (await ok(gateway, "/api/v1/symbols?query=nosuchsymbol"))["count"] == 0
    for wrong in ("", "?query=", "?query=a&limit=0", "?query=a&limit=101", f"?query={'a' * 101}"):
        await refused(gateway, f"/api/v1/symbols{wrong}", 400)


async def test_relative_volume(gateway: httpx.AsyncClient) -> None:
    symbol = (await once(gateway, FILTERED, "tickers"))["tickers"][0]["symbol"]
    async with asyncio.timeout(60):
        # The baselines come a while after the first trades.
        while "rvol" not in (body := await ok(gateway, f"/api/v1/rvol/{symbol}")):
            await asyncio.sleep(0.1)
    expected = {"rvol", "rvol_slot", "slot", "session", "volume_today", "baseline", "days", "updated_at"}
    assert expected <= body.keys()
    assert body["session"] == "MARKET_OPEN"
    await refused(gateway, "/api/v1/rvol/NOSUCH", 404)


async def test_scanner_filters(gateway: httpx.AsyncClient) -> None:
    new = {"name": "rest_contract", "enabled": False, "parameters": {"min_price": 2}}
    created = await gateway.post("/api/v1/filters", json=new)
    assert (created.status_code, created.json()["priority"]) == (200, 100)
    path = "/api/v1/filters/rest_contract"
    patched = await gateway.patch(
        path, json={"name": "rest_contract", "parameters": {"min_price": None, "max_price": 9}}
    )
    assert (patched.status_code, patched.json()["parameters"]) == (200, {"max_price": 9})
    for wrong, words in (
        ({"enable": True}, "'enabled'"),
        ({"name": "other"}, "of the path"),
        ({"priority": 1.5}, "priority"),
    ):
        answer = await gateway.patch(path, json=wrong)
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["message"]
    answer = await gateway.post("/api/v1/filters", json={**new, "name": "x", "parameter": {}})
    assert "'parameters'" in answer.json()["message"]
    assert (await gateway.delete(path)).json() == {}
    await refused(gateway, path, 404)


@pytest.mark.parametrize("path", ["/api/v1/scanner/filtered", "/api/session/current", "/health", "/api/v1/ticker/AAPL"])
async def test_unknown_parameters_and_routes(gateway: httpx.AsyncClient, path: str) -> None:
    await refused(gateway, f"{path}?colour=red", 400)
    await refused(gateway, f"{path}/nothing/here", 404)
