"""The public gateway: the real Envoy in front of a real scanner, a session service and the health service."""

import asyncio
import base64
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from google.api import httpbody_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tradeul.v1 import (
    data_ingest_pb2,
    data_ingest_pb2_grpc,
    filters_pb2,
    filters_pb2_grpc,
    market_session_pb2,
    market_session_pb2_grpc,
    scanner_pb2,
    scanner_pb2_grpc,
)

from fastcore.alert_rules import AlertRule
from services.cli.local.gateway import admin_socket
from services.kit.lists.list_client import ListCopy, follow_list
from services.kit.rpc.server import MAX_REQUEST_BYTES
from services.kit.runtime import errors
from services.kit.runtime.packaged import GATEWAY_TEMPLATE, OPENAPI
from services.kit.runtime.settings import Address
from tests.support.behind_gateway import ORIGIN, SYMBOLS, Behind, behind_gateway, check_error
from tests.support.gateway import Gateway, gateway_settings
from tests.support.refusals import refusal
from tests.support.scripted_sequencer import POLL_SECONDS
from tests.support.tape import EPOCH


@pytest.fixture
async def behind(tmp_path: Path) -> AsyncIterator[Behind]:
    async with behind_gateway(tmp_path) as running:
        yield running


@pytest.fixture
async def gateway(behind: Behind) -> AsyncIterator[Gateway]:
    async with Gateway(behind.settings) as opened:
        yield opened


@pytest.fixture
async def channel(gateway: Gateway) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(gateway.address) as through:
        yield through


