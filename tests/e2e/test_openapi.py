"""A property-based run over every route of the running mesh's own OpenAPI document.

Whatever is sent (valid, at the limits, or wrong in every way that schemathesis
knows), no answer is a 5xx and none is outside the document.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from services.kit.runtime.packaged import OPENAPI
from tests.support.mesh import Mesh
from tools import openapi

DOCUMENT = OPENAPI.path().read_bytes()
SECONDS = 40
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    environment = {"TRADEUL_SIM_SYMBOLS": "300", "TRADEUL_SIM_START": "2026-03-10T09:45:00", "TRADEUL_SIM_SEED": "5"}
    async with Mesh(tmp_path_factory.mktemp("mesh"), environment) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(mesh: Mesh) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as http:
        yield http


async def test_no_server_error_and_no_answer_outside_the_document(mesh: Mesh, tmp_path: Path) -> None:
    run = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "schemathesis"), "run", f"{mesh.url}/openapi.json",
        "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-time", str(SECONDS), "--max-examples", "20",
        # Streams do not end; the next test reads them.
        "--exclude-path-regex", ":watch$",
        "--seed", "1", "--generation-database", "none", "--request-timeout", "20", "--warnings", "off",
        "--continue-on-failure", "--suppress-health-check", "all", "--no-color",
        cwd=tmp_path, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await run.communicate()
    text = output.decode(errors="replace")
    routes = list(openapi.routes(DOCUMENT))
    assert f"{sum(not path.endswith(':watch') for _, path, _ in routes)} selected / {len(routes)} total" in text, text
    assert run.returncode == 0, text


async def test_the_first_event_of_every_stream_is_as_documented(client: httpx.AsyncClient) -> None:
    assert (await client.get("/openapi.json")).content == DOCUMENT
    schemas = json.loads(DOCUMENT)["components"]["schemas"]
    streams = [(path, operation) for _, path, operation in openapi.routes(DOCUMENT) if path.endswith(":watch")]
    assert streams
    query = {"filter": "has(volume_today)", "limit": 1}
    symbol = (await client.post("/api/v1/scanner/scans:query", json=query)).json()["rows"][0]["symbol"]
    for path, operation in streams:
        required = [parameter["name"] for parameter in operation.get("parameters", []) if parameter["required"]]
        parameters = {"symbols": symbol} if "symbols" in required else {}
        name = operation["responses"]["200"]["content"]["text/event-stream"]["x-item-schema"]["$ref"].rpartition("/")[2]
        async with client.stream("GET", path.replace("{list}", "filtered"), params=parameters) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            async with asyncio.timeout(20):
                line = await anext(line async for line in answer.aiter_lines() if line.startswith("data: "))
        (kind,) = json.loads(line.removeprefix("data: "))
        assert kind in schemas[name]["properties"]
