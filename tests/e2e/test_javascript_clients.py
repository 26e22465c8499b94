"""Other languages at the public gateway, with nothing but the published protos: gRPC-Web in Chromium, gRPC in Node."""

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Error as PageError
from playwright.async_api import Page, async_playwright

from tests.support import javascript
from tests.support.mesh import Mesh, service_pids
from tools import protogen

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(420)]

PAGE = "<!doctype html><title>client</title><script src=/bundle.js></script>"
INVALID_ARGUMENT, NOT_FOUND = 3, 5
# A name of an attacker, which the browser finds at this machine.
REBOUND = "rebound.example"
# Ways of a page to change something without asking: what browsers call simple requests, and what only looks like one.
SEND = """([url, method, kind, mode]) => fetch(url, {
    method, mode, headers: kind ? {"content-type": kind} : {},
    body: method === "POST" ? '{"name": "planted"}' : undefined,
}).then((answer) => answer.status, () => "refused")"""
OPEN_SOCKET = """(url) => new Promise((done) => {
    const socket = new WebSocket(url);
    socket.onmessage = () => { socket.close(); done("connected"); };
    socket.onerror = () => done("refused");
})"""
# What was negotiated, the snapshot's rows, and those after a few changes, as docs/websocket.md has a copy kept.
FOLLOW_SOCKET = """([url, list]) => new Promise((done) => {
    const socket = new WebSocket(url), rows = new Map();
    let first = 0, changes = 0;
    socket.onopen = () => socket.send(JSON.stringify({
        action: "subscribe_list", list, changed_fields_only: true, aggregates: false,
    }));
    socket.onmessage = ({data}) => {
        const message = JSON.parse(data);
        if (message.type === "snapshot") {
            for (const row of message.rows) rows.set(row.symbol, row);
            first = rows.size;
        }
        if (message.type !== "delta") return;
        for (const {action, symbol, rank, new_rank, data} of message.deltas) {
            if (action === "remove") rows.delete(symbol);
            else if (action === "rerank") rows.get(symbol).rank = new_rank;
            else if (action === "add") rows.set(symbol, data);
            else {
                const row = rows.get(symbol);
                for (const [name, value] of Object.entries(data)) {
                    if (value === null) delete row[name];
                    else row[name] = value;
                }
                row.rank = rank;
            }
        }
        changes += 1;
        if (changes < 20) return;
        socket.close();
        const ranks = [...rows.values()].map((row) => row.rank).sort((a, b) => a - b);
        done({extensions: socket.extensions, first, ranks});
    };
    socket.onerror = () => done("refused");
})"""