async def events(answer: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a stream of server-sent events."""
    assert answer.status_code == 200, await answer.aread()
    assert answer.headers["content-type"] == "text/event-stream"
    async for event in whole_events(answer):
        yield json.loads(event["data"])


async def whole_events(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """The events with all their fields, each of which is one line."""
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            field, value = line.split(": ", 1)
            assert field in ("id", "retry", "data")
            assert field not in event
            event[field] = value
        else:
            yield event
            event = {}


# --- answers


async def test_health(gateway: Gateway) -> None:
    async with asyncio.timeout(60):
        while (answer := await gateway.client.get("/health")).status_code != 200:
            await asyncio.sleep(POLL_SECONDS)
    body = answer.json()
    assert body["status"] == "healthy"
    assert body["services"]["scanner"] == "SERVING"


async def test_session(gateway: Gateway) -> None:
    for path in ("/api/session/current", "/api/v1/session/current"):
        body = (await gateway.client.get(path)).json()
        assert body["trading_date"] == "2026-03-10"
        # What is not set is shown all the same.
        assert (body["is_holiday"], body["seconds_until_next_session"]) == (False, 0)
    async with gateway.client.stream("GET", "/api/v1/session:watch") as answer:
        received = [event async for event in whole_events(answer)]
    assert [next(iter(json.loads(event["data"]))) for event in received] == ["opened", "session"]
    assert [event.get("retry") for event in received] == ["1000", None]


async def test_rows_have_numbers_bare_names_and_nothing_for_absent(gateway: Gateway) -> None:
    body = (await gateway.client.get("/api/v1/scanner/lists/gappers_up")).json()
    assert (body["list"], body["epoch"], body["sequence"], body["count"]) == ("gappers_up", EPOCH, 1, 1)
    assert body["timestamp"].endswith("Z")
    row = body["rows"][0]
    assert (row["symbol"], row["price"], row["volume_today"], row["rank"]) == ("S01", 105, 100, 1)
    assert (row["gap_size"], row["session"]) == ("LARGE", "MARKET_OPEN")
    assert "rvol" not in row
    assert "position_in_range" not in row
    # Known to be 0 is not absent.
    assert row["price_from_high"] == 0
    empty = (await gateway.client.get("/api/v1/scanner/lists/halts")).json()
    assert (empty["rows"], empty["count"]) == ([], 0)


async def test_every_unary_route(gateway: Gateway) -> None:
    gappers = (await gateway.client.get("/api/v1/scanner/gappers?min_gap=2&limit=5")).json()
    assert [row["symbol"] for row in gappers["gappers_up"]] == ["S01"]
    assert [row["symbol"] for row in gappers["gappers_down"]] == ["S02"]
    assert gappers["count"] == 2
    filtered = (await gateway.client.get("/api/v1/scanner/filtered?limit=2")).json()
    assert (len(filtered["tickers"]), filtered["count"]) == (2, 2)
    lists = (await gateway.client.get("/api/v1/scanner/lists")).json()["lists"]
    assert "halts" in [one["list"] for one in lists]
    fields = (await gateway.client.get("/api/v1/scanner/fields")).json()["fields"]
    assert "rvol" in [field["name"] for field in fields]
    status = (await gateway.client.get("/api/v1/scanner/status")).json()
    assert (status["session"], status["problem"]) == ("MARKET_OPEN", "")
    body = {"filter": "change_percent > 0", "order_by": "price", "limit": 1}
    answer = await gateway.client.post("/api/v1/scanner/scans:query", json=body)
    assert [row["symbol"] for row in answer.json()["rows"]] == ["S03"]
    check = "/api/v1/scanner/scans:check"
    matches = len(
        (await gateway.client.post("/api/v1/scanner/scans:query", json={"filter": "price > 0"})).json()["rows"]
    )
    answer = await gateway.client.post(check, json={"filter": "price > 0"})
    assert (answer.status_code, answer.json()) == (200, {"matches": matches})
    answer = await gateway.client.post(check, json={"filter": "price > 0", "order_by": "rvoll desc"})
    assert answer.status_code == 200
    assert answer.json() == {
        "mistake": {
            "reason": "INVALID_ORDER",
            "message": "unknown field 'rvoll' at position 0; did you mean \"rvol\"?",
            "position": 0,
            "suggestion": "rvol",
        }
    }
    answer = await gateway.client.post(check, json={"limit": 3})
    assert answer.status_code == 400


async def test_a_list_as_server_sent_events(behind: Behind, gateway: Gateway) -> None:
    async with gateway.client.stream("GET", "/api/v1/scanner/lists/filtered:watch?min_interval_ms=10") as answer:
        stream = events(answer)
        kinds = [next(iter(await anext(stream))) for _ in range(3)]
        assert kinds == ["opened", "snapshot", "current"]
        behind.sequencer.trade({"S04": 101.0})
        delta = (await anext(stream))["delta"]
    assert (delta["previous_sequence"], delta["sequence"], delta["change_count"]) == (1, 2, 1)
    assert delta["deltas"][0]["action"] == "ADD"
    assert delta["deltas"][0]["data"]["price"] == 101


async def test_events_have_the_position_from_which_they_are_resumed(behind: Behind, gateway: Gateway) -> None:
    path = "/api/v1/scanner/lists/filtered:watch"
    async with gateway.client.stream("GET", path) as answer:
        assert answer.headers["x-accel-buffering"] == "no"
        stream = whole_events(answer)
        opened, snapshot, current = [await anext(stream) for _ in range(3)]
        assert (opened["retry"], "id" in opened, "id" in current) == ("1000", False, False)
        assert snapshot["id"] == f"{EPOCH}/1"
        behind.sequencer.trade({"S04": 101.0})
        assert (await anext(stream))["id"] == f"{EPOCH}/2"
    behind.sequencer.trade({"S05": 101.0})
    await behind.until_applied()
    # An EventSource keeps the URL of its first request, and its position goes before that of the URL.
    resumed = {"last-event-id": f"{EPOCH}/2"}
    async with gateway.client.stream("GET", f"{path}?epoch={EPOCH}&sequence=1", headers=resumed) as answer:
        resuming = events(answer)
        first, delta, last = [await anext(resuming) for _ in range(3)]
        assert (delta["delta"]["previous_sequence"], delta["delta"]["sequence"]) == (2, 3)
        assert ("opened" in first, "current" in last) == (True, True)


async def test_alerts_as_pages_and_server_sent_events(behind: Behind, gateway: Gateway) -> None:
    api = "/api/v1/alerts"

    async def apply(*frames: bytes) -> None:
        behind.sequencer.send(*frames)
        await behind.until_applied()

    async def trade(price: float) -> None:
        await apply(behind.sequencer.tape.trades({"S01": price}), behind.sequencer.tape.watermark())

    await apply(behind.sequencer.tape.alert_rules(AlertRule("up", "Up", "grows(price)", text="up to {price}")))
    for price in (106.0, 107.0, 108.0):
        await trade(price)
    rules = (await gateway.client.get(f"{api}/rules")).json()
    assert (rules["count"], rules["rules"][0]["rule"]["name"], rules["rules"][0]["alerts_today"]) == (1, "up", 2)
    first = (await gateway.client.get(f"{api}?rules=up&symbol=s01&limit=1&filter=price > 1")).json()
    alert = first["alerts"][0]
    assert (alert["epoch"], alert["sequence"], alert["symbol"], alert["text"]) == (EPOCH, 2, "S01", "up to 108")
    assert (alert["row"]["price"], "quality" in alert, first["position"]["sequence"]) == (108, False, 2)
    rest = (await gateway.client.get(f"{api}?limit=1&page_token={first['next_page_token']}")).json()
    assert ([each["sequence"] for each in rest["alerts"]], rest["next_page_token"]) == ([1], "")
    check_error(await gateway.client.get(f"{api}?rules=upp"), 404, errors.UNKNOWN_ALERT_RULE)
    check_error(await gateway.client.get(f"{api}?limit=501"), 400, errors.INVALID_LIMIT)
    async with gateway.client.stream("GET", f"{api}:watch?filter=price > 108") as answer:
        stream = whole_events(answer)
        opened, current = await anext(stream), await anext(stream)
        assert (opened["retry"], "id" in opened, current["id"]) == ("1000", False, f"{EPOCH}/2")
        await trade(109.0)
        event = await anext(stream)
        assert (event["id"], json.loads(event["data"])["alert"]["text"]) == (f"{EPOCH}/3", "up to 109")
    await trade(110.0)
    resumed = {"last-event-id": f"{EPOCH}/3"}
    async with gateway.client.stream("GET", f"{api}:watch?epoch={EPOCH}&sequence=1", headers=resumed) as answer:
        resuming = events(answer)
        first, missed, last = [await anext(resuming) for _ in range(3)]
    assert ("opened" in first, missed["alert"]["sequence"], "current" in last) == (True, 4, True)


async def test_an_event_id_of_another_epoch_is_reset(gateway: Gateway) -> None:
    path = "/api/v1/scanner/lists/filtered:watch"
    async with gateway.client.stream("GET", path, headers={"last-event-id": "5/7"}) as answer:
        stream = whole_events(answer)
        _, reset, snapshot = [await anext(stream) for _ in range(3)]
        assert "id" not in reset
        assert "5/7" in json.loads(reset["data"])["reset"]["reason"]
        assert snapshot["id"] == f"{EPOCH}/1"


@pytest.mark.parametrize(
    "path",
    ["/api/v1/scanner/lists/filtered:watch?min_interval_ms=5", "/api/v1/scanner/scans:watch", "/api/v1/session:watch"],
)
async def test_an_event_source_reconnects_when_the_service_is_down(behind: Behind, gateway: Gateway, path: str) -> None:
    """It gives up at 503; others are told."""
    await behind.hosts["market_session" if "session" in path else "scanner"].stop()
    answer = await gateway.client.get(path, headers={"accept": "text/event-stream", "origin": ORIGIN})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
    assert answer.text == "retry: 1000\n\n"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    check_error(await gateway.client.get(path), 503, errors.SERVICES_NOT_SERVING)


async def test_an_event_source_waits_for_a_scanner_that_has_no_market(
    behind: Behind, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, accepts = "/api/v1/scanner/lists/filtered:watch", {"accept": "text/event-stream"}
    with monkeypatch.context() as patched:
        patched.setattr(behind.scanner.hub.core, "_market", None)
        check_error(await gateway.client.get(path), 503, errors.NOT_READY)
        answer = await gateway.client.get(path, headers=accepts)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
        assert answer.text == "retry: 1000\n\n"
    unknown = await gateway.client.get(path.replace("filtered", "no"), headers=accepts)
    check_error(unknown, 404, errors.UNKNOWN_LIST)


@pytest.mark.parametrize("space", ["%20", "+"])
async def test_an_own_list_as_server_sent_events(gateway: Gateway, space: str) -> None:
    query = "filter=price > 100 AND change_percent > 1%2B1&order_by=price desc&limit=5".replace(" ", space)
    async with gateway.client.stream("GET", f"/api/v1/scanner/scans:watch?{query}") as answer:
        stream = events(answer)
        await anext(stream)
        snapshot = (await anext(stream))["snapshot"]
    assert [row["symbol"] for row in snapshot["rows"]] == ["S01"]


async def test_selected_fields(behind: Behind, gateway: Gateway) -> None:
    """Rows have their rank, their symbol and these; positions, counts and ETags are those of the list."""
    path = "/api/v1/scanner"
    row = {"rank": 1, "symbol": "S01", "price": 105, "gap_percent": 5}
    whole = (await gateway.client.get(f"{path}/lists/gappers_up")).json()
    answer = await gateway.client.get(f"{path}/lists/gappers_up?fields=gap_percent,price")
    assert answer.json() == {**whole, "rows": [row]}
    etag = {"if-none-match": answer.headers["etag"]}
    assert (
        await gateway.client.get(f"{path}/lists/gappers_up?fields=price,gap_percent", headers=etag)
    ).status_code == 304
    other = await gateway.client.get(f"{path}/lists/gappers_up?fields=price", headers=etag)
    assert (other.status_code, other.json()["rows"]) == (200, [{"rank": 1, "symbol": "S01", "price": 105}])
    gappers = (await gateway.client.get(f"{path}/gappers?fields=gap_percent,price")).json()
    assert gappers["gappers_up"] == [row]
    assert gappers["gappers_down"] == [{"rank": 1, "symbol": "S02", "price": 92, "gap_percent": -8}]
    filtered = (await gateway.client.get(f"{path}/filtered?limit=1&fields=symbol")).json()
    assert [sorted(each) for each in filtered["tickers"]] == [["rank", "symbol"]]
    query = {"filter": "price > 101", "fields": " price,gap_percent"}
    assert (await gateway.client.post(f"{path}/scans:query", json=query)).json()["rows"] == [row]
    for stream_path in ("lists/gappers_up:watch?fields=price", "scans:watch?filter=price>101&fields=price"):
        async with gateway.client.stream("GET", f"{path}/{stream_path}") as stream:
            received = events(stream)
            _, snapshot, _ = [await anext(received) for _ in range(3)]
            assert snapshot["snapshot"]["rows"] == [{"rank": 1, "symbol": "S01", "price": 105}]
            behind.sequencer.trade({"S01": 106.0})
            change = (await anext(received))["delta"]["deltas"][0]
            assert (change["action"], change["data"]) == ("UPDATE", {"rank": 1, "symbol": "S01", "price": 106})
            behind.sequencer.trade({"S01": 105.0})
            await anext(received)


# --- services that are away


async def test_a_service_that_is_down(behind: Behind, gateway: Gateway) -> None:
    await behind.hosts["scanner"].stop()
    for path in ("/api/v1/scanner/status", "/api/v1/scanner/lists/winners:watch"):
        body = check_error(await gateway.client.get(path), 503, errors.SERVICES_NOT_SERVING)
        assert body["details"][0]["metadata"]["service"] == "scanner"
    async with asyncio.timeout(60):
        # What the others do it hears a moment later.
        while (answer := await gateway.client.get("/health")).status_code == 200 or (
            answer.json()["details"][0]["metadata"].get("market_session") != "SERVING"
        ):
            await asyncio.sleep(POLL_SECONDS)
    assert "scanner" in check_error(answer, 503, errors.SERVICES_NOT_SERVING)["message"]
    assert (await gateway.client.get("/api/session/current")).status_code == 200
    await behind.hosts["health"].stop()
    check_error(await gateway.client.get("/health"), 503, errors.SERVICES_NOT_SERVING)


# --- the same port in other protocols


async def test_grpc(behind: Behind, gateway: Gateway, channel: grpc.aio.Channel) -> None:
    stub = scanner_pb2_grpc.ScannerServiceStub(channel)
    answer = await stub.GetList(scanner_pb2.GetListRequest(list="gappers_up"))
    assert [row.symbol for row in answer.rows] == ["S01"]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetList(scanner_pb2.GetListRequest(list="gaper_up"))
    assert refusal(caught.value).reason == "UNKNOWN_LIST"
    health = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert health.status == health_pb2.HealthCheckResponse.SERVING
    copies = follow_list(gateway.address, scanner_pb2.WatchListRequest(list="filtered"))
    async with contextlib.aclosing(copies) as follower:
        async for copy in follower:
            if copy.is_current and copy.deltas == 0:
                behind.sequencer.trade({"S05": 102.0})
            elif copy.sequence == 2:
                break
    now = await stub.GetList(scanner_pb2.GetListRequest(list="filtered"))
    assert (now.sequence, list(now.rows)) == (copy.sequence, copy.rows())


async def test_what_is_not_public_is_unimplemented(gateway: Gateway, channel: grpc.aio.Channel) -> None:
    stub = data_ingest_pb2_grpc.DataIngestServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetSequencerStatus(data_ingest_pb2.GetSequencerStatusRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caught.value.details() == "there is no such method"
    assert refusal(caught.value).reason == "UNKNOWN_ROUTE"


async def test_the_gateways_own_refusals_are_complete_over_grpc(gateway: Gateway, channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await filters_pb2_grpc.FiltersServiceStub(channel).ListFilters(filters_pb2.ListFiltersRequest())
    away = "the service behind this method is not answering"
    assert refusal(caught.value)[:3] == (grpc.StatusCode.UNAVAILABLE, "SERVICES_NOT_SERVING", away)
    elsewhere = (("grpc.default_authority", "elsewhere.example"),)
    async with grpc.aio.insecure_channel(gateway.address, options=elsewhere) as other:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await list_named(other, 1)
    assert refusal(caught.value)[:2] == (grpc.StatusCode.PERMISSION_DENIED, "HOST_NOT_ALLOWED")
    assert "expected a host of TRADEUL_ALLOWED_HOSTS (localhost, " in refusal(caught.value).message


async def test_large_grpc_requests_are_refused_and_counted(gateway: Gateway, channel: grpc.aio.Channel) -> None:
    # A tag and a size of three bytes stand before the name.
    largest = MAX_REQUEST_BYTES - 4
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await list_named(channel, largest)
    assert refusal(caught.value).reason == "UNKNOWN_LIST"
    for size in (largest + 1, 4 * largest):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await list_named(channel, size)
        message = f"expected a request of at most {MAX_REQUEST_BYTES} bytes"
        assert refusal(caught.value)[:3] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE", message)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await (
                scanner_pb2_grpc.ScannerServiceStub(channel)
                .WatchList(scanner_pb2.WatchListRequest(list="x" * size))
                .read()
            )
        assert refusal(caught.value).reason == "REQUEST_TOO_LARGE"
    # A stream's requests pass on by one, and the service's library has no details.
    stub: Any = scanner_pb2_grpc.ScannerServiceStub(channel)
    stream = stub.SubscribeList()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.write(scanner_pb2.SubscribeListRequest(open=scanner_pb2.WatchListRequest(list="x" * 2 * largest)))
        await stream.read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with httpx.AsyncClient() as client:
        lines = (await client.get(f"http://{gateway.metrics}/stats/prometheus")).text.splitlines()
    counted = [line for line in lines if "downstream_rq_too_large{" in line and '"gateway"' in line]
    assert [float(line.split()[-1]) for line in counted] == [4.0]


async def test_large_answers_are_transcoded(tmp_path: Path) -> None:
    """Also where the request is awaited, whose limit is less."""
    content = json.dumps("x" * 4 * MAX_REQUEST_BYTES).encode()

    async def get_list(_: bytes, __: Any) -> bytes:
        return bytes(httpbody_pb2.HttpBody(content_type="application/json", data=content).SerializeToString())

    handlers = {"GetListJson": grpc.unary_unary_rpc_method_handler(get_list)}
    settings = gateway_settings(tmp_path)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tradeul.v1.ScannerService", handlers),))
    server.add_insecure_port(str(settings.address("scanner")))
    await server.start()
    try:
        async with Gateway(settings) as gateway:
            answer = await gateway.client.get("/api/v1/scanner/lists/filtered")
            assert (answer.status_code, answer.content) == (200, content)
    finally:
        await server.stop(0)


async def list_named(channel: grpc.aio.Channel, size: int) -> None:
    """A request for a list whose name has `size` letters."""
    await scanner_pb2_grpc.ScannerServiceStub(channel).GetList(scanner_pb2.GetListRequest(list="x" * size))


@pytest.mark.parametrize("text", [False, True])
async def test_grpc_web(gateway: Gateway, text: bool) -> None:
    request = scanner_pb2.GetListRequest(list="gappers_up").SerializeToString()
    content = b"\0" + len(request).to_bytes(4, "big") + request
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    answer = await gateway.client.post(
        "/tradeul.v1.ScannerService/GetList",
        content=base64.b64encode(content) if text else content,
        headers={"content-type": kind, "accept": kind, "x-grpc-web": "1", "origin": ORIGIN},
    )
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    body = answer.content
    if text:
        # Message and trailers are encoded each by itself.
        body = b"".join(base64.b64decode(part + b"=") for part in body.split(b"=") if part)
    size = int.from_bytes(body[1:5], "big")
    answered = scanner_pb2.RankedList.FromString(body[5 : 5 + size])
    assert [row.symbol for row in answered.rows] == ["S01"]
    assert b"grpc-status:0" in body[5 + size :]


@pytest.mark.parametrize("path", ["/api/v1/scanner/status", "/health", "/tradeul.v1.ScannerService/GetList"])
async def test_browsers_of_this_machine_may_ask(gateway: Gateway, path: str) -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "content-type,x-grpc-web"}
    answer = await gateway.client.options(path, headers={"origin": ORIGIN, **asked})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "x-grpc-web" in answer.headers["access-control-allow-headers"]
    other = await gateway.client.options(path, headers={"origin": "https://elsewhere.example", **asked})
    assert "access-control-allow-origin" not in other.headers


async def test_browsers_can_read_answers_and_refusals(gateway: Gateway) -> None:
    for path in (
        *("/api/session/current", "/api/v1/scanner/lists/gapers_up", "/api/v1/nothing"),
        *("/api/v1/scanner/lists/winners?limti=1", "/api/v1/scanner/lists/%ff", "/api/v1/scanner/gappers?min_gap=x"),
    ):
        answer = await gateway.client.get(path, headers={"origin": ORIGIN})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["cache-control"] == "no-store"
    for method, path in (("GET", "/nothing"), ("QUERY", "/health"), ("PUT", "/health"), ("POST", "/api/v1/filters")):
        answer = await gateway.client.request(method, path, headers={"origin": ORIGIN})
        assert answer.is_client_error
        assert answer.headers["access-control-allow-origin"] in (ORIGIN, "*")


async def test_the_openapi_document(gateway: Gateway) -> None:
    answer = await gateway.client.get("/openapi.json", headers={"origin": ORIGIN})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.content == OPENAPI.path().read_bytes()
    check_error(await gateway.client.post("/openapi.json", json={}), 405, errors.METHOD_NOT_ALLOWED)


# --- operation


async def test_the_access_log_and_the_admin_interface(behind: Behind, gateway: Gateway) -> None:
    await gateway.client.get("/api/v1/scanner/lists/gappers_up?limit=7")
    line = json.loads(await gateway.logged("limit=7"))
    assert (line["method"], line["path"]) == ("GET", "/api/v1/scanner/lists/gappers_up?limit=7")
    assert (line["status"], line["grpc_status"], line["upstream"]) == (200, "OK", "scanner")
    transport = httpx.AsyncHTTPTransport(uds=str(admin_socket(behind.settings)))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        dump = (await client.get("/listeners?format=json")).json()
        assert dump["listener_statuses"]
    assert "deprecated" not in gateway.log


async def test_a_web_page_cannot_end_the_gateway(gateway: Gateway) -> None:
    """The port that Prometheus reads answers nothing else, whatever a page of this machine's browser asks of it."""
    async with httpx.AsyncClient(base_url=f"http://{gateway.metrics}") as client:
        assert "envoy_http_downstream_rq" in (await client.get("/stats/prometheus")).text
        for method, path in (("POST", "/quitquitquit"), ("POST", "/stats/prometheus"), ("GET", "/config_dump")):
            assert (await client.request(method, path)).status_code == 404
        assert (await client.get("/ready", headers={"host": "rebound.example"})).status_code == 404
    assert (await gateway.client.get("/api/session/current")).status_code == 200


# --- what HTTP has for every answer


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/openapi.json",
        "/api/session/current",
        "/api/v1/scanner/lists/filtered?limit=2",
        "/api/v1/scanner/lists/no",
        "/api/v1/nothing",
        "/",
    ],
)
async def test_head_has_the_headers_of_get_and_no_body(gateway: Gateway, path: str) -> None:
    got, head = await gateway.client.get(path), await gateway.client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    for name in ("content-type", "etag", "cache-control"):
        assert head.headers.get(name) == got.headers.get(name)
    # The connection is in order: the next response is the next request's.
    assert (await gateway.client.get(path)).status_code == got.status_code


