"""A mesh on the simulator with lists that have rows, one for each file of tests, and a browser for each test."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.support import javascript
from tests.support.browser import Looked, looked
from tests.support.mesh import Mesh

SETTINGS: Final = {
    "TRADEUL_SIM_SYMBOLS": "300",
    "TRADEUL_SIM_START": "2026-03-10T09:35:00",
    # Tests make services stand still.
    "TRADEUL_HUNG_SECONDS": "0",
}

# Nothing is measured: a busy machine may take its time.
expect.set_options(timeout=60_000)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    javascript.chromium()
    async with Mesh(tmp_path_factory.mktemp("dashboard"), SETTINGS) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=10) as client, asyncio.timeout(90):
            while not (await client.get("/api/v1/scanner/lists/gappers_up?limit=3")).json().get("rows"):
                await asyncio.sleep(0.2)
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def browser() -> AsyncIterator[Looked]:
    async with looked() as opened:
        yield opened
