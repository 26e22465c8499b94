"""The dashboard's panels in a real Chromium: the market, a symbol, windows, links, the search, copies."""

import asyncio
import json
import re
from pathlib import Path

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from tests.support.browser import Looked, live, rows_in
from tests.support.mesh import Mesh

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


# In the chart, the background at its left differs from that at its right.
SHADED = """(chart) => {
    const canvases = [...chart.querySelectorAll("canvas")];
    const pane = canvases.sort((a, b) => b.width * b.height - a.width * a.height)[0];
    const context = pane.getContext("2d");
    const most = (from, to) => {
        const counts = new Map();
        for (let x = from; x < to; x += 1) {
            const color = [...context.getImageData(x, 2, 1, 1).data].join();
            counts.set(color, (counts.get(color) ?? 0) + 1);
        }
        return [...counts].sort((a, b) => b[1] - a[1])[0][0];
    };
    return most(5, pane.width / 4) !== most(pane.width - 12, pane.width - 2);
}"""


async def copied(page: Page) -> str:
    text: str = await page.evaluate("navigator.clipboard.readText()")
    return text


async def test_the_market_has_breadth_and_a_heat_map(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    breadth = page.locator(".breadth")
    for direction in ("up", "down"):
        await expect(breadth.locator(f".numbers .{direction}").first).to_have_text(re.compile(r"^\d[\d,]* \w+"))
    heat = page.get_by_role("application")
    await expect(heat).to_have_accessible_name(re.compile(r"^Heat map of all sectors, [1-9]\d* symbols"))
    # By keys: to a symbol, into its sector, back, and to its chart.
    shown = page.locator(".map .shown")
    await heat.focus()
    await expect(shown).to_contain_text(" · ")
    await page.keyboard.press("ArrowRight")
    symbol = (await shown.inner_text()).split(" · ")[0]
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:
        query = {"filter": f'symbol = "{symbol}"', "fields": "sector,is_etf", "limit": 1}
        row = (await client.post("/api/v1/scanner/scans:query", json=query)).json()["rows"][0]
    sector = row.get("sector") or ("Funds" if row.get("is_etf") else "Other")
    await page.keyboard.press("Space")
    await expect(heat).to_have_accessible_name(re.compile(rf"^Heat map of {re.escape(sector)}, [1-9]"))
    await page.keyboard.press("Backspace")
    await expect(heat).to_have_accessible_name(re.compile(r"^Heat map of all sectors"))
    chosen = (await shown.inner_text()).split(" · ")[0]
    await page.keyboard.press("Enter")
    await expect(page.locator(".dv-tab").filter(has_text=chosen).first).to_be_visible()
    # The same as text, by the other size, and one sector of it.
    await page.get_by_label("Size").select_option("market_cap")
    await page.get_by_role("button", name="Table", exact=True).click()
    table = page.get_by_role("region", name="The heat map as a table")
    await expect(table.get_by_role("columnheader", name="Market value")).to_be_visible()
    # Funds have no market value.
    sector = await table.locator("tr.group").get_by_role("button").first.inner_text()
    await table.get_by_role("button", name=sector, exact=True).click()
    await expect(page.get_by_role("navigation", name="Part of the market")).to_contain_text(sector)
    await expect(table.locator("tr.group").first).not_to_contain_text(sector)
    await page.get_by_role("button", name="All sectors").click()
    await expect(table.get_by_role("button", name=sector, exact=True)).to_be_visible()
    assert browser.errors == []


async def test_a_symbol_has_a_chart_levels_and_facts(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    chart = page.get_by_role("img", name=re.compile("^Chart of .*, 1-minute candles of .*, New York time; newest"))
    await expect(chart).to_be_visible()
    symbol = str(re.findall(r"Chart of (\S+),", str(await chart.get_attribute("aria-label")))[0])
    legend = page.locator(".view .legend")
    await expect(legend).to_contain_text(re.compile(r"\d\d:\d\d ET.*O.*H.*L.*C.*Vol.*VWAP", re.S))
    newest = (await legend.inner_text())[:5]
    # The whole day: the premarket is shaded, what is regular is not.
    await page.get_by_title("Show the whole day (Home)").click()
    await page.wait_for_function(SHADED, arg=await chart.element_handle())
    # Under the pointer, an earlier candle.
    box = await chart.bounding_box()
    assert box
    await page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    await expect(legend).not_to_contain_text(newest)
    await page.mouse.move(0, 0)
    await chart.focus()
    for key in ("End", "ArrowLeft", "ArrowRight", "+", "-", "Home"):
        await page.keyboard.press(key)
    # Levels are those of the row.
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:
        query = {"filter": f'symbol = "{symbol}"', "limit": 1}
        row = (await client.post("/api/v1/scanner/scans:query", json=query)).json()["rows"][0]
    facts = page.get_by_role("region", name="Facts")
    for title, field in (("Prev close", "prev_close"), ("Open", "open")):
        level = facts.get_by_role("row").filter(has=page.get_by_role("rowheader", name=re.compile(rf"\b{title}\b")))
        await expect(level).to_contain_text(f"{row[field]:.2f}" if row[field] >= 1 else f"{row[field]:.4f}")
    await expect(facts).to_contain_text(
        re.compile(r"Moves.*Gap.*Volume.*Range.*Levels.*Alerts.*Lists today.*Company", re.S)
    )
    # Of the lists that it was in, which ones is the market's choice.
    member = re.compile(r"[A-Z].*\d\s(s|min|h).*\d\d:\d\d", re.S)
    await expect(facts.get_by_role("listitem").filter(has_text=member).first).to_be_visible()
    await check_alerts(mesh, facts.get_by_role("region", name=f"Alerts of {symbol}"), symbol)
    await page.get_by_role("button", name="5m", exact=True).click()
    chart = page.get_by_role("img", name=re.compile("^Chart of .*, 5-minute candles"))
    await expect(chart).to_be_visible()
    # Minutes of five begin at multiples of five.
    await expect(legend).to_contain_text(re.compile(r"\d\d:\d[05] ET.*O.*H.*L.*C.*VWAP", re.S))
    volume = page.get_by_role("region", name="Volume today against the usual")
    await expect(volume).to_contain_text(re.compile(r"today.*usual.*\d.*mean of \d+ days", re.S))
    await volume.get_by_role("button", name="Day").click()
    await expect(volume.get_by_role("button", name="Day")).to_have_attribute("aria-pressed", "true")
    # This test itself reads the canvas again and again.
    assert [error for error in browser.errors if "getImageData" not in error] == []


async def check_alerts(mesh: Mesh, shown: Locator, symbol: str) -> None:
    """The symbol's alerts are those of the REST API, in its order, as soon as both are of the same moment."""
    found: tuple[list[str], list[str]] = ([], ["not read"])
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client, asyncio.timeout(60):
        while found[0] != found[1]:
            answer = (await client.get("/api/v1/alerts", params={"symbol": symbol, "limit": 20})).json()
            items = await shown.get_by_role("listitem").all()
            found = (
                [await item.get_attribute("data-position") or "" for item in items],
                [f"{alert['epoch']}/{alert['sequence']}" for alert in answer["alerts"]],
            )
            await asyncio.sleep(0.25)
    if not found[0]:
        await expect(shown).to_contain_text("None so far")


async def test_panels_are_floated_maximized_and_moved_to_windows(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    await rows_in(page).first.wait_for()
    shown = page.locator(".panel-content:visible")
    count = await shown.count()
    await page.keyboard.press("Alt+1")
    await page.keyboard.press("Alt+m")
    await expect(shown).to_have_count(1)
    await page.keyboard.press("Alt+m")
    await expect(shown).to_have_count(count)
    await page.keyboard.press("Alt+f")
    await expect(page.locator(".dv-resize-container .list")).to_be_visible()
    await page.keyboard.press("Alt+f")
    await expect(page.locator(".dv-resize-container")).to_have_count(0)
    async with page.expect_popup() as waiting:
        await page.keyboard.press("Alt+o")
    window = await waiting.value
    await rows_in(window).first.wait_for()
    await expect(window.locator("html")).to_have_attribute("data-theme", re.compile("dark|light"))
    # Its rows turn the page's chart.
    symbol = await rows_in(window).nth(1).get_attribute("data-symbol")
    assert symbol
    await rows_in(window, symbol).click()
    await expect(page.locator(".dv-tab").filter(has_text=symbol)).to_be_visible()
    await window.close()
    await expect(page.locator(".list").first).to_be_visible()
    assert browser.errors == []


async def test_layouts_and_scans_are_shared_by_links_and_files(mesh: Mesh, browser: Looked) -> None:
    context = await browser.browser.new_context(
        viewport={"width": 1500, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    scan = f"{mesh.url}/#scan?title=Cheap&filter=price+%3C+50&order_by=price&limit=20"
    page = await browser.open(scan, context=context)
    await live(page)
    panel = page.locator(".list").filter(has=page.get_by_label("Filter", exact=True))
    await panel.get_by_role("button", name="Copy link").click()
    await expect(panel.locator(".notice")).to_contain_text("clipboard")
    assert await copied(page) == scan
    await panel.get_by_role("button", name="Save", exact=True).click()
    await panel.get_by_label("Name of the scan").press("Enter")
    await expect(panel.get_by_role("button", name="Saved")).to_be_visible()
    more = "Excluded symbols and files of scans"
    await panel.get_by_role("button", name=more).click()
    async with page.expect_download() as waiting:
        await page.get_by_role("button", name="Save to a file").click()
    file = Path(await (await waiting.value).path())
    scans = json.loads(await asyncio.to_thread(file.read_text))["tradeul_scans"]
    assert scans == [{"title": "Cheap", "filter": "price < 50", "order_by": "price", "limit": 20}]
    await page.keyboard.press("Escape")
    await page.keyboard.press("Alt+l")
    await page.get_by_role("button", name="Copy a link to it").click()
    await expect(page.get_by_role("dialog", name="Layouts")).to_contain_text("The link is in the clipboard")
    link = await copied(page)
    # A browser that has seen neither.
    other = await browser.open(link)
    await live(other)
    await expect(other.locator(".dv-tab").filter(has_text="Cheap")).to_be_visible()
    assert "#" not in other.url
    first = other.locator(".list").first
    await first.get_by_role("button", name=more).click()
    await other.get_by_label("File of scans").set_input_files(file)
    await other.keyboard.press("Escape")
    await first.get_by_label("List", exact=True).select_option("scan:Cheap")
    await expect(first.get_by_label("Filter", exact=True)).to_have_value("price < 50")
    assert browser.errors == []


async def test_symbols_are_found_by_company_and_rows_are_copied(mesh: Mesh, browser: Looked) -> None:
    context = await browser.browser.new_context(
        viewport={"width": 1500, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    page = await browser.open(mesh.url, context=context)
    await live(page)
    panel = page.locator(".list").first
    await rows_in(panel).first.wait_for()
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:
        row = (await client.get("/api/v1/scanner/lists/gappers_up?limit=3")).json()["rows"][-1]
    await page.keyboard.press("/")
    find = page.get_by_role("dialog", name="Find a symbol")
    await find.get_by_role("combobox").fill(row["company_name"])
    await find.get_by_role("option").filter(has_text=row["symbol"]).first.click()
    await expect(page.locator(".dv-tab").filter(has_text=row["symbol"]).first).to_be_visible()
    await panel.get_by_role("button", name="Export").click()
    await page.get_by_role("button", name="Copy rows").click()
    await expect(panel.locator(".notice")).to_have_text("Rows copied.")
    head, *lines = (await copied(page)).split("\n")
    assert head.split("\t")[:2] == ["rank", "symbol"]
    assert [line.split("\t")[0] for line in lines] == [str(rank + 1) for rank in range(len(lines))]
    assert lines
    assert browser.errors == []