@pytest.mark.parametrize("path", ["/api/v1/scanner/lists/filtered:watch", "/api/v1/session:watch"])
async def test_head_of_a_stream_is_no_stream(behind: Behind, gateway: Gateway, path: str) -> None:
    head = await gateway.client.head(path)
    assert (head.status_code, head.headers["content-type"], head.content) == (200, "text/event-stream", b"")
    check_error(await gateway.client.get("/api/v1/nothing"), 404, errors.UNKNOWN_ROUTE)
    for list_name, status in (("filtered", 200), ("%66iltered", 200), ("gapers_up", 404)):
        head = await gateway.client.head(f"/api/v1/scanner/lists/{list_name}:watch")
        assert (head.status_code, head.content) == (status, b"")
    assert (await gateway.client.head(f"{path}?colour=red")).status_code == 400
    for query, status in (("filter=price%20%3E%201", 200), ("filter=prize%20%3E%201", 400), ("limit=0", 400)):
        head = await gateway.client.head(f"/api/v1/scanner/scans:watch?{query}")
        assert (head.status_code, head.content) == (status, b"")
    async with asyncio.timeout(60):
        while behind.scanner.hub.subscribers:
            await asyncio.sleep(POLL_SECONDS)


async def test_headers_that_metadata_cannot_be_are_not_passed_on(gateway: Gateway) -> None:
    for name in ("x-a$", "x!", "|", "x-trace-bin"):
        assert (await gateway.client.get("/api/v1/scanner/status", headers={name: "!!!"})).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "zstd", "br"])
