"""A mesh and a page that shows it: the one is stopped, the other measured, and both are compared."""

import asyncio
import csv
import io
import json
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
from playwright.async_api import BrowserContext, Locator, Page
from prometheus_client.parser import text_string_to_metric_families

from services.kit.runtime.clock import monotonic
from tests.support.browser import differences, shown_rows
from tests.support.mesh import Mesh, service_pids

COMPARE_SECONDS: Final = 40
# What a busy screen shows.
TWELVE_LISTS: Final = (
    "gappers_up", "gappers_down", "winners", "losers", "momentum_up", "momentum_down",
    "high_volume", "anomalies", "new_highs", "new_lows", "reversals", "filtered",
)  # fmt: skip
# Runs in the page: the time between frames, and tasks that held the page for over 50 ms.
RECORDER: Final = """() => {
    const record = (window.record = { frames: [], tasks: [] });
    let last = performance.now();
    const frame = (now) => { record.frames.push(now - last); last = now; requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    new PerformanceObserver((list) => record.tasks.push(...list.getEntries().map(({ duration }) => duration)))
        .observe({ entryTypes: ["longtask"] });
}"""
TAKE: Final = """() => {
    const { frames, tasks } = window.record;
    window.record.frames = [];
    window.record.tasks = [];
    return { frames, tasks, elements: document.getElementsByTagName("*").length };
}"""


class PageLoad(NamedTuple):
    """What was measured in a stretch of time.

    frames: milliseconds between one frame and the next. tasks: durations of those over 50 ms. elements: of the
    document. heap: bytes of the page's JavaScript after a garbage collection. messages, bytes: what the WebSocket
    server wrote in `seconds`, to this page if it has no other client.
    """

    frames: list[float]
    tasks: list[float]
    elements: int
    heap: int
    messages: float
    bytes: float
    seconds: float


@asynccontextmanager
async def stopped(mesh: Mesh, module: str) -> AsyncIterator[None]:
    """The processes of a service stand still inside: nothing answers, and no connection is closed."""
    assert mesh.process is not None
    pids = service_pids(mesh.process.pid, module)
    assert pids, module
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def symbols_of(client: httpx.AsyncClient, lists: list[str]) -> dict[str, list[str]]:
    rows = [(await client.get(f"/api/v1/scanner/lists/{name}")).json()["rows"] for name in lists]
    return {name: [row["symbol"] for row in found] for name, found in zip(lists, rows, strict=True)}


