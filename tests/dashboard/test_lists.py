"""The dashboard's lists in a real Chromium: filters, columns, held ranks, own symbols, exports."""

import asyncio
import csv
import io
import re
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from playwright.async_api import FloatRect, Locator, Page, expect

from tests.support.browser import Looked, live, rows_in
from tests.support.dashboard import show_lists
from tests.support.mesh import Mesh

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]
PATIENCE_MS = 60_000


async def open_scan(browser: Looked, mesh: Mesh, **scan: str) -> tuple[Page, Locator]:
    """The dashboard by a scan's link, and the scan's panel."""
    page = await browser.open(f"{mesh.url}/#scan?{urlencode(scan)}")
    await live(page)
    panel = page.locator(".list").filter(has=page.get_by_label("Filter", exact=True))
    await expect(panel).to_be_visible()
    return page, panel


async def place(locator: Locator) -> FloatRect:
    box = await locator.bounding_box()
    assert box is not None
    return box


async def shown(panel: Locator) -> list[str]:
    """The symbols of the panel's rows from top to bottom."""
    found: list[str] = await panel.evaluate(
        """(panel) => [...panel.querySelectorAll(".tl-row[aria-rowindex]:not(.tl-unused)")]
            .sort((a, b) => a.ariaRowIndex - b.ariaRowIndex).map((row) => row.dataset.symbol)"""
    )
    return found


async def technology(mesh: Mesh) -> list[str]:
    """The symbols of technology with a price, by REST."""
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:
        query = {"filter": 'sector = "Technology" AND price < 100000', "order_by": "symbol", "limit": 500}
        rows = (await client.post("/api/v1/scanner/scans:query", json=query)).json()["rows"]
    return [row["symbol"] for row in rows]


async def test_a_scan_is_found_filtered_saved_and_shared(mesh: Mesh, browser: Looked) -> None:
    page, panel = await open_scan(browser, mesh, title="Linked", filter="price > 20", order_by="price desc")
    await expect(rows_in(panel).first).to_be_visible()
    written = panel.get_by_label("Filter", exact=True)
    await expect(written).to_have_value("price > 20")
    # Fields, operators and values are completed by keys.
    await written.fill("")
    await written.press_sequentially("sect")
    await expect(page.get_by_role("option", name="sector").first).to_be_visible()
    await written.press("Enter")
    # The completion ends with a space, and so does one who types.
    await written.press_sequentially(' = "Tech')
    await written.press("Enter")
    await expect(written).to_have_value('sector = "Technology" ')
    # A mistake is marked where it is, with what was probably meant.
    await written.press_sequentially("AND pricee < 100000")
    await written.press("Escape")
    await expect(panel.locator("mark")).to_have_text("pricee")
    # Until its first trade a symbol has no price.
    least = len(await technology(mesh))
    await panel.get_by_role("button", name="Use price").click()
    await expect(written).to_have_value('sector = "Technology" AND price < 100000')
    # The number of matches is there before the rows.
    found = panel.get_by_role("status").filter(has_text=re.compile(r"\d+ match"))
    await expect(found).to_be_visible()
    matches = int(re.findall(r"\d+", await found.inner_text())[0])
    assert least <= matches <= len(await technology(mesh))
    await panel.get_by_label("Order by", exact=True).fill("symbol")
    await panel.get_by_role("button", name="Run").click()
    async with asyncio.timeout(60):
        while (await shown(panel))[:3] != (await technology(mesh))[:3]:
            await asyncio.sleep(0.1)
    await panel.get_by_role("button", name="Save", exact=True).click()
    await expect(panel.get_by_label("Name of the scan")).to_be_focused()
    await page.keyboard.type("Tech")
    await page.keyboard.press("Enter")
    await expect(panel.get_by_role("button", name="Saved")).to_be_focused()
    await expect(page.locator(".dv-tab").filter(has_text="Tech")).to_be_visible()
    await page.wait_for_function("() => /.title.:.Tech./.test(sessionStorage['tradeul.layout'])")
    await page.reload()
    await expect(panel.get_by_label("List", exact=True)).to_have_value("scan:Tech")
    # Another one is written from anywhere, at once.
    await page.keyboard.press("Alt+s")
    await expect(page.locator("textarea:focus")).to_have_attribute("aria-label", "Filter")
    assert browser.errors == []


