"""What the gateway refuses, and how it says so. Nothing here changes what is behind it: there is one for all tests."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
import pytest_asyncio
from tradeul.v1 import scanner_pb2, scanner_pb2_grpc

from services.kit.runtime import errors
from tests.support.behind_gateway import ORIGIN, behind_gateway, check_error
from tests.support.gateway import Gateway
from tests.support.raw_http2 import DATA, HEADERS, RawHttp2

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json; charset=utf-8"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with behind_gateway(tmp_path_factory.mktemp("gateway")) as behind, Gateway(behind.settings) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def gateway(opened: Gateway) -> AsyncIterator[Gateway]:
    """With connections of each test's own: some refusals end theirs."""
    await opened.client.aclose()
    opened.client = opened.new_client()
    yield opened


@pytest.mark.parametrize("wrong", ["5", "5/", "0/1", "5/4294967296", "5/7/9", "five/7", "-5/7"])
async def test_a_wrong_event_id_is_named(gateway: Gateway, wrong: str) -> None:
    path = "/api/v1/scanner/lists/filtered:watch"
    answer = await gateway.client.get(path, headers={"last-event-id": wrong, "accept": "text/event-stream"})
    body = check_error(answer, 400, errors.INVALID_POSITION)
    assert f"'{wrong}'" in body["message"]


@pytest.mark.parametrize(
    ("path", "status", "reason", "words"),
    [
        ("/api/v1/scanner/lists/gapers_up", 404, errors.UNKNOWN_LIST, "'gappers_up'"),
        ("/api/v1/scanner/lists/gapers_up:watch", 404, errors.UNKNOWN_LIST, "'gappers_up'"),
        ("/api/v1/scanner/lists/a%2Fb", 404, errors.UNKNOWN_LIST, "'a/b'"),
        ("/api/v1/scanner/lists/gappers_up?limit=501", 400, errors.INVALID_LIMIT, "1 to 500"),
        ("/api/v1/scanner/scans:watch?filter=prize>1", 400, errors.INVALID_FILTER, "price"),
        ("/api/v1/scanner/lists/winners?fields=rvoll", 400, errors.INVALID_FIELDS, "'rvol'"),
        ("/api/v1/scanner/lists/winners:watch?fields=price,,rvol", 400, errors.INVALID_FIELDS, "''"),
        (
            "/api/v1/scanner/lists/winners?limit=many",
            400,
            errors.INVALID_REQUEST,
            "limit: expected a whole number of 0",
        ),
        ("/api/v1/scanner/lists/winners?limit=-1", 400, errors.INVALID_REQUEST, "limit: expected a whole number of 0"),
        ("/api/v1/scanner/lists/winners?limit=4294967296", 400, errors.INVALID_REQUEST, 'was "4294967296"'),
        ("/api/v1/scanner/lists/winners?limit", 400, errors.INVALID_REQUEST, 'was ""'),
        ("/api/v1/scanner/lists/winners?limit=1&limit=2", 400, errors.INVALID_REQUEST, "limit: expected one value"),
        ("/api/v1/scanner/lists/winners?limti=2", 400, errors.INVALID_REQUEST, '"limti"; the nearest is "limit"'),
        ("/api/v1/scanner/lists/winners?list=losers", 400, errors.INVALID_REQUEST, 'no parameter "list"'),
        ("/api/v1/scanner/lists/winners?limit.x=2", 400, errors.INVALID_REQUEST, 'no parameter "limit.x"'),
        ("/api/v1/scanner/lists/?limit=2", 400, errors.INVALID_REQUEST, "this route has none"),
        ("/api/v1/scanner/gappers?min_gap=0x10", 400, errors.INVALID_REQUEST, "min_gap: expected a number"),
        ("/api/v1/scanner/gappers?min_gap=1e999", 400, errors.INVALID_REQUEST, "min_gap: expected a number"),
        ("/api/v1/scanner/gappers?m%C3%A9" + "%C3%A9" * 60, 400, errors.INVALID_REQUEST, "é..."),
        ("/api/v1/ticker/%00", 400, errors.INVALID_REQUEST, "path_normalization_failed"),
        ("/api/v1/scanner/lists/winners?colour=red", 400, errors.INVALID_REQUEST, '"colour"'),
        ("/api/v1/scanner/lists/winners:watch?colour=red", 400, errors.INVALID_REQUEST, '"colour"'),
        ("/api/session/current?colour=red", 400, errors.INVALID_REQUEST, '"colour"'),
        ("/health?colour=red", 400, errors.INVALID_REQUEST, '"colour"'),
        ("/api/v1/nothing", 404, errors.UNKNOWN_ROUTE, "GET /api/v1/nothing"),
        ("/nothing", 404, errors.UNKNOWN_ROUTE, "GET /nothing"),
        ("/api/v1/scanner/scans:query", 405, errors.METHOD_NOT_ALLOWED, "GET is not a method of"),
        # Empty is no value of what has a form or is one of a set.
        ("/api/v1/scanner/lists/winners?fields=", 400, errors.INVALID_REQUEST, 'fields: expected a value, was ""'),
        ("/api/v1/scanner/changes?symbol=&list=winners", 400, errors.INVALID_REQUEST, "symbol: expected a value"),
        ("/api/v1/scanner/changes?list", 400, errors.INVALID_REQUEST, "list: expected a value"),
        ("/api/v1/history/scans?date=", 400, errors.INVALID_REQUEST, "date: expected a value"),
    ],
)
async def test_wrong_requests(gateway: Gateway, path: str, status: int, reason: errors.Reason, words: str) -> None:
    body = check_error(await gateway.client.get(path), status, reason)
    assert words in body["message"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"filter": ', "expected JSON in the body"),
        (b"[1]", "expected a JSON object in the body, was [1]"),
        (b'{"filter": 3}', "filter: expected a text, was 3"),
        (b"\xff\xfe", "expected JSON in the body"),
        (b'{"limit": -1}', "limit: expected a whole number"),
        (b'{"fliter": "price > 1"}', "'fliter'; the nearest is 'filter'"),
    ],
)
async def test_wrong_bodies(gateway: Gateway, content: bytes, words: str) -> None:
    answer = await gateway.client.post("/api/v1/scanner/scans:query", content=content, headers=JSON)
    assert words in check_error(answer, 400, errors.INVALID_REQUEST)["message"]
    in_query = await gateway.client.post("/api/v1/scanner/scans:query?limit=3", json={})
    assert "this route has none" in check_error(in_query, 400, errors.INVALID_REQUEST)["message"]