class Site:
    """A page with the browser's client, served at two origins: one that the gateway lets in, and another."""

    def __init__(self) -> None:
        self.bundle = b""
        self.inside = ""
        self.outside = ""

    async def start(self, stack: AsyncExitStack) -> None:
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_get("/bundle.js", self._bundle)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        for _ in range(2):
            await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.inside, self.outside = (f"http://127.0.0.1:{address[1]}" for address in runner.addresses)

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def _bundle(self, _: web.Request) -> web.Response:
        return web.Response(body=self.bundle, content_type="text/javascript")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        served = Site()
        await served.start(stack)
        yield served


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(site: Site) -> Path:
    directory = await javascript.clients()
    site.bundle = (directory / "bundle.js").read_bytes()
    return directory


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(clients: Path, site: Site, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    environment = {
        "TRADEUL_SIM_SYMBOLS": "200",
        "TRADEUL_SIM_START": "2026-03-10T09:45:00",
        "TRADEUL_CORS_ORIGINS": f"https://app.example.com,{site.inside}",
    }
    async with Mesh(tmp_path_factory.mktemp("mesh"), environment) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def page(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    program = javascript.chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("chromium"),
            executable_path=program,
            headless=True,
            args=[*javascript.CHROMIUM_FLAGS, f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"],
        )
        yield browser.pages[0]
        await browser.close()


async def call(page: Page, origin: str, function: str, *arguments: Any) -> Any:
    """`client.FUNCTION(...)` in a page of that origin."""
    if not page.url.startswith(origin):
        await page.goto(origin)
    return await page.evaluate(f"(given) => client.{function}(...given)", list(arguments))


async def test_browser_unary(mesh: Mesh, site: Site, page: Page) -> None:
    answer = await call(page, site.inside, "getList", mesh.url, "filtered", 3)
    assert answer["list"] == "filtered"
    assert [row[0] for row in answer["rows"]] == list(range(1, answer["count"] + 1))
    assert await call(page, site.inside, "session", mesh.url) == {"session": "MARKET_OPEN", "date": "2026-03-10"}


async def test_browser_streaming(mesh: Mesh, site: Site, page: Page) -> None:
    followed = await call(page, site.inside, "follow", mesh.url, "filtered", 3)
    assert followed["kinds"] == ["opened", "snapshot", "current", "delta"]
    assert followed["matched"] == 3
    assert followed["rows"] > 0


async def test_browser_errors_have_their_details(mesh: Mesh, site: Site, page: Page) -> None:
    refused = await call(page, site.inside, "refusal", mesh.url, "gapers_up")
    assert (refused["code"], refused["reason"]) == (NOT_FOUND, "UNKNOWN_LIST")
    assert refused["metadata"]["nearest"] == "gappers_up"


async def test_browser_server_sent_events(mesh: Mesh, site: Site, page: Page) -> None:
    url = f"{mesh.url}/api/v1/scanner/lists/filtered:watch"
    assert await call(page, site.inside, "events", url, 4) == ["opened", "snapshot", "current", "delta"]


async def test_an_event_source_outlives_the_scanner(mesh: Mesh, site: Site, page: Page) -> None:
    """kill -9: it reconnects by itself, through the time without a scanner, and misses no change."""
    assert mesh.process is not None
    await call(page, site.inside, "keepFollowing", f"{mesh.url}/api/v1/scanner/lists/filtered:watch")
    await page.wait_for_function("received.kinds.filter((kind) => kind === 'delta').length >= 3")
    (pid,) = service_pids(mesh.process.pid, "scanner")
    os.kill(pid, signal.SIGKILL)
    await page.wait_for_function("received.errors > 0")
    deltas = "received.kinds.slice(received.kinds.lastIndexOf('opened')).filter((kind) => kind === 'delta').length"
    await page.wait_for_function(
        f"received.kinds.filter((kind) => kind === 'opened').length >= 2 && {deltas} >= 5", timeout=60_000
    )
    received = await page.evaluate("received")
    assert "given up" not in received["kinds"]
    assert all(received["ids"])
    # What the restarted scanner does not hold comes as a reset and a snapshot, which is no hole.
    assert received["holes"] == []


async def test_the_document_is_shown_without_anybody_else(mesh: Mesh, page: Page) -> None:
    """The viewer's own policy forbids what it does not need, and it needs nothing of another origin."""
    requested: list[str] = []
    complaints: list[str] = []
    viewer = await page.context.new_page()
    viewer.on("request", lambda request: requested.append(request.url))
    viewer.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await viewer.goto(f"{mesh.url}/docs")
    await viewer.wait_for_selector(".opblock")
    operations = json.loads((protogen.ROOT / protogen.OPENAPI).read_bytes())["paths"].values()
    assert await viewer.locator(".opblock").count() == sum(map(len, operations))
    assert not [url for url in requested if not url.startswith((mesh.url, "data:"))]
    assert not complaints
    # It can send requests, with a key where one is required.
    await viewer.locator("#operations-Health-HealthService_GetHealth, [id$=GetHealth]").first.click()
    await viewer.locator(".try-out__btn").click()
    await viewer.locator(".execute").click()
    await viewer.wait_for_selector(".live-responses-table .response-col_status:has-text('200')")
    assert await viewer.locator(".authorize").count() == 1
    await viewer.close()


async def test_pages_of_other_origins_are_not_let_in(mesh: Mesh, site: Site, page: Page) -> None:
    with pytest.raises(PageError, match="Failed to fetch"):
        await call(page, site.outside, "getList", mesh.url, "filtered", 3)
    with pytest.raises(PageError, match="refused or broke"):
        await call(page, site.outside, "events", f"{mesh.url}/api/v1/scanner/lists/filtered:watch", 1)
    with pytest.raises(PageError, match="Failed to fetch"):
        await page.evaluate("(url) => fetch(url).then((answer) => answer.text())", f"{mesh.url}/api/session/current")


async def planted(mesh: Mesh) -> list[str]:
    """The scanner filters that are stored."""
    async with httpx.AsyncClient(base_url=mesh.url) as client:
        return [row["name"] for row in (await client.get("/api/v1/filters")).json()["filters"]]


async def test_a_page_of_another_origin_changes_nothing(mesh: Mesh, site: Site, page: Page) -> None:
    await page.goto(site.outside)
    url = f"{mesh.url}/api/v1/filters"
    before = await planted(mesh)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json", ""):
        for mode in ("no-cors", "cors"):
            assert await page.evaluate(SEND, [url, "POST", kind, mode]) in (0, "refused")
    for name in before:
        assert await page.evaluate(SEND, [f"{url}/{name}", "DELETE", "", "cors"]) == "refused"
    assert await planted(mesh) == before


async def test_a_page_of_another_origin_opens_no_websocket(mesh: Mesh, site: Site, page: Page) -> None:
    url = f"{mesh.url}/ws/scanner".replace("http:", "ws:")
    await page.goto(site.outside)
    assert await page.evaluate(OPEN_SOCKET, url) == "refused"
    await page.goto(site.inside)
    assert await page.evaluate(OPEN_SOCKET, url) == "connected"


async def test_a_browser_gets_compressed_messages_through_the_gateway(mesh: Mesh, site: Site, page: Page) -> None:
    await page.goto(site.inside)
    url = f"{mesh.url}/ws/scanner".replace("http:", "ws:")
    followed = await page.evaluate(FOLLOW_SOCKET, [url, "filtered"])
    assert followed["extensions"].partition(";")[0] == "permessage-deflate"
    assert followed["first"] > 0
    assert followed["ranks"] == list(range(1, len(followed["ranks"]) + 1))


async def test_a_page_cannot_end_the_gateway(mesh: Mesh, site: Site, page: Page) -> None:
    await page.goto(site.outside)
    for path in ("/quitquitquit", "/drain_listeners", "/logging?level=trace"):
        await page.evaluate(SEND, [f"http://{mesh.address('gateway_admin')}{path}", "POST", "text/plain", "no-cors"])
    async with httpx.AsyncClient(base_url=mesh.url) as client:
        assert (await client.get("/api/session/current")).status_code == 200


async def test_a_rebound_name_is_not_answered(mesh: Mesh, page: Page) -> None:
    """To the browser the attacker's page and our gateway are of one origin: only the Host tells them apart."""
    port = mesh.address("gateway").rpartition(":")[2]
    loaded = await page.goto(f"http://{REBOUND}:{port}/api/session/current")
    assert loaded is not None
    assert loaded.status == 421
    origin = f"http://{REBOUND}:{port}"
    assert await page.evaluate(SEND, [f"{origin}/api/v1/filters", "POST", "application/json", "cors"]) == 421
    assert await page.evaluate(OPEN_SOCKET, f"ws://{REBOUND}:{port}/ws/scanner") == "refused"


async def test_node(clients: Path, mesh: Mesh) -> None:
    includes = [str(directory) for directory in protogen.include_directories()]
    output = await javascript.checked(
        javascript.node(), "node_client.js", mesh.address("gateway"), *includes, cwd=clients
    )
    seen = json.loads(output)
    assert seen["list"]["list"] == "filtered"
    assert seen["list"]["ranks"] == list(range(1, seen["list"]["count"] + 1))
    assert set(seen["list"]["sessions"]) <= {"PRE_MARKET", "MARKET_OPEN"}
    assert seen["watch"][:3] == seen["subscribe"]["kinds"][:3] == ["opened", "snapshot", "current"]
    assert seen["watch"][-1] == seen["subscribe"]["kinds"][-1] == "delta"
    assert seen["subscribe"]["code"] == 0
    assert seen["repeated_open"]["code"] == INVALID_ARGUMENT
    assert seen["repeated_open"]["details"] == "expected open as the first message only"
    assert seen["refusal"] == {"code": NOT_FOUND, "status": NOT_FOUND, "reason": "UNKNOWN_LIST", "domain": "tradeul"}