async def test_a_page_of_another_origin_shows_a_list(mesh: Mesh, browser: Looked) -> None:
    """By the gateway's one address that is for other pages; in columns of which the dashboard shows none at first."""
    element = '<tradeul-list list="gappers_up" columns="rank,symbol,price,exchange" style="height:9em"></tradeul-list>'
    content = f'<!doctype html>{element}<script type="module" src="{mesh.url}/tradeul-list.js"></script>'

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close"
        writer.write(f"{head}\r\ncontent-length: {len(content)}\r\n\r\n{content}".encode())
        await writer.drain()
        writer.close()

    # A page that Playwright makes up has no address, and Chromium lets none but pages of this machine load from it.
    other = await asyncio.start_server(answer, "127.0.0.1", 0)
    page = await browser.open(f"http://localhost:{other.sockets[0].getsockname()[1]}/")
    await expect(page.locator("tradeul-list .tl-label")).to_have_text(["#", "Symbol", "Price", "Exch"])
    first = page.locator("tradeul-list [role=row][aria-rowindex='2'] [role=gridcell]")
    await expect(first).to_have_text(["1", re.compile(r"\w+"), re.compile(r"\d+\.\d\d"), re.compile("[A-Z]+")])
    other.close()
    assert browser.errors == []


async def test_columns_sort_and_keys(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    panel = page.locator(".list").first
    await expect(rows_in(panel).first).to_be_visible()
    price = panel.locator(".tl-th[data-field=price]")
    width = (await place(price))["width"]
    await price.focus()
    for _ in range(4):
        await page.keyboard.press("Shift+ArrowRight")
    await page.keyboard.press("Enter")
    await expect(price).to_have_attribute("aria-sort", "descending")
    await page.keyboard.press("Alt+ArrowRight")
    await panel.get_by_role("button", name="Columns").click()
    chooser = page.get_by_role("dialog", name="Columns")
    await chooser.get_by_label("Find a column").fill("sector")
    await chooser.get_by_role("checkbox", name="Sector").check()
    await page.keyboard.press("Escape")
    await expect(panel.locator(".tl-th[data-field=sector]")).to_be_visible()
    await page.reload()
    fields = [await cell.get_attribute("data-field") for cell in await panel.locator(".tl-th").all()]
    assert fields[:4] == ["rank", "symbol", "change_percent", "price"]
    assert fields[-1] == "sector"
    assert (await place(price))["width"] == width + 32
    # The keyboard's row; Enter turns the linked symbol.
    await expect(rows_in(panel).first).to_be_visible()
    await panel.get_by_role("grid").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("ArrowDown")
    active = panel.locator(".tl-active")
    symbol = await active.get_attribute("data-symbol")
    await page.keyboard.press("Enter")
    await expect(page.locator(".dv-tab").filter(has_text=str(symbol))).to_be_visible()
    await expect(panel.locator(f".tl-row[data-symbol='{symbol}'][aria-selected=true]")).to_be_visible()
    assert browser.errors == []


async def test_ranks_hold_still_under_the_pointer(mesh: Mesh, browser: Looked) -> None:
    page, panel = await open_scan(browser, mesh, filter="", order_by="updated_at desc", title="Newest")
    await expect(rows_in(panel).nth(5)).to_be_visible()
    # Rows that move are never still enough for a click: the pointer goes to a place.
    box = await place(panel.locator(".tl-body"))
    await page.mouse.move(box["x"] + 60, box["y"] + 40)
    await page.mouse.move(box["x"] + 60, box["y"] + 50)
    # From the first change that waits on, what is shown is what was held.
    waiting = panel.locator(".tl-waiting")
    await expect(waiting).to_be_visible(timeout=PATIENCE_MS)
    held = await shown(panel)
    await expect(waiting).to_contain_text("moved", timeout=PATIENCE_MS)
    assert await shown(panel) == held
    await panel.get_by_label("Filter", exact=True).hover()
    await expect(waiting).to_be_hidden()
    async with asyncio.timeout(60):
        while await shown(panel) == held:
            await asyncio.sleep(0.1)
    assert browser.errors == []


async def test_symbols_are_watched_and_excluded_from_a_row(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    panel = page.locator(".list").first
    await expect(rows_in(panel).nth(2)).to_be_visible()
    first, second = (await shown(panel))[:2]
    await rows_in(panel, first).click(button="right")
    await page.get_by_role("menuitem", name="Put on the watch list").click()
    await expect(panel.locator(f".tl-row[data-symbol='{first}'].tl-starred")).to_be_visible()
    await rows_in(panel, second).click(button="right")
    await page.get_by_role("menuitem", name="Exclude from all lists").click()
    await expect(rows_in(panel, second)).to_have_count(0)
    await expect(panel.locator(".count")).to_contain_text("excluded")
    # The watch list is a list of its own, of the symbols as they are added.
    await panel.get_by_label("List", exact=True).select_option("watch")
    async with asyncio.timeout(60):
        while await shown(panel) != [first]:
            await asyncio.sleep(0.1)
    await panel.get_by_label("Add symbols: Watched").fill("nosuch aapl")
    await panel.get_by_role("button", name="Add").click()
    await expect(panel.get_by_role("button", name="Take AAPL off")).to_be_visible()
    assert browser.errors == []


async def test_changes_are_marked_and_logged(mesh: Mesh, browser: Looked) -> None:
    context = await browser.browser.new_context(viewport={"width": 900, "height": 500})
    await show_lists(context, ["new_highs"], columns=1)
    page = await browser.open(mesh.url, context=context)
    await live(page)
    panel = page.locator(".list")
    await expect(rows_in(panel).first).to_be_visible()
    await page.wait_for_function("() => document.querySelector('.tl-flash-a, .tl-flash-b')")
    await page.wait_for_function("() => document.querySelector('.tl-enter-a, .tl-enter-b')")
    # Where frames are slow, a row that leaves does not fade.
    await page.wait_for_function("() => document.querySelector('.tl-leaving, .tl-still')")
    log = page.get_by_role("listbox", name="Log of New highs")
    entry = re.compile(r"^\d\d:\d\d:\d\d(in|out)[A-Z.]+#\d+\d+\.\d\d")
    await expect(log.get_by_role("option").first).to_have_text(entry)
    for way in ("in", "out"):
        await expect(log.locator(".tl-log-what").filter(has_text=way).first).to_be_attached()
    # By keys: an entry, and its symbol in the row's panels.
    await log.focus()
    await page.keyboard.press("Home")
    chosen = await log.locator("[aria-selected=true]").get_attribute("data-symbol")
    assert chosen
    await page.keyboard.press("Enter")
    await expect(page.locator(".dv-tab").filter(has_text=chosen).first).to_be_visible()
    height = (await place(log))["height"]
    await page.get_by_role("separator", name="Height of the log").press("ArrowUp")
    assert (await place(log))["height"] == height + 20
    await panel.get_by_role("button", name="Log").click()
    await expect(log).to_be_hidden()
    assert browser.errors == []


async def test_the_log_of_a_scan_outlives_the_page(mesh: Mesh, browser: Looked) -> None:
    page, _ = await open_scan(browser, mesh, filter="price_from_intraday_high >= -0.1", title="High")
    log = page.get_by_role("listbox", name="Log of High")
    newest = log.get_by_role("option").first
    await expect(newest).to_be_visible()
    await page.wait_for_function("() => sessionStorage['tradeul.layout']?.includes('price_from_intraday_high')")
    time, symbol = await newest.evaluate("(entry) => [entry.firstElementChild.textContent, entry.dataset.symbol]")
    await page.reload()
    await expect(log.locator(f"[data-symbol='{symbol}']").filter(has_text=time).first).to_be_attached()
    assert browser.errors == []


async def test_an_empty_list_says_why_and_badges_say_what(mesh: Mesh, browser: Looked) -> None:
    page, panel = await open_scan(browser, mesh, filter="price > 1000000", order_by="symbol", title="None")
    await expect(panel).to_contain_text("No symbol matches now: price > 1000000.")
    await panel.get_by_label("Filter", exact=True).fill("is_etf")
    await panel.get_by_role("button", name="Run").click()
    fund = rows_in(panel).first.locator(".tl-badge-type")
    await expect(fund).to_have_text("ETF")
    await expect(fund).to_have_attribute("title", "exchange-traded fund")
    await panel.get_by_label("List", exact=True).select_option("list:post_market")
    await expect(page.locator(".list").filter(has_text="This list fills after the regular close.")).to_be_visible()
    assert browser.errors == []


async def test_rows_are_exported(mesh: Mesh, browser: Looked) -> None:
    context = await browser.browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = await browser.open(mesh.url, context=context)
    await live(page)
    panel = page.locator(".list").first
    await expect(rows_in(panel).first).to_be_visible()
    await panel.get_by_role("button", name="Export").click()
    exports = page.get_by_role("dialog", name="Export")
    link = await exports.get_by_role("link").get_attribute("href")
    assert link == f"{mesh.url}/api/v1/scanner/lists/gappers_up?limit=100"
    await exports.get_by_role("button", name="Copy curl").click()
    assert await page.evaluate("navigator.clipboard.readText()") == f"curl '{link}'"
    await panel.get_by_role("button", name="Export").click()
    async with page.expect_download() as waiting:
        await exports.get_by_role("button", name="Download CSV").click()
    path = await (await waiting.value).path()
    rows = list(csv.DictReader(io.StringIO(await asyncio.to_thread(Path(path).read_text))))
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    assert all(float(row["gap_percent"]) >= 2 for row in rows)
    assert rows
    assert browser.errors == []