async def rows_of(client: httpx.AsyncClient, lists: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    return {name: (await client.get(f"/api/v1/scanner/lists/{name}")).json().get("rows", []) for name in lists}


async def check_rows(mesh: Mesh, page: Page) -> int:
    """Lists show the rows of the REST API, and have all of them with its values, while the market stands still.

    What was on its way when the market stopped may still arrive, and the second's mark still moves values of windows:
    both are read until they agree. Returns how many rows were compared.
    """
    async with stopped(mesh, "simulator"), httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:
        found, rows = ["not yet compared"], {}
        try:
            async with asyncio.timeout(COMPARE_SECONDS):
                while found:
                    await asyncio.sleep(0.25)
                    shown = await shown_rows(page)
                    rows = await rows_of(client, list(shown))
                    symbols = {name: [row["symbol"] for row in each] for name, each in rows.items()}
                    found = differences(shown, symbols) if shown else ["no table"]
        except TimeoutError:
            pass
        assert not found, found
        for panel in await page.locator(".list").all():
            name = (await panel.locator("select").input_value()).removeprefix("list:")
            await check_saved(client, page, panel, name)
        return sum(map(len, rows.values()))


async def check_saved(client: httpx.AsyncClient, page: Page, panel: Locator, name: str) -> None:
    """The CSV file of a list has the rows of the REST API, with its values."""
    wrong = ["not yet compared"]
    try:
        async with asyncio.timeout(COMPARE_SECONDS):
            while wrong:
                fields, saved = await saved_rows(page, panel)
                rows = (await rows_of(client, [name]))[name]
                expected = [[plain(row.get(field)) for field in fields] for row in rows]
                wrong = saved_differences(fields, saved, expected)
    except TimeoutError:
        pass
    assert not wrong, (name, wrong)


def saved_differences(
    fields: list[str], saved: list[list[str | float]], expected: list[list[str | float]]
) -> list[str]:
    """Returns where the saved rows are others than expected: each row's number, field and both values."""
    if len(saved) != len(expected):
        return [f"{len(saved)} rows saved, expected {len(expected)}"]
    return [
        f"row {number} {field}: {was!r}, expected {right!r}"
        for number, (row, wanted) in enumerate(zip(saved, expected, strict=True), 1)
        for field, was, right in zip(fields, row, wanted, strict=True)
        if was != right
    ]


async def saved_rows(page: Page, panel: Locator) -> tuple[list[str], list[list[str | float]]]:
    """Returns the fields and rows of the CSV file that a list is saved as."""
    await panel.get_by_role("button", name="Export").click()
    async with page.expect_download() as download:
        await page.get_by_role("dialog", name="Export").get_by_role("button", name="Download CSV").click()
    path = await (await download.value).path()
    fields, *rows = csv.reader(io.StringIO(await asyncio.to_thread(Path(path).read_text)))
    return fields, [[plain(cell) for cell in row] for row in rows]


def plain(value: Any) -> str | float:
    """A value of JSON or CSV: both write numbers in their own ways, and JSON has 64-bit integers as strings."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return float(value)
    except (TypeError, ValueError):
        return value or ""


async def written(mesh: Mesh) -> tuple[float, float]:
    """Returns how many messages and bytes the WebSocket server has written so far."""
    async with httpx.AsyncClient(timeout=10) as client:
        port = mesh.ports["websocket_server"] + mesh.metrics_offset
        text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    sums = {"tradeul_ws_messages_total": 0.0, "tradeul_ws_bytes_total": 0.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in sums:
                sums[sample.name] += sample.value
    return sums["tradeul_ws_messages_total"], sums["tradeul_ws_bytes_total"]


async def show_lists(context: BrowserContext, lists: Sequence[str], columns: int) -> None:
    """Pages that are opened in the context begin with these lists side by side, a list to a group."""
    panels = {
        f"list-{name}": {
            "id": f"list-{name}", "contentComponent": "list", "title": name,
            "params": {"parameters": {"list": name}, "colour": None},
        }
        for name in lists
    }  # fmt: skip
    leaves = [
        {"type": "leaf", "size": 300, "data": {"id": name, "views": [name], "activeView": name}} for name in panels
    ]
    height = -(-len(leaves) // columns)
    stacks = [
        {"type": "branch", "size": 500, "data": leaves[first : first + height]}
        for first in range(0, len(leaves), height)
    ]
    root = {"type": "branch", "size": 1200, "data": stacks}
    grid = {"root": root, "width": 500 * columns, "height": 1200, "orientation": "HORIZONTAL"}
    layout = json.dumps({"version": 1, "title": "Load", "dock": {"grid": grid, "panels": panels}})
    await context.add_init_script(f"sessionStorage['tradeul.layout'] ??= {json.dumps(layout)}")


async def load_of(mesh: Mesh, page: Page, seconds: float) -> PageLoad:
    """Measures the page for that long; the first call begins."""
    if not await page.evaluate("() => 'record' in window"):
        await page.evaluate(RECORDER)
    await page.evaluate(TAKE)
    began, before = monotonic(), await written(mesh)
    await asyncio.sleep(seconds)
    taken: dict[str, Any] = await page.evaluate(TAKE)
    messages, size = (now - then for now, then in zip(await written(mesh), before, strict=True))
    took = monotonic() - began
    session = await page.context.new_cdp_session(page)
    try:
        await session.send("HeapProfiler.collectGarbage")
        usage = await session.send("Runtime.getHeapUsage")
    finally:
        await session.detach()
    heap = round(usage["usedSize"])
    return PageLoad(taken["frames"], taken["tasks"], taken["elements"], heap, messages, size, took)
