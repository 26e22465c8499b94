"""The mesh as a newcomer has it, with the simulator, seen from outside through the public gateway."""

import asyncio
import getopt
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import grpc
import grpc.aio
import httpx
import pytest
import pytest_asyncio
import websockets
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from tradeul.v1 import market_session_pb2, market_session_pb2_grpc, scanner_pb2, scanner_pb2_grpc

from services.kit.lists.list_client import ListCopy, follow_list
from services.kit.runtime.clock import NEW_YORK
from services.kit.runtime.packaged import checkout
from tests.support import raw_ws
from tests.support.javascript import leave_out
from tests.support.mesh import TRADEUL, Mesh, service_pids
from tests.support.otlp import Received, SpanReceiver

SYMBOLS = 400
START = "2026-03-10T09:45:00"
LISTS = [
    "gappers_up", "gappers_down", "winners", "losers", "momentum_up", "momentum_down", "high_volume", "anomalies",
    "new_highs", "new_lows", "reversals", "post_market", "halts", "filtered",
]  # fmt: skip

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def spans() -> AsyncIterator[SpanReceiver]:
    async with SpanReceiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def environment(spans: SpanReceiver) -> dict[str, str]:
    settings = {"TRADEUL_SIM_SYMBOLS": str(SYMBOLS), "TRADEUL_SIM_START": START, "TRADEUL_SIM_SEED": "3"}
    traces = {"TRADEUL_TRACE_OTLP_URL": spans.url, "TRADEUL_TRACE_REQUESTS": "1", "TRADEUL_TRACE_REFRESHES": "2"}
    # Above it there are still ports.
    metrics = {"TRADEUL_METRICS_PORT_OFFSET": "4000"}
    return {**settings, **traces, **metrics, "TRADEUL_HUNG_SECONDS": "5"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> AsyncIterator[Mesh]:
    async with Mesh(tmp_path_factory.mktemp("mesh"), environment) as running:
        await running.until_time_is_known()
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as http:
        yield http


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(mesh: Mesh) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(mesh.address("gateway")) as through_envoy:
        yield through_envoy


async def with_rows(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    """The answer of a list once it has rows."""
    async with asyncio.timeout(60):
        while True:
            answer = await client.get(path)
            assert answer.status_code == 200, answer.text
            body: dict[str, Any] = answer.json()
            if body.get("count"):
                return body
            await asyncio.sleep(0.1)


async def test_health_names_the_services(client: httpx.AsyncClient) -> None:
    body = (await client.get("/health")).json()
    assert body["status"] == "healthy"
    assert body["services"]["scanner"] == "SERVING"


async def test_metrics_keep_to_the_conventions_of_prometheus(mesh: Mesh, client: httpx.AsyncClient) -> None:
    program = shutil.which("promtool")
    if program is None:
        leave_out("promtool", "left out: promtool (Debian's package prometheus) is not installed")
    services = (await client.get("/health")).json()["services"]
    assert len(services) > 8
    for name in (*services, "simulator", "websocket_server"):
        text = (await client.get(f"http://127.0.0.1:{mesh.ports[name] + mesh.metrics_offset}/metrics")).text
        assert "\ntradeul_service_running{" in text, name
        command = [program, "check", "metrics"]
        checked = await asyncio.to_thread(subprocess.run, command, input=text, capture_output=True, text=True)
        assert checked.returncode == 0, f"{name}: {checked.stdout}{checked.stderr}"


async def test_session(client: httpx.AsyncClient) -> None:
    for path in ("/api/session/current", "/api/v1/session/current"):
        body = (await client.get(path)).json()
        assert body["current_session"] == "MARKET_OPEN"
        assert body["trading_date"] == "2026-03-10"
        assert body["is_trading_day"] is True
        assert (body["pre_market_start"], body["market_close"]) == ("04:00:00", "16:00:00")


async def test_every_list_is_defined_and_answers(client: httpx.AsyncClient) -> None:
    definitions = (await client.get("/api/v1/scanner/lists")).json()["lists"]
    assert [definition["list"] for definition in definitions] == LISTS
    for name in LISTS:
        body = (await client.get(f"/api/v1/scanner/lists/{name}")).json()
        assert body["list"] == name
        assert [row["rank"] for row in body.get("rows", [])] == list(range(1, body.get("count", 0) + 1))


async def test_gappers_are_on_the_right_side_and_in_order(client: httpx.AsyncClient) -> None:
    await with_rows(client, "/api/v1/scanner/lists/gappers_up")
    body = (await client.get("/api/v1/scanner/gappers", params={"min_gap": 1, "limit": 7})).json()
    up = [row["gap_percent"] for row in body.get("gappers_up", [])]
    down = [row["gap_percent"] for row in body.get("gappers_down", [])]
    assert up == sorted(up, reverse=True)
    assert down == sorted(down)
    assert all(gap >= 1 for gap in up)
    assert all(gap <= -1 for gap in down)
    assert body["count"] == len(up) + len(down) <= 14


async def test_rows_have_bare_enum_names_numbers_and_no_zero_for_absent(client: httpx.AsyncClient) -> None:
    body = await with_rows(client, "/api/v1/scanner/filtered?limit=5")
    for row in body["tickers"]:
        assert row["session"] in {"PRE_MARKET", "MARKET_OPEN"}
        assert isinstance(row["volume_today"], int | float)
        assert row["updated_at"].endswith("Z")
        assert "postmarket_change_percent" not in row


async def test_own_lists_once_and_live(client: httpx.AsyncClient) -> None:
    query: dict[str, str | int] = {
        "filter": "price > 1 AND has(prev_close)",
        "order_by": "volume_today desc",
        "limit": 5,
    }
    async with asyncio.timeout(60):
        # In the first moments fewer have traded.
        while (body := (await client.post("/api/v1/scanner/scans:query", json=query)).json()).get("count", 0) < 5:
            await asyncio.sleep(0.1)
    volumes = [row["volume_today"] for row in body["rows"]]
    assert len(volumes) == 5
    assert volumes == sorted(volumes, reverse=True)
    async with client.stream("GET", "/api/v1/scanner/scans:watch", params={**query, "min_interval_ms": 20}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = await read_events(answer, until="delta")
    assert [next(iter(event)) for event in events[:3]] == ["opened", "snapshot", "current"]


async def test_server_sent_events_of_a_list(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/api/v1/scanner/lists/filtered:watch") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = await read_events(answer, until="delta")
    delta = events[-1]["delta"]
    assert delta["sequence"] == delta["previous_sequence"] + 1
    assert delta["change_count"] == len(delta["deltas"])


async def read_events(answer: httpx.Response, until: str) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                event = event.get("result", event)
                events.append(event)
                if until in event:
                    return events
    raise AssertionError(f"no {until} came: {events}")


async def test_session_watch(client: httpx.AsyncClient) -> None:
    async with client.stream("GET", "/api/v1/session:watch") as answer:
        events = await read_events(answer, until="session")
    assert events[-1]["session"]["current_session"] == "MARKET_OPEN"


async def test_fields_and_status(client: httpx.AsyncClient) -> None:
    fields = {field["name"]: field for field in (await client.get("/api/v1/scanner/fields")).json()["fields"]}
    assert fields["gap_percent"]["type"] == "number"
    assert fields["session"]["values"] == ["PRE_MARKET", "MARKET_OPEN", "POST_MARKET", "CLOSED"]
    status = (await client.get("/api/v1/scanner/status")).json()
    assert status["session"] == "MARKET_OPEN"
    assert status["symbols"] >= SYMBOLS
    assert status.get("problem", "") == ""


@pytest.mark.parametrize(
    ("path", "status", "reason", "words"),
    [
        ("/api/v1/scanner/lists/gapers_up", 404, "UNKNOWN_LIST", "gappers_up"),
        ("/api/v1/scanner/lists/gappers_up?limit=501", 400, "INVALID_LIMIT", "1 to 500"),
        ("/api/v1/scanner/lists/gappers_up?limit=0", 400, "INVALID_LIMIT", "1 to 500"),
        ("/api/v1/scanner/filtered?limit=1001", 400, "INVALID_LIMIT", "1 to 1000"),
        ("/api/v1/scanner/gappers?min_gap=-1", 400, "INVALID_REQUEST", "min_gap"),
        ("/api/v1/scanner/lists/winners:watch?sequence=4", 400, "INVALID_POSITION", "epoch"),
        ("/api/v1/scanner/lists/gappers_up?colour=red", 400, None, "colour"),
        ("/api/v1/scanner/lists/gappers_up?limit=many", 400, None, ""),
        ("/api/v1/nothing", 404, None, ""),
    ],
)
async def test_wrong_requests(
    client: httpx.AsyncClient, path: str, status: int, reason: str | None, words: str
) -> None:
    answer = await client.get(path)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["code"]
    assert words in body["message"]
    if reason is not None:
        assert body["details"][0]["reason"] == reason
        assert body["details"][0]["domain"] == "tradeul"


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        ({"filter": "rvoll > 2"}, "INVALID_FILTER", "rvol"),
        ({"filter": "price > "}, "INVALID_FILTER", ""),
        ({"filter": "price > 1", "order_by": "price sideways"}, "INVALID_ORDER", ""),
        ({"filter": "price > 1" + " AND price > 1" * 500}, "INVALID_FILTER", "2000"),
        ({"filter": "price > 1", "limit": 9999}, "INVALID_LIMIT", "1 to 500"),
    ],
)
async def test_wrong_own_lists(client: httpx.AsyncClient, body: dict[str, Any], reason: str, words: str) -> None:
    answer = await client.post("/api/v1/scanner/scans:query", json=body)
    assert answer.status_code == 400, answer.text
    status = answer.json()
    assert status["details"][0]["reason"] == reason
    assert words in status["message"].replace(",", "")


async def test_malformed_json_is_a_400(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json"}
    answer = await client.post("/api/v1/scanner/scans:query", content=b'{"filter": ', headers=headers)
    assert answer.status_code == 400
    assert answer.json()["code"] == 3


class DocumentedRequest(NamedTuple):
    """What a curl command sends."""

    method: str
    path: str
    headers: dict[str, str]
    body: str | None


def documented_requests() -> list[DocumentedRequest]:
    """Every curl command in the README and in docs/, in order."""
    pages = [checkout() / "README.md", *sorted((checkout() / "docs").glob("*.md"))]
    lines = "\n".join(page.read_text(encoding="utf-8") for page in pages).replace("\\\n", " ")
    requests = []
    for command in re.findall(r"^    curl .*$", lines, re.MULTILINE):
        _, *arguments = shlex.split(command, comments=True)
        options, urls = getopt.gnu_getopt(arguments, "NX:d:H:")
        given = dict(options)
        body = given.get("-d")
        # With -d and without -H, curl sends a form.
        headers = {} if body is None else {"content-type": "application/x-www-form-urlencoded"}
        headers |= dict(re.findall(r"(\S+): (.+)", value.lower())[0] for option, value in options if option == "-H")
        method = given.get("-X", "GET" if body is None else "POST")
        requests.append(DocumentedRequest(method, urls[0].partition(":8000")[2], headers, body))
    return requests


def parents(trace: list[Received]) -> set[tuple[str, str]]:
    """The services of each span and of the one that it continues, "" for none."""
    services = {span.id: span.service for span in trace} | {"": ""}
    return {(span.service, services.get(span.parent, "missing")) for span in trace}


async def test_a_refresh_is_traced_from_the_vendors_message_to_a_websocket_client(
    mesh: Mesh, spans: SpanReceiver
) -> None:
    whole = {
        ("polygon_ws", ""),
        ("data_ingest", "polygon_ws"),
        ("scanner", "data_ingest"),
        ("analytics", "data_ingest"),
        ("websocket_server", "data_ingest"),
    }
    async with websockets.connect(f"{mesh.url.replace('http', 'ws')}/ws/scanner", max_size=None) as socket:
        await socket.send(json.dumps({"action": "subscribe_list", "list": "filtered"}))
        reading = asyncio.create_task(read_all(socket))
        trace = await spans.trace(lambda found: parents(found) == whole)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    by_service = {span.service: span for span in trace}
    assert all(span.start_ns <= span.end_ns for span in trace)
    assert by_service["polygon_ws"].attributes["tradeul.batch"] == by_service["data_ingest"].attributes["tradeul.batch"]
    position = by_service["data_ingest"].attributes["tradeul.position"]
    assert by_service["scanner"].attributes["tradeul.position"] == position
    assert by_service["websocket_server"].attributes == {"tradeul.list": "filtered", "tradeul.subscribers": 1}


async def snapshot_frame(mesh: Mesh, extensions: str) -> tuple[bytes, int, bytes]:
    """The head of the gateway's answer to the upgrade; of the list's snapshot, the frame's first byte and payload."""
    host, _, port = mesh.address("gateway").rpartition(":")
    async with raw_ws.raw_client(int(port)) as client:
        head = await client.upgrade(host=f"{host}:{port}", extensions=extensions)
        client.send(raw_ws.TEXT, b'{"action":"subscribe_list","list":"filtered","aggregates":false}')
        # Before it come answers, which are too small to be compressed.
        while len(payload := (frame := await client.read_first())[1]) < 1000:
            assert frame[0] & raw_ws.RSV1_BIT == 0
        return head, frame[0], payload


async def test_a_websocket_is_compressed_through_the_gateway_for_who_offers_it(
    mesh: Mesh, client: httpx.AsyncClient
) -> None:
    await with_rows(client, "/api/v1/scanner/lists/filtered")
    head, first, compressed = await snapshot_frame(mesh, "permessage-deflate; client_max_window_bits")
    assert b"sec-websocket-extensions: permessage-deflate; server_no_context_takeover" in head.lower()
    assert first & raw_ws.RSV1_BIT
    assert json.loads(raw_ws.inflated(compressed))["type"] == "snapshot"
    head, first, plain = await snapshot_frame(mesh, "")
    assert b"sec-websocket-extensions" not in head.lower()
    assert first & raw_ws.RSV1_BIT == 0
    assert json.loads(plain)["type"] == "snapshot"
    assert 2 * len(compressed) < len(plain)


async def test_the_documented_client_of_changed_fields_follows_the_list(mesh: Mesh, client: httpx.AsyncClient) -> None:
    await with_rows(client, "/api/v1/scanner/lists/gappers_up")
    section = (checkout() / "docs" / "clients.md").read_text(encoding="utf-8").partition("## Fewer bytes")[2]
    begin = section.index("    import asyncio, json")
    code = textwrap.dedent(section[begin : section.index("\n## ")]).replace("localhost:8000", mesh.address("gateway"))
    process = await asyncio.create_subprocess_exec(sys.executable, "-u", "-c", code, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            shown = [(await process.stdout.readline()).decode() for _ in range(20)]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    assert all(line.startswith("{'rank': 1,") for line in shown), shown


async def read_all(socket: websockets.ClientConnection) -> None:
    async for _ in socket:
        pass


async def test_a_request_is_traced_through_the_gateway_and_every_service(
    client: httpx.AsyncClient, spans: SpanReceiver
) -> None:
    (row, *_) = (await with_rows(client, "/api/v1/scanner/lists/filtered"))["rows"]
    # A client has no say in what is traced, nor under which id.
    trace_id = "0123456789abcdef0123456789abcdef"
    headers = {"traceparent": f"00-{trace_id}-0123456789abcdef-01"}
    answer = await client.get(f"/api/v1/ticker/{row['symbol']}/bars?interval=15m", headers=headers)
    assert answer.status_code == 200, answer.text
    # The spans of one request arrive bit by bit, those of the gateway, too.
    whole = {("gateway", ""), ("gateway", "gateway"), ("ticker", "gateway"), ("scanner", "ticker")}
    trace = await spans.trace(lambda found: parents(found) == whole)
    (ticker,) = [span for span in trace if span.service == "ticker"]
    assert ticker.name == "tradeul.v1.TickerService/ListBars"
    assert ticker.attributes["rpc.response.status_code"] == "OK"
    assert trace_id not in spans.traces


async def test_every_curl_command_of_the_docs_works(client: httpx.AsyncClient) -> None:
    requests = documented_requests()
    assert len(requests) > 15
    try:
        for method, path, headers, body in requests:
            async with client.stream(method, path, content=body, headers=headers) as answer:
                assert answer.status_code == 200, f"{method} {path}: {(await answer.aread()).decode()}"
                if ":watch" in path:
                    # Alerts may be a long time coming.
                    await read_events(answer, until="current" if "/alerts:" in path else "snapshot")
    finally:
        # What these commands leave behind.
        await client.delete("/api/v1/filters/tech")
        pace = {"paused": False, "speed": 1}
        assert (await client.post("/api/v1/replay", json=pace)).status_code == 200


async def test_grpc_through_the_same_gateway(channel: grpc.aio.Channel) -> None:
    scanner = scanner_pb2_grpc.ScannerServiceStub(channel)
    answer = await scanner.GetList(scanner_pb2.GetListRequest(list="filtered", limit=3))
    assert answer.list == "filtered"
    session = market_session_pb2_grpc.MarketSessionServiceStub(channel)
    current = await session.GetCurrentSession(market_session_pb2.GetCurrentSessionRequest())
    assert json_format.MessageToDict(current)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await scanner.GetList(scanner_pb2.GetListRequest(list="gapers"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    status = rpc_status.from_call(caught.value)  # type: ignore[arg-type]  # it has the methods that are used
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.reason == "UNKNOWN_LIST"


async def test_a_subscribed_list_equals_the_list_asked_for(mesh: Mesh, channel: grpc.aio.Channel) -> None:
    """Follow deltas for a while; at an equal position the copy has exactly the published rows."""
    scanner = scanner_pb2_grpc.ScannerServiceStub(channel)
    copies = follow_list(mesh.address("gateway"), scanner_pb2.WatchListRequest(list="filtered"), ListCopy())
    matched = 0
    async with asyncio.timeout(60):
        async for copy in copies:
            if not copy.is_current or copy.deltas < 20:
                continue
            answer = await scanner.GetList(scanner_pb2.GetListRequest(list="filtered"))
            if (answer.epoch, answer.sequence) == (copy.epoch, copy.sequence):
                assert copy.rows() == list(answer.rows)
                matched += 1
                if matched == 3:
                    break
    await copies.aclose()


async def test_health_and_reflection_of_a_service(mesh: Mesh) -> None:
    async with grpc.aio.insecure_channel(mesh.address("scanner")) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service="tradeul.v1.ScannerService"))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        names = [
            service.name
            async for response in stub.ServerReflectionInfo(requests)
            for service in response.list_services_response.service
        ]
    assert "tradeul.v1.ScannerService" in names


async def test_the_documented_commands_print_their_lists(mesh: Mesh, client: httpx.AsyncClient) -> None:
    """Into a pipe once, in lines that nothing wraps; changes for as long as they are read."""
    await with_rows(client, "/api/v1/scanner/lists/gappers_up")
    readme = (checkout() / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    \.venv/bin/tradeul (top .*)$", readme, re.MULTILINE)
    assert len(commands) == 2
    for command in commands:
        process = await asyncio.create_subprocess_exec(
            *TRADEUL, *shlex.split(command), env=mesh.environment, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate()
        assert process.returncode == 0
        heading, *rows, last = output.decode().splitlines()
        assert len(heading) > 80 and heading.split()[:2] == ["#", "symbol"] and "company" in heading
        assert [int(row.split()[0]) for row in rows] == list(range(1, len(rows) + 1))
        assert rows or "--filter" in command
        assert last.startswith(START[:10]) and "New York, change " in last
    (query,) = re.findall(r"^    \.venv/bin/tradeul (query .*)$", readme, re.MULTILINE)
    process = await asyncio.create_subprocess_exec(
        *TRADEUL, *shlex.split(query), env=mesh.environment, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.startswith(b"rank,symbol,gap_percent,rvol\n")
    (watch,) = re.findall(r"^    \.venv/bin/tradeul (watch .*)$", readme, re.MULTILINE)
    process = await asyncio.create_subprocess_exec(
        *TRADEUL, *shlex.split(watch), env=mesh.environment, stdout=asyncio.subprocess.PIPE, limit=2**22
    )
    assert process.stdout is not None
    assert json.loads(await process.stdout.readline())["type"] == "snapshot"
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 130


async def test_kill_9_and_standstill_of_any_service_heal(mesh: Mesh, client: httpx.AsyncClient) -> None:
    """Each service in turn: the supervisor starts it again, and the lists go on changing.

    The stream's numbering goes on, too: what clients know of positions holds.
    """
    assert mesh.process is not None
    epoch = (await client.get("/api/v1/scanner/status")).json()["position"]["epoch"]
    kills = [(module, signal.SIGKILL) for module in ("scanner", "data_ingest", "polygon_ws", "market_session")]
    for module, how in (*kills, ("scanner", signal.SIGSTOP), ("data_ingest", signal.SIGSTOP)):
        (pid,) = service_pids(mesh.process.pid, module)
        os.kill(pid, how)
        async with asyncio.timeout(60):
            while pid in (found := service_pids(mesh.process.pid, module)) or not found:
                await asyncio.sleep(0.05)
            # Health hears of a death, and of a new life, a moment later than the gateway does.
            while not (before := (await client.get("/api/v1/scanner/lists/filtered")).json().get("timestamp")):
                await asyncio.sleep(0.1)
            while (await client.get("/api/v1/scanner/lists/filtered")).json().get("timestamp", before) <= before:
                await asyncio.sleep(0.1)
            while (await client.get("/health")).status_code != 200:
                await asyncio.sleep(0.1)
        assert (await client.get("/api/v1/scanner/status")).json()["position"]["epoch"] == epoch


async def test_the_markets_time_is_paused_and_moved_ahead(client: httpx.AsyncClient) -> None:
    """Streams stay open meanwhile. It comes last: time does not go back."""

    async def post(**change: object) -> dict[str, Any]:
        answer = await client.post("/api/v1/replay", json=change)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def list_time(after: float = 0.0) -> datetime:
        await asyncio.sleep(after)
        return datetime.fromisoformat((await client.get("/api/v1/scanner/lists/filtered")).json()["timestamp"])

    async with client.stream("GET", "/api/v1/scanner/lists/filtered:watch") as stream:
        paused = await post(paused=True)
        assert (paused["market"], paused["date"], paused["paused"]) == ("SIMULATOR", START[:10], True)
        async with asyncio.timeout(60):
            # What was on its way arrives.
            while (before := await list_time()) != await list_time(after=1.5):
                pass
        assert (await client.get("/api/v1/replay")).json() == paused
        now = datetime.fromisoformat(paused["now"])
        assert before <= now
        arrival = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        assert (await post(jump_to=f"{arrival.astimezone(NEW_YORK):%H:%M}"))["paused"]
        async with asyncio.timeout(120):
            while datetime.fromisoformat((await client.get("/api/v1/replay")).json()["now"]) != arrival:
                await asyncio.sleep(0.05)
            while await list_time() < arrival - timedelta(seconds=2):
                await asyncio.sleep(0.05)
        # The same stream shows it.
        last_seconds = f"{arrival - timedelta(seconds=1):%H:%M:5}"
        async for line in stream.aiter_lines():
            if last_seconds in line:
                break
        back = await client.post("/api/v1/replay", json={"jump_to": "09:30"})
        assert (back.status_code, back.json()["details"][0]["reason"]) == (400, "TIME_IS_OVER")
        resumed = await post(paused=False, speed=5)
        assert (resumed["paused"], resumed["speed"]) == (False, 5)
        async with asyncio.timeout(60):
            while await list_time() <= arrival:
                await asyncio.sleep(0.05)
