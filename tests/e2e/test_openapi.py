"""A property-based run over every route of the running mesh's own OpenAPI document, with all of schemathesis's checks.

Keys are required, so that each operation is also tried without one and with a wrong one. What is valid by the document
is accepted, what is not is refused; no answer is a 5xx and none is outside the document; methods that a path does not
have are 405 with Allow; what is deleted is gone.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import async_playwright

from tests.support import javascript
from tests.support.mesh import TRADEUL, Mesh, service_pids
from tools import openapi

PHASES = "examples,coverage,fuzzing,stateful"
REPOSITORY = Path(__file__).parents[2]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    environment = {
        "TRADEUL_SIM_SYMBOLS": "300", "TRADEUL_SIM_START": "2026-03-10T09:45:00", "TRADEUL_SIM_SEED": "5",
        "TRADEUL_KEYS": "required", "TRADEUL_WEBHOOK_PRIVATE": "allow", "TRADEUL_KEY_REQUESTS_PER_S": "100000",
    }  # fmt: skip
    async with Mesh(tmp_path_factory.mktemp("mesh"), environment) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(mesh: Mesh) -> str:
    command = (*TRADEUL, "keys", "create", "schemathesis", "--right", "admin")
    run = await asyncio.create_subprocess_exec(
        *command, env=mesh.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    output, errors = await run.communicate()
    assert run.returncode == 0, errors
    return output.decode().strip()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(mesh: Mesh, key: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=mesh.url, headers={"x-api-key": key}, timeout=10) as http:
        async with asyncio.timeout(60):
            # A new key is known within a second or two.
            while (await http.get("/api/v1/filters")).status_code == 401:
                await asyncio.sleep(0.1)
        yield http


# First: what the requests of the next test make of the market and its filters, nobody knows.
async def test_the_documented_page_follows_with_tickets(mesh: Mesh, key: str, client: httpx.AsyncClient) -> None:
    """The code of docs/clients.md in Chromium; after kill -9 of the scanner it goes on, with another ticket."""
    code = (REPOSITORY / "docs" / "clients.md").read_text(encoding="utf-8")
    code = code[code.index("    const gateway = ") : code.index("    follow();") + len("    follow();")]
    code = code.replace("localhost:8000", mesh.address("gateway"))
    code = code.replace("console.log(JSON.parse(data))", "seen.push(...Object.keys(JSON.parse(data)))")
    listening = "window.connected = new Promise((done) => (socket.onmessage = (e) => done(JSON.parse(e.data).type)));"
    page_code = f"async (key) => {{ const seen = (window.seen = []);\n{code}\n{listening} }}"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=javascript.chromium(), args=list(javascript.CHROMIUM_FLAGS)
        )
        # The page is any page of the origin; its own policy forbids the waiting functions of the test.
        page = await browser.new_page(bypass_csp=True)
        # It starts a scanner anew, which takes a while on a busy machine.
        page.set_default_timeout(120_000)
        await page.goto(f"{mesh.url}/docs")
        await page.evaluate(page_code, key)
        assert await page.evaluate("connected") == "connected"
        await page.wait_for_function("seen.includes('snapshot') && seen.includes('delta')")
        assert mesh.process is not None
        (pid,) = service_pids(mesh.process.pid, "scanner")
        os.kill(pid, signal.SIGKILL)
        deltas = "seen.slice(seen.lastIndexOf('opened')).includes('delta')"
        await page.wait_for_function(f"seen.filter((kind) => kind === 'opened').length > 1 && {deltas}", timeout=60_000)
        await browser.close()


async def test_the_gateway_and_its_document_agree(
    mesh: Mesh, key: str, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    document = (await client.get("/openapi.json")).content
    run = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"), "run", f"{mesh.url}/openapi.json",
        "--checks", "all", "--phases", PHASES, "--max-examples", "20", "--header", f"x-api-key: {key}",
        # Streams do not end; the next test reads them. A dry run is seconds of a process of its own.
        "--exclude-path-regex", "(:watch|:dryRun)$",
        "--seed", "1", "--generation-database", "none", "--request-timeout", "20", "--warnings", "off",
        "--continue-on-failure", "--suppress-health-check", "all", "--no-color",
        cwd=tmp_path, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={
            **os.environ, "PYTHONPATH": os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "protos"))),
            "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_values", "TRADEUL_TEST_URL": mesh.url,
            "TRADEUL_TEST_KEY": key,
        },
    )  # fmt: skip
    output, _ = await run.communicate()
    text = output.decode(errors="replace")
    routes = list(openapi.routes(document))
    assert (
        f"{sum(not path.endswith((':watch', ':dryRun')) for _, path, _ in routes)} selected / {len(routes)} total"
        in text
    ), text
    assert run.returncode == 0, text


async def test_the_first_event_of_every_stream_is_as_documented(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).content
    schemas = json.loads(document)["components"]["schemas"]
    streams = [(path, operation) for _, path, operation in openapi.routes(document) if path.endswith(":watch")]
    assert streams
    query = {"filter": "has(volume_today)", "limit": 1}
    async with asyncio.timeout(60):
        # None has traded when the mesh has just begun.
        while not (rows := (await client.post("/api/v1/scanner/scans:query", json=query)).json().get("rows")):
            await asyncio.sleep(0.1)
    symbol = rows[0]["symbol"]
    for path, operation in streams:
        required = [parameter["name"] for parameter in operation.get("parameters", []) if parameter["required"]]
        parameters = {"symbols": symbol} if "symbols" in required else {}
        name = operation["responses"]["200"]["content"]["text/event-stream"]["x-item-schema"]["$ref"].rpartition("/")[2]
        async with client.stream("GET", path.replace("{list}", "filtered"), params=parameters) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            async with asyncio.timeout(60):
                line = await anext(line async for line in answer.aiter_lines() if line.startswith("data: "))
        (kind,) = json.loads(line.removeprefix("data: "))
        assert kind in schemas[name]["properties"]
