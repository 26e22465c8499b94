"""Keys at the gateway: the real Envoy, the access service and PostgreSQL, before services that answer everything."""

import asyncio
import contextlib
import functools
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import grpc.aio
import pytest
from tradeul.v1 import rights_pb2, scanner_pb2

from services.access import key_store
from services.access.methods import Right
from services.access.metrics import STORE_FAILURES
from services.access.service import AccessService
from services.cli.local.embedded import postgres_spec, postgres_url
from services.cli.local.supervisor import Supervisor
from services.kit.lists.list_client import follow_list
from services.kit.rpc.key_streams import NAME_HEADER
from services.kit.rpc.server import Host
from services.kit.runtime.errors import StartError
from services.kit.runtime.lifecycle import State
from services.kit.stores.database import open_pool
from services.kit.stores.migrate import migrate
from tests.support.gateway import gateway_settings
from tests.support.guarded import (
    PATIENCE_SECONDS,
    WEBSOCKET,
    WS_PATH,
    Guarded,
    check_refusal,
    guarded_gateway,
    is_behind,
    reason_of,
)
from tests.support.stores import Stores, module_stores
from tools.rightsdoc import methods

METHODS = list(methods())
KEYS = (None, Right.READ, Right.ADMIN)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    with module_stores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def guarded(stores: Stores, tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarded_gateway(stores, tmp_path) as running:
        yield running


def expected(needed: int, held: Right | None) -> str:
    """The reason of the refusal that the protos' option wants; empty where the request is allowed."""
    if needed == rights_pb2.RIGHT_PUBLIC or (held is not None and held >= needed):
        return ""
    return "KEY_EXPECTED" if held is None else "INSUFFICIENT_RIGHT"


CODE_OF = {"KEY_EXPECTED": grpc.StatusCode.UNAUTHENTICATED, "INSUFFICIENT_RIGHT": grpc.StatusCode.PERMISSION_DENIED}
HTTP_OF = {"KEY_EXPECTED": 401, "INSUFFICIENT_RIGHT": 403}


@pytest.mark.parametrize("web", [False, True], ids=["grpc", "grpc-web"])
async def test_every_method_by_grpc(guarded: Guarded, web: bool) -> None:
    """What the option says is what happens, with no key, a read key and an admin key."""
    call = guarded.grpc_web_call if web else guarded.grpc_call
    allowed = 0
    for method in METHODS:
        for held in KEYS:
            guarded.echo.received.clear()
            code, status = await call(method.path, guarded.headers(held))
            refusal = expected(method.right, held)
            if refusal:
                assert (code, reason_of(status)) == (CODE_OF[refusal], refusal), (method.path, held)
                assert not guarded.echo.received
            elif is_behind(method.path):
                assert code is grpc.StatusCode.OK, (method.path, held, status)
                assert guarded.echo.received == {method.path: 1}
            elif "AccessService" in method.path:
                assert code is grpc.StatusCode.OK, (method.path, held, status)
            else:
                # Within the mesh only: the gateway has no route to it.
                assert code is grpc.StatusCode.UNIMPLEMENTED, (method.path, held, status)
                assert not guarded.echo.received
            allowed += not refusal
    assert allowed > len(METHODS)


async def test_every_route_by_rest(guarded: Guarded) -> None:
    client = guarded.gateway.client
    routes = [(method, route) for method in METHODS for route in method.routes]
    assert len(routes) > 20
    for method, route in routes:
        verb, path = re.sub(r"\{\w+\}", "x", route).split(" ")
        for held in KEYS:
            guarded.echo.received.clear()
            body: dict[str, Any] | None = {} if verb in ("POST", "PATCH", "PUT") else None
            answer = await client.request(verb, path, json=body, headers=guarded.headers(held))
            if not (refusal := expected(method.right, held)):
                assert answer.status_code == 200, (verb, path, held, answer.text)
                assert "AccessService" in method.path or guarded.echo.received == {method.path: 1}
                continue
            check_refusal(answer, HTTP_OF[refusal], refusal)
            assert not guarded.echo.received, (verb, path, held)


async def test_the_websocket_and_what_is_public(guarded: Guarded) -> None:
    client = guarded.gateway.client
    check_refusal(await client.get(WS_PATH, headers=WEBSOCKET), 401, "KEY_EXPECTED")
    assert not guarded.web.heads
    for held in (Right.READ, Right.ADMIN):
        assert (await client.get(WS_PATH, headers=WEBSOCKET | guarded.headers(held))).status_code == 200
    assert len(guarded.web.heads) == 2
    document = (await client.get("/openapi.json")).json()
    operations = [each for path in document["paths"].values() for each in path.values()]
    # Without a key only what is public is open, and the document says so.
    assert document["security"] == [{"key": []}, {"bearer": []}]
    assert all({} not in each.get("security", ()) for each in operations)
    assert [each["operationId"] for each in operations if each.get("security") == []] == ["Health_GetHealth"]
    assert (await client.get("/health")).status_code == 200
    assert (await guarded.grpc_call("/grpc.health.v1.Health/Check", {}))[0] is grpc.StatusCode.OK
    reflection = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    assert (await guarded.grpc_call(reflection, {}))[0] is grpc.StatusCode.UNAUTHENTICATED
    # An unknown method of a service of ours is nobody's but an administrator's: it may be a newer one.
    newer = "/tradeul.v1.ScannerService/Newer"
    assert (await guarded.grpc_call(newer, guarded.headers(Right.READ)))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert (await guarded.grpc_call(newer, guarded.headers(Right.ADMIN)))[0] is grpc.StatusCode.OK


async def test_strangers_are_refused_as_such_before_a_key_is_asked_for(guarded: Guarded) -> None:
    client = guarded.gateway.client
    asked = {"origin": "https://elsewhere.example", "access-control-request-method": "GET"}
    answers = {
        path: await client.get(path, headers={"host": "rebound.example"})
        for path in ("/health", "/api/v1/scanner/lists", WS_PATH)
    }
    answers["preflight"] = await client.options("/api/v1/scanner/lists", headers=asked)
    seen = {path: (answer.status_code, answer.json()["details"][0]["reason"]) for path, answer in answers.items()}
    assert seen == dict.fromkeys(seen, (421, "HOST_NOT_ALLOWED")) | {"preflight": (403, "ORIGIN_NOT_ALLOWED")}


async def test_what_the_services_receive(guarded: Guarded) -> None:
    """The key's name, which a client cannot set; never the key."""
    name, secret = await guarded.new_key(Right.READ)
    path = "/api/v1/scanner/status"
    for headers in ({"x-api-key": secret}, {"authorization": f"Bearer {secret}"}):
        await guarded.gateway.client.get(path, headers={**headers, NAME_HEADER: "somebody-else"})
        assert guarded.echo.metadata[NAME_HEADER] == name
        assert not [value for value in guarded.echo.metadata.values() if secret in value]
    await guarded.gateway.client.get("/health", headers={NAME_HEADER: "somebody-else", "x-api-key": secret})
    assert NAME_HEADER not in guarded.echo.metadata
    assert not [value for value in guarded.echo.metadata.values() if secret in value]


async def test_the_list_client_sends_its_key(guarded: Guarded) -> None:
    request, path = scanner_pb2.WatchListRequest(list="winners"), "/tradeul.v1.ScannerService/SubscribeList"
    for key in ("", "wrong"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(follow_list(guarded.gateway.address, request, api_key=key))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert path not in guarded.echo.received
    copies = follow_list(guarded.gateway.address, request, api_key=guarded.secrets[Right.READ])
    async with contextlib.aclosing(copies):
        await anext(copies)
    assert guarded.echo.received[path] == 1


async def test_a_ticket_for_browsers(guarded: Guarded) -> None:
    client = guarded.gateway.client
    check_refusal(await client.post("/api/v1/tickets", json={}), 401, "KEY_EXPECTED")

    async def ticket() -> str:
        answer = await client.post("/api/v1/tickets", json={}, headers=guarded.headers(Right.ADMIN))
        assert answer.status_code == 200, answer.text
        assert answer.json()["expire_time"].endswith("Z")
        return str(answer.json()["ticket"])

    watch = "/api/v1/scanner/lists/winners:watch"
    first = await ticket()
    assert (await client.get(watch, params={"min_interval_ms": "10", "ticket": first})).status_code == 200
    check_refusal(await client.get(watch, params={"ticket": first}), 401, "INVALID_TICKET")
    second = await ticket()
    assert (await client.get(WS_PATH, params={"ticket": second, "x": "1"}, headers=WEBSOCKET)).status_code == 200
    assert guarded.web.heads[-1].startswith(f"GET {WS_PATH}?x=1 HTTP/1.1\r\n")
    assert second not in guarded.web.heads[-1]
    # The rest of the URL is passed on as it was, so what is encoded stays one value.
    query = "x=a%26ticket%3Db+c%2Bd%0D%0Ae&y=%C3%A9"
    answer = await client.get(f"{WS_PATH}?ticket={await ticket()}&{query}&ticket=again", headers=WEBSOCKET)
    assert answer.status_code == 200
    assert guarded.web.heads[-1].startswith(f"GET {WS_PATH}?{query} HTTP/1.1\r\n")
    # It opens streams only.
    third = await ticket()
    for verb, path in (("POST", "/api/v1/tickets"), ("GET", "/api/v1/filters"), ("DELETE", "/api/v1/filters/x")):
        answer = await client.request(verb, path, params={"ticket": third}, json={} if verb == "POST" else None)
        check_refusal(answer, 401, "KEY_EXPECTED")
    # A key in the URL is none.
    check_refusal(await client.get(watch, params={"ticket": guarded.secrets[Right.READ]}), 401, "INVALID_TICKET")
    for name in ("x-api-key", "min_interval_ms"):
        url = f"/api/v1/scanner/lists/{guarded.secrets[Right.READ]}:watch"
        refused = await client.get(url, params={name: guarded.secrets[Right.ADMIN]})
        assert refused.is_client_error and "tradeul_" not in refused.text.replace("tradeul_***", ""), refused.text
    # Nor is a token, by the name that OAuth has for it.
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJl"
    check_refusal(await client.get(WS_PATH, params={"access_token": token}, headers=WEBSOCKET), 401, "KEY_EXPECTED")
    await guarded.gateway.logged("min_interval_ms=10")
    await guarded.gateway.logged('"DELETE"')
    await guarded.gateway.logged("access_token=***")
    for secret in (first, second, third, token, *guarded.secrets.values()):
        assert secret not in guarded.gateway.log


async def test_the_access_log_has_the_keys_name(guarded: Guarded) -> None:
    name, secret = await guarded.new_key(Right.READ)
    client = guarded.gateway.client
    await client.get("/api/v1/scanner/status?x=1", headers={"x-api-key": secret})
    await client.get("/api/v1/scanner/fields", headers={"x-api-key": secret})
    await client.delete("/api/v1/filters/named", headers={"x-api-key": secret})
    await client.get("/api/session/current")
    line = json.loads(await guarded.gateway.logged("/api/v1/scanner/fields"))
    assert (line["key"], line["status"]) == (name, 200)
    line = json.loads(await guarded.gateway.logged("/api/v1/filters/named"))
    assert (line["key"], line["status"]) == (name, 403)
    line = json.loads(await guarded.gateway.logged("/api/session/current"))
    assert (line.get("key"), line["status"]) == (None, 401)


async def test_revocation_within_seconds(guarded: Guarded) -> None:
    name, secret = await guarded.new_key(Right.ADMIN)
    path, headers = "/api/v1/filters", {"x-api-key": secret}
    assert (await guarded.gateway.client.get(path, headers=headers)).status_code == 200
    await guarded.on_database(lambda connection: key_store.revoke(connection, name))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (answer := await guarded.gateway.client.get(path, headers=headers)).status_code == 200:
            await asyncio.sleep(0.01)
    check_refusal(answer, 401, "INVALID_KEY")
    code, status = await guarded.grpc_call("/tradeul.v1.FiltersService/ListFilters", headers)
    assert (code, reason_of(status)) == (grpc.StatusCode.UNAUTHENTICATED, "INVALID_KEY")


async def test_the_rate_of_a_key(guarded: Guarded) -> None:
    name, secret = await guarded.new_key(Right.READ, requests_per_s=1)
    path, headers = "/api/v1/scanner/status", {"x-api-key": secret}
    assert (await guarded.gateway.client.get(path, headers=headers)).status_code == 200
    # Between two of them there may be a second.
    while (answer := await guarded.gateway.client.get(path, headers=headers)).status_code == 200:
        pass
    body = check_refusal(answer, 429, "TOO_MANY_REQUESTS")
    assert answer.headers["retry-after"] == "1"
    assert body["message"] == f"limit reached: 1 requests per second of the key '{name}'"
    retry = body["details"][1]
    assert retry["@type"] == "type.googleapis.com/google.rpc.RetryInfo"
    assert 0 < float(retry["retry_delay"].removesuffix("s")) <= 1
    for call in (guarded.grpc_call, guarded.grpc_web_call):
        while (answered := await call("/tradeul.v1.ScannerService/GetScannerStatus", headers))[0] is grpc.StatusCode.OK:
            pass
        code, status = answered
        assert (code, reason_of(status)) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "TOO_MANY_REQUESTS")
    # Others are not held up.
    assert (await guarded.gateway.client.get(path, headers=guarded.headers(Right.READ))).status_code == 200


async def test_without_the_access_service_nobody_is_let_through(guarded: Guarded) -> None:
    await guarded.host.stop()
    for path in ("/api/v1/scanner/status", "/health", WS_PATH):
        answer = await guarded.gateway.client.get(path, headers=guarded.headers(Right.ADMIN))
        assert answer.status_code == 503, answer.text
        body = answer.json()
        assert (body["code"], body["details"][0]["reason"]) == (14, "SERVICES_NOT_SERVING")
        assert body["details"][0]["metadata"] == {"service": "access"}
    code, status = await guarded.grpc_call("/tradeul.v1.ScannerService/GetList", guarded.headers(Right.ADMIN))
    assert (code, reason_of(status)) == (grpc.StatusCode.UNAVAILABLE, "SERVICES_NOT_SERVING")
    assert status is not None
    assert status.message.startswith("the access service")
    assert not guarded.echo.received


async def test_a_connection_that_is_lost_is_made_anew(guarded: Guarded) -> None:
    async def cut(connection: Any) -> None:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query <> ''"
        )

    await guarded.on_database(cut)
    answer = await guarded.gateway.client.get("/api/v1/filters", headers=guarded.headers(Right.READ))
    assert answer.status_code == 200
    _, secret = await guarded.new_key(Right.READ)
    answer = await guarded.gateway.client.get("/api/v1/filters", headers={"x-api-key": secret})
    assert answer.status_code == 200


async def test_keys_are_known_while_the_database_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.access.service.open_pool", functools.partial(open_pool, wait_seconds=1))
    database = Supervisor([postgres_spec(tmp_path)], lambda name, line: None)
    await database.start()
    try:
        url = postgres_url(tmp_path)
        await migrate(url)
        connection = await asyncpg.connect(url)
        secret = await key_store.create(connection, "reader", Right.READ, None)
        await connection.close()
        settings = gateway_settings(tmp_path, {"TRADEUL_DATABASE_URL": url, "TRADEUL_KEYS": "required"})
        host = Host(AccessService(settings))
        await host.start()
        assert isinstance(host.service, AccessService)
    finally:
        await database.stop()
    try:
        failures = STORE_FAILURES._value.get()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while STORE_FAILURES._value.get() == failures:
                await asyncio.sleep(0.01)
        verdict = host.service.control.check("/tradeul.v1.ScannerService/GetList", {"x-api-key": secret}, 0.0)
        assert (verdict.key, verdict.refusal) == ("reader", None)
        assert host.service.state is State.RUNNING
    finally:
        await host.stop()
    # One that starts meanwhile knows nobody, and says so.
    with pytest.raises(StartError, match="no database at"):
        await Host(AccessService(settings)).start()