async def test_large_json_is_compressed(gateway: Gateway, coding: str) -> None:
    accepts = {"accept-encoding": coding}
    async with gateway.client.stream("GET", "/openapi.json", headers=accepts) as answer:
        assert answer.headers["content-encoding"] == coding
        raw = b"".join([chunk async for chunk in answer.aiter_raw()])
    assert len(raw) < len(OPENAPI.path().read_bytes()) / 3
    small = await gateway.client.get("/api/session/current", headers=accepts)
    assert "content-encoding" not in small.headers
    async with gateway.client.stream("GET", "/api/v1/scanner/lists/filtered:watch", headers=accepts) as answer:
        assert "content-encoding" not in answer.headers
        assert "opened" in await anext(events(answer))
    # As browsers do, which have no preference.
    async with gateway.client.stream(
        "GET", "/openapi.json", headers={"accept-encoding": "gzip, deflate, br, zstd"}
    ) as answer:
        assert answer.headers["content-encoding"] == "zstd"
    plain = await gateway.client.get("/openapi.json", headers={"accept-encoding": "identity"})
    assert ("content-encoding" in plain.headers, plain.content) == (False, OPENAPI.path().read_bytes())


@pytest.mark.parametrize("path", ["lists/filtered", "lists/gappers_up?limit=1", "gappers", "filtered?limit=3"])
async def test_what_a_client_has_already_is_304(behind: Behind, gateway: Gateway, path: str) -> None:
    path = f"/api/v1/scanner/{path}"
    first = await gateway.client.get(path)
    etag = first.headers["etag"]
    assert (etag[:3], first.headers["cache-control"]) == ('W/"', "no-cache")
    for known in (etag, etag.removeprefix("W/"), f'"other", {etag}', "*"):
        for ask in (gateway.client.get, gateway.client.head):
            again = await ask(path, headers={"if-none-match": known})
            assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert (await gateway.client.get(path, headers={"if-none-match": '"other"'})).content == first.content
    behind.sequencer.trade({"S01": 150.0, "S02": 80.0})
    await behind.until_applied()
    after = await gateway.client.get(path, headers={"if-none-match": etag})
    assert (after.status_code, after.headers["etag"] != etag) == (200, True)


