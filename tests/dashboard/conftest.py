"""One mesh on the simulator for all files, with lists that have rows, and one Chromium with contexts for each test.

The market goes on from file to file, and never back: the first one jumps to a halt, the last one through the day.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.e2e.test_dashboard_build import GATEWAY, SOURCES
from tests.support import javascript
from tests.support.browser import Looked, looked
from tests.support.mesh import Mesh

SETTINGS: Final = {
    "TRADEUL_SIM_SYMBOLS": "300",
    "TRADEUL_SIM_START": "2026-03-10T09:35:00",
    "TRADEUL_METRICS_PORT_OFFSET": "4000",
    # Tests make services stand still.
    "TRADEUL_HUNG_SECONDS": "0",
}

# Nothing is measured: a busy machine may take its time.
expect.set_options(timeout=60_000)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    javascript.chromium()
    async with Mesh(tmp_path_factory.mktemp("dashboard"), SETTINGS) as running:
        async with httpx.AsyncClient(base_url=running.url, timeout=10) as client, asyncio.timeout(90):
            while not (await client.get("/api/v1/scanner/lists/gappers_up?limit=3")).json().get("rows"):
                await asyncio.sleep(0.2)
        yield running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Looked]:
    async with looked() as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium: Looked) -> AsyncIterator[Looked]:
    """Without pages, and without errors so far."""
    opened = Looked(chromium.browser)
    yield opened
    for context in chromium.browser.contexts:
        await context.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def axe() -> str:
    """The script of axe-core."""
    javascript.node()
    await javascript.install(SOURCES, GATEWAY / "web")
    return (GATEWAY / "web" / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