async def test_both_spellings_of_a_parameter(gateway: Gateway) -> None:
    """As protobuf's JSON mapping has it, and as some clients send it."""
    for name in ("min_gap", "minGap", "min%5Fgap"):
        assert (await gateway.client.get(f"/api/v1/scanner/gappers?{name}=1e3&limit=5")).json()["count"] == 0


async def test_rest_shows_nothing_of_grpc(gateway: Gateway) -> None:
    answers = [
        await gateway.client.get(path) for path in ("/health", "/api/v1/scanner/status", "/api/v1/scanner/lists/x")
    ]
    answers.append(await gateway.client.post("/api/v1/scanner/scans:query", json={"limit": 1}))
    assert not [name for answer in answers for name in answer.headers if name.startswith("grpc")]


@pytest.mark.parametrize(
    ("request_line", "headers", "status"),
    [
        ("GET / HTTP/1.0", (), 426),
        ("GET /health HTTP/1.1", (), 400),
        ("GET /health HTTP/1.1", ("host: localhost", "x_y: 1"), 400),
        ("GET /health HTTP/1.1", ("host: localhost", "content-length: x"), 400),
        ("NONSENSE", (), 400),
        ("FOO /health HTTP/1.1", ("host: localhost",), 400),
    ],
)
async def test_what_is_no_http_has_a_message(
    gateway: Gateway, request_line: str, headers: tuple[str, ...], status: int
) -> None:
    host, _, port = gateway.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write("\r\n".join((request_line, *headers, "", "")).encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    assert int(head.split()[1]) == status
    assert json.loads(body)["message"].startswith("expected ")
    assert json.loads(body)["details"][0]["reason"] == "INVALID_REQUEST"


async def test_too_large_requests(gateway: Gateway) -> None:
    content = b'{"filter": "' + b"x" * 70_000 + b'"}'
    answer = await gateway.client.post("/api/v1/scanner/scans:query", content=content, headers=JSON)
    check_error(answer, 413, errors.REQUEST_TOO_LARGE)
    answer = await gateway.client.get("/api/v1/scanner/status", headers={"x-long": "x" * 40_000})
    check_error(answer, 431, errors.REQUEST_TOO_LARGE)


async def filters_of(gateway: Gateway, **request: Any) -> httpx.Response:
    """An attempt to store a scanner filter."""
    return await gateway.client.post("/api/v1/filters", **request)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", None])
async def test_what_a_form_can_send_changes_nothing(gateway: Gateway, kind: str | None) -> None:
    headers = {} if kind is None else {"content-type": kind}
    body = check_error(await filters_of(gateway, content=b'{"name": "a"}', headers=headers), 415, errors.JSON_EXPECTED)
    assert "expected content-type application/json" in body["message"]


@pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://localhost.elsewhere.example:3000"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/api/v1/filters"), ("DELETE", "/api/v1/filters/a")])
async def test_a_page_of_another_origin_changes_nothing(gateway: Gateway, origin: str, method: str, path: str) -> None:
    headers = {"origin": origin, "content-type": "application/json"}
    body = check_error(await gateway.client.request(method, path, headers=headers), 403, errors.ORIGIN_NOT_ALLOWED)
    assert "TRADEUL_CORS_ORIGINS" in body["message"]


@pytest.mark.parametrize("kind", ["application/grpc-web+proto", "application/grpc-web-text"])
async def test_grpc_web_of_another_origin_is_refused_alike(gateway: Gateway, kind: str) -> None:
    headers = {"origin": "https://elsewhere.example", "content-type": kind, "x-grpc-web": "1"}
    answer = await gateway.client.post("/tradeul.v1.FiltersService/DeleteFilter", content=bytes(5), headers=headers)
    body = check_error(answer, 403, errors.ORIGIN_NOT_ALLOWED)
    assert body["message"].startswith("a page of https://elsewhere.example may not do this")


async def test_pages_of_this_host_and_of_allowed_origins_may_write(gateway: Gateway) -> None:
    """They get through to the service, which is not there."""
    for origin in (ORIGIN, f"http://{gateway.address}", f"https://{gateway.address}"):
        check_error(await filters_of(gateway, json={}, headers={"origin": origin}), 503, errors.SERVICES_NOT_SERVING)
    check_error(await filters_of(gateway, json={}), 503, errors.SERVICES_NOT_SERVING)


async def test_a_page_that_is_not_allowed_is_told_before_it_sends(gateway: Gateway) -> None:
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "GET"}
    for path in ("/api/session/current", "/tradeul.v1.ScannerService/GetList", "/nothing"):
        answer = await gateway.client.options(path, headers=asked)
        body = check_error(answer, 403, errors.ORIGIN_NOT_ALLOWED)
        assert body["message"].startswith("a page of https://elsewhere.example may not do this")
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/nothing", "application/json"), ("/api/v1/filters", "text/plain"), ("/health", "application/json")],
)
async def test_a_refusal_over_http2_waits_for_the_body(gateway: Gateway, path: str, kind: str) -> None:
    """Before it, the response would end with a reset of the request, for which some clients drop the response."""
    host, _, port = gateway.address.partition(":")
    async with await RawHttp2.connect(host, int(port)) as connection:
        connection.headers(
            method="POST", scheme="http", path=path, authority="localhost", content_type=kind, content_length="2"
        )
        assert await connection.until_pong() == []
        connection.data(b"{}")
        answer = [*await connection.until_answered(), *await connection.until_pong()]
    assert {frame.kind for frame in answer} == {HEADERS, DATA}
    assert b"ErrorInfo" in b"".join(frame.payload for frame in answer)


