"""A Chromium that looks at the dashboard, and what a test reads from its pages."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Error, Locator, Page, async_playwright

from tests.support import javascript

# The rows that each table shows, by the panel's list: its symbols by their place, and how many rows there are.
SHOWN = """() => Object.fromEntries([...document.querySelectorAll(".list")].map((panel) => [
    panel.querySelector("select").value.replace("list:", ""),
    {
        count: Number(panel.querySelector("[aria-rowcount]").getAttribute("aria-rowcount")) - 1,
        rows: [...panel.querySelectorAll("[role=row][data-symbol]")]
            .filter((row) => row.offsetParent !== null && row.hasAttribute("aria-rowindex"))
            .map((row) => [Number(row.getAttribute("aria-rowindex")) - 2, row.dataset.symbol])
            .sort((a, b) => a[0] - b[0]),
    },
]))"""
AXE = """() => {
    for (const each of document.getAnimations()) each.effect.getComputedTiming().endTime < Infinity && each.finish();
    return axe.run(document, { resultTypes: ["violations"] });
}"""
READY_MS = 60_000


class Looked:
    """Pages of one browser, and the errors of their consoles."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.errors: list[str] = []

    async def open(self, url: str, *, context: BrowserContext | None = None, **options: Any) -> Page:
        """Opens a page in a context of its own unless one is given; waits until it is connected."""
        context = context or await self.browser.new_context(**{"viewport": {"width": 1500, "height": 900}, **options})
        context.set_default_timeout(READY_MS)
        page = await context.new_page()
        page.on("console", self._console)
        page.on("pageerror", self._error)
        await page.goto(url)
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            # Of a request that failed, the text has no address.
            self.errors.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _error(self, error: Error) -> None:
        self.errors.append(f"uncaught: {error}")


@asynccontextmanager
async def looked() -> AsyncIterator[Looked]:
    """`async with looked() as browser`; leaves the test out where there is no Chromium."""
    program = javascript.chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(javascript.CHROMIUM_FLAGS))
        try:
            yield Looked(browser)
        finally:
            await browser.close()


async def live(page: Page) -> None:
    """Waits until the page is connected."""
    await page.wait_for_selector("footer[data-state=open]")


def rows_in(where: Page | Locator, symbol: str = "") -> Locator:
    """The rows that are shown, of one symbol or all, in no order: their elements come from a pool, with unused ones."""
    of_symbol = f"='{symbol}'" if symbol else ""
    return where.locator(f"[role=row][data-symbol{of_symbol}]:not(.tl-unused, .tl-leaving)")


async def shown_rows(page: Page) -> dict[str, dict[str, Any]]:
    """Returns what the tables show: {list: {"count": rows, "rows": [(index, symbol), ...]}}."""
    found: dict[str, dict[str, Any]] = await page.evaluate(SHOWN)
    return found


def differences(shown: dict[str, dict[str, Any]], lists: Mapping[str, Sequence[str]]) -> list[str]:
    """Returns where the shown rows are others than those of the lists."""
    found = []
    for name, table in shown.items():
        symbols = lists[name]
        if table["count"] != len(symbols):
            found.append(f"{name}: {table['count']} rows shown, {len(symbols)} in the list")
        if symbols and not table["rows"]:
            found.append(f"{name}: none of {len(symbols)} rows is shown")
        for index, symbol in table["rows"]:
            if index >= len(symbols) or symbols[index] != symbol:
                found.append(f"{name}: {symbol} at {index + 1}, expected {symbols[index : index + 1]}")
    return found


async def violations(page: Page, source: str) -> list[str]:
    """Returns what axe finds on the page, each with its elements. `source` is axe's own script."""
    await page.evaluate(source)
    # Animations of dialogs and rows would give colours in between: new ones are over at once, these now.
    await page.emulate_media(reduced_motion="reduce")
    result = await page.evaluate(AXE)
    return [
        f"{each['id']}: {each['help']}: {json.dumps([node['target'] for node in each['nodes'][:4]])}"
        for each in result["violations"]
    ]