async def test_the_same_rows_at_a_later_position_are_304(behind: Behind, gateway: Gateway) -> None:
    path = "/api/v1/scanner/lists/halts"
    first = await gateway.client.get(path)
    behind.sequencer.trade({"S01": 150.0})
    await behind.until_applied()
    assert (await gateway.client.get(path)).json()["position"] != first.json()["position"]
    again = await gateway.client.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["lists/halts", "gappers", "filtered"])
async def test_a_list_says_how_long_nothing_has_come(behind: Behind, gateway: Gateway, path: str) -> None:
    path = f"/api/v1/scanner/{path}"
    first = await gateway.client.get(path)
    assert first.json()["stale_seconds"] == 0
    behind.sequencer.status.stale_seconds = 21.5
    try:
        async with asyncio.timeout(60):
            while (await gateway.client.get(path)).json()["stale_seconds"] != 21.5:
                await asyncio.sleep(0.1)
        # Nothing else has changed.
        again = await gateway.client.get(path, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.json() | {"stale_seconds": 0}) == (200, first.json())
    finally:
        behind.sequencer.status.stale_seconds = 0


async def test_a_body_that_takes_its_time_is_not_waited_for(behind: Behind) -> None:
    template = GATEWAY_TEMPLATE.path().read_text()
    limited = template.replace("{ max_stream_duration: 30s }", "{ max_stream_duration: 0.5s }")
    assert limited != template
    async with Gateway(behind.settings, limited) as gateway:
        host, _, port = gateway.address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        lines = ("POST /api/v1/scanner/scans:query HTTP/1.1", "host: localhost", "content-length: 1000")
        writer.write("\r\n".join((*lines, "content-type: application/json", "", "{")).encode())
        async with asyncio.timeout(60):
            answer = await reader.read(4096)
        head, _, body = answer.partition(b"\r\n\r\n")
        assert int(head.split()[1]) in (408, 504)
        assert json.loads(body)["details"][0]["reason"] == "TIMED_OUT"
        writer.close()
        await writer.wait_closed()
        # A stream is as long as its client wants.
        async with gateway.client.stream("GET", "/api/v1/scanner/lists/filtered:watch") as stream:
            assert stream.status_code == 200
            received = aiter(stream.aiter_lines())
            began = asyncio.get_running_loop().time()
            while asyncio.get_running_loop().time() < began + 1:
                behind.sequencer.trade({"S01": 105.0 + asyncio.get_running_loop().time() % 1})
                await anext(received)