@pytest.mark.parametrize("host", ["rebound.example", "localhost.rebound.example:8000", "127.0.0.1.rebound.example"])
async def test_only_the_hosts_that_the_operator_allows_are_answered(gateway: Gateway, host: str) -> None:
    for path in ("/api/session/current", "/openapi.json", "/ws/scanner", "/nothing"):
        answer = await gateway.client.get(path, headers={"host": host})
        body = check_error(answer, 421, errors.HOST_NOT_ALLOWED)
        assert body["message"].endswith(f"was {host}")
    assert (await gateway.client.get("/api/session/current", headers={"host": "localhost:9999"})).status_code == 200
    async with grpc.aio.insecure_channel(gateway.address, options=[("grpc.default_authority", host)]) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await scanner_pb2_grpc.ScannerServiceStub(channel).ListLists(scanner_pb2.ListListsRequest())
        assert refused.value.code() is not grpc.StatusCode.OK
        assert "TRADEUL_ALLOWED_HOSTS" in (refused.value.details() or "")


@pytest.mark.parametrize("hosts", [("localhost", "localhost"), ("localhost", "rebound.example"), ()])
async def test_one_host_is_named(gateway: Gateway, hosts: tuple[str, ...]) -> None:
    host, _, port = gateway.address.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = ["GET /api/session/current HTTP/1.1", *(f"host: {name}" for name in hosts), "", ""]
    writer.write("\r\n".join(lines).encode())
    assert (await reader.readline()).split()[1] in (b"400", b"421")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/api/session/current", "GET, HEAD, OPTIONS"),
        ("PUT", "/api/v1/filters", "GET, POST, HEAD, OPTIONS"),
        ("POST", "/api/v1/filters/tech", "GET, DELETE, PATCH, HEAD, OPTIONS"),
        ("GET", "/api/v1/scanner/scans:query", "POST, OPTIONS"),
        ("DELETE", "/api/v1/scanner/lists/gappers_up:watch", "GET, HEAD, OPTIONS"),
        # Without a content type, Envoy refuses this method before there is a route.
        ("QUERY", "/api/v1/scanner/scans:query", "POST, OPTIONS"),
        ("QUERY", "/api/v1/filters?limit=1", "GET, POST, HEAD, OPTIONS"),
        ("QUERY", "/health", "GET, HEAD, OPTIONS"),
        ("PROPFIND", "/health", "GET, HEAD, OPTIONS"),
        ("POST", "/ws/scanner", "GET, HEAD, OPTIONS"),
    ],
)
async def test_other_methods_of_a_path_are_named(gateway: Gateway, method: str, path: str, allow: str) -> None:
    answer = await gateway.client.request(method, path)
    body = check_error(answer, 405, errors.METHOD_NOT_ALLOWED)
    assert body["message"] == f"{method} is not a method of {path}"
    assert answer.headers["allow"] == allow
    options = await gateway.client.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, allow, b"")


@pytest.mark.parametrize("text", ["%ff", "%C3", "%C0%80", "%ED%A0%80", "%F4%90%80%80", "a%E2%82", "%E0%80%80x", "%80"])
@pytest.mark.parametrize("path", ["/api/v1/scanner/lists/{}", "/api/v1/scanner/scans:watch?filter={}"])
async def test_what_is_not_utf8_is_named(gateway: Gateway, path: str, text: str) -> None:
    body = check_error(await gateway.client.get(path.format(text)), 400, errors.INVALID_REQUEST)
    assert "UTF-8" in body["message"]


@pytest.mark.parametrize(
    "text", ["%C3%A9", "%E2%82%AC", "%F0%9F%98%80", "%ED%9F%BF", "%F4%8F%BF%BF", "%E0%A0%80", "5%25"]
)
async def test_what_is_utf8_is_passed_on(gateway: Gateway, text: str) -> None:
    check_error(await gateway.client.get(f"/api/v1/scanner/lists/{text}"), 404, errors.UNKNOWN_LIST)


@pytest.mark.parametrize("version", [{}, {"sec-websocket-version": "8"}])
async def test_another_websocket_version_is_told_ours(gateway: Gateway, version: dict[str, str]) -> None:
    upgrade = {"connection": "Upgrade", "upgrade": "websocket", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
    answer = await gateway.client.get("/ws/scanner", headers={**upgrade, **version})
    check_error(answer, 426, errors.INVALID_REQUEST)
    assert answer.headers["sec-websocket-version"] == "13"
    assert (answer.headers["upgrade"], answer.headers["connection"]) == ("websocket", "Upgrade")


async def test_a_request_for_no_websocket_is_refused(gateway: Gateway) -> None:
    """Not with 426, which needs the header `Upgrade`: Envoy passes that on only to who asked for an upgrade."""
    body = check_error(await gateway.client.get("/ws/scanner"), 400, errors.INVALID_REQUEST)
    assert body["message"] == "expected a WebSocket upgrade at /ws/scanner"


async def test_nothing_is_sniffed(gateway: Gateway) -> None:
    for path in ("/api/session/current", "/openapi.json", "/nothing"):
        assert (await gateway.client.get(path)).headers["x-content-type-options"] == "nosniff"