async def test_a_service_that_hangs_is_not_waited_for(behind: Behind) -> None:
    template = GATEWAY_TEMPLATE.path().read_text()
    limited = template.replace("per_try_timeout: 15s", "per_try_timeout: 0.5s")
    assert limited != template
    writers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
    address = Address("127.0.0.1", silent.sockets[0].getsockname()[1])
    settings = behind.settings.model_copy(
        update={"addresses": {**behind.settings.addresses, "market_session": address}}
    )
    async with silent, Gateway(settings, limited) as gateway:
        body = check_error(await gateway.client.get("/api/v1/session/current"), 504, errors.TIMED_OUT)
        assert body["message"] == "the service behind this route did not answer in time"
        assert body["details"][0]["metadata"] == {"service": "market_session"}
        async with grpc.aio.insecure_channel(gateway.address) as channel:
            stub = market_session_pb2_grpc.MarketSessionServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stub.GetCurrentSession(market_session_pb2.GetCurrentSessionRequest())
            late = "the service behind this method did not answer in time"
            assert refusal(caught.value)[:3] == (grpc.StatusCode.DEADLINE_EXCEEDED, "TIMED_OUT", late)
    for writer in writers:
        writer.close()


async def test_one_that_does_not_read_holds_up_nobody(behind: Behind, gateway: Gateway) -> None:
    """All streams share the gateway's connection to the scanner: a client that stands still must not fill it."""
    path = "/api/v1/scanner/lists/filtered:watch"
    host, _, port = gateway.address.partition(":")
    stuck = socket.socket()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stuck.connect((host, int(port)))
    stuck.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
    with contextlib.closing(stuck):
        async with gateway.client.stream("GET", path) as answer:
            copy, stream = ListCopy(), events(answer)
            hub = behind.scanner.hub
            while hub.subscribers != 2:
                await asyncio.sleep(POLL_SECONDS)
            step = 0
            while hub.slow_subscribers == 0 or copy.sequence < 40:
                step += 1
                prices = {symbol: 100.0 + step % 50 + i for i, symbol in enumerate(SYMBOLS)}
                behind.sequencer.trade(prices, seconds=0.01)
                while copy.sequence != step + 1:
                    kind, event = next(iter((await anext(stream)).items()))
                    copy.sequence = event.get("sequence", copy.sequence)
                    assert kind != "reset"
            assert hub.slow_subscribers == 1
