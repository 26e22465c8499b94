"""The dashboard in a real Chromium, at a real mesh on the simulator."""

import asyncio
import os
import re
import signal

import httpx
import pytest
from playwright.async_api import expect

from services.cli.local.site import site_files
from tests.support.browser import Looked, live, rows_in
from tests.support.dashboard import check_rows, stopped
from tests.support.mesh import Mesh, service_pids

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


async def test_the_first_page_shows_the_lists_as_they_are(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    await expect(page.locator("header nav button")).to_have_text(["Gappers", "Momentum", "Halts"])
    await expect(rows_in(page).first).to_be_visible()
    # The market's time, its session with a countdown, and whose market it is.
    await expect(page.locator("footer")).to_contain_text(
        re.compile(r"Simulated market.*\d\d:\d\d:\d\d ET.*\d:\d\d:\d\d")
    )
    await expect(page.locator("footer")).to_contain_text(re.compile(r"lag.*\d s"))
    # The chart of the first symbol, without a click.
    await expect(page.locator("canvas").first).to_be_visible()
    await check_rows(mesh, page)
    assert browser.errors == []


async def test_all_is_done_by_keys(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_contain_text("Find a symbol")
    await page.keyboard.press("Escape")
    # A ticker, from anywhere by typing.
    symbol = await rows_in(page).nth(2).get_attribute("data-symbol")
    assert symbol
    await page.keyboard.type(symbol)
    await expect(page.get_by_role("dialog", name="Find a symbol")).to_contain_text(symbol)
    await page.keyboard.press("Enter")
    await expect(page.locator(".dv-tab").filter(has_text=symbol)).to_be_visible()
    # A command by its name: another preset.
    await page.keyboard.press("Control+k")
    await page.keyboard.type("preset momentum")
    await page.keyboard.press("Enter")
    await expect(page.locator(".dv-tab").filter(has_text="Momentum up")).to_be_visible()
    # One dialog after another, without a pause: the end of the one does not close the other.
    await page.keyboard.press("Control+k")
    await page.keyboard.type("layouts")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog")).to_have_accessible_name("Layouts")
    for key, name in (
        ("Control+k", "Commands"),
        ("/", "Find a symbol"),
        ("?", "Keyboard shortcuts"),
        ("Alt+l", "Layouts"),
    ) * 3:
        await page.keyboard.press("Escape")
        await page.keyboard.press(key)
        await page.evaluate("() => new Promise(setTimeout)")
        await expect(page.get_by_role("dialog")).to_have_accessible_name(name)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog")).to_have_count(0)
    # Panels: another one, larger, and closed.
    count = await page.locator(".dv-tab").count()
    await page.keyboard.press("Alt+n")
    await page.keyboard.type("scan")
    await page.keyboard.press("Enter")
    await expect(page.locator(".dv-tab")).to_have_count(count + 1)
    # What is typed next is its filter.
    written = page.get_by_label("Filter", exact=True)
    await expect(written).to_be_focused()
    await page.keyboard.type("rvol > 1")
    await expect(written).to_have_value("rvol > 1")
    await page.keyboard.press("Escape")
    await page.keyboard.press("Enter")
    await page.locator(".dv-active-group .dv-active-tab").focus()
    await page.keyboard.press("Alt+w")
    await expect(page.locator(".dv-tab")).to_have_count(count)
    await page.keyboard.press("Alt+n")
    await page.keyboard.type("connection")
    await page.keyboard.press("Enter")
    positions = page.locator(".connection tbody tr")
    await expect(positions.filter(has_text="momentum_up")).to_contain_text(re.compile(r"\d+/\d+"))
    # From group to group, and from tab to tab.
    for key in ("Alt+ArrowLeft", "Alt+ArrowRight", "Alt+ArrowUp", "Alt+ArrowDown", "Alt+PageDown", "Alt+PageUp"):
        await page.keyboard.press(key)
    await page.keyboard.press("Alt+1")
    await expect(page.locator(".dv-active-group .dv-active-tab")).to_contain_text("Momentum up")
    # The mouse's way to close a panel.
    await page.locator(".dv-tab").filter(has_text="Connection").hover()
    await page.get_by_title("Close Connection (Alt W)").click()
    await expect(page.locator(".dv-tab")).to_have_count(count)
    await page.keyboard.press("Alt+h")
    leaders = page.get_by_role("region", name="Leaders of each list in turn")
    await expect(leaders).to_be_visible()
    await leaders.get_by_role("button", name="Pause").click()
    before = await leaders.get_by_role("heading").inner_text()
    await leaders.get_by_role("button", name="Next list").click()
    await expect(leaders.get_by_role("heading")).not_to_have_text(before)
    await leaders.get_by_role("button", name="Previous list").click()
    await expect(leaders.get_by_role("heading")).to_have_text(before)
    await page.keyboard.press("Alt+h")
    await expect(page.locator(".dv-tab")).to_have_count(count)
    for theme in ("dark", "light"):
        await page.keyboard.press("Alt+t")
        await expect(page.locator("html")).to_have_attribute("data-theme", theme)
    assert browser.errors == []


async def test_a_layout_is_kept_saved_and_shared(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    await page.get_by_role("button", name="Halts", exact=True).click()
    await expect(page.locator(".dv-tab").filter(has_text="Reversals")).to_be_visible()
    await page.keyboard.press("Alt+l")
    await page.get_by_label("Name of the present layout").fill("Mine")
    await page.get_by_role("button", name="Save", exact=True).click()
    dialog = page.get_by_role("dialog", name="Layouts")
    await expect(dialog).to_contain_text("Saved as “Mine”")
    async with page.expect_download() as waiting:
        await page.get_by_label("Save Mine as a file").click()
    file = await (await waiting.value).path()
    await page.keyboard.press("Escape")
    await page.get_by_role("button", name="Gappers", exact=True).click()
    await expect(page.locator(".dv-tab").filter(has_text="Gappers down")).to_be_visible()
    await page.wait_for_function("() => sessionStorage['tradeul.layout']?.includes('gappers_down')")
    await page.reload()
    await expect(page.locator(".dv-tab").filter(has_text="Gappers down")).to_be_visible()
    # From the file, in a browser that has never seen it.
    other = await browser.open(mesh.url)
    await live(other)
    await other.keyboard.press("Alt+l")
    await other.get_by_label("Open a file").set_input_files(file)
    await expect(other.locator(".dv-tab").filter(has_text="Reversals")).to_be_visible()
    assert browser.errors == []


async def test_two_windows_share_a_connection(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    other = await browser.open(mesh.url, context=page.context)
    await expect(page.locator("footer")).to_contain_text("2 windows")
    await expect(other.locator("footer")).to_contain_text("2 windows")
    await check_rows(mesh, other)
    # A click in one turns the linked chart in both.
    row = rows_in(other).nth(1)
    symbol = await row.get_attribute("data-symbol")
    assert symbol
    await rows_in(other, symbol).first.click()
    for each in (page, other):
        await expect(each.locator(".dv-tab").filter(has_text=symbol).first).to_be_visible()
    await other.close()
    await expect(page.locator("footer")).not_to_contain_text("windows")
    assert browser.errors == []


async def test_a_lost_connection_is_visible_and_goes_on(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    assert mesh.process is not None
    # It may be back within a second: looked for in every frame, from before.
    lost = asyncio.create_task(
        page.wait_for_function("() => document.querySelector('.banner')?.textContent.includes('Connection lost')")
    )
    await asyncio.sleep(0)
    for pid in service_pids(mesh.process.pid, "websocket_server"):
        os.kill(pid, signal.SIGKILL)
    await lost
    await expect(page.locator(".banner")).not_to_be_visible()
    await check_rows(mesh, page)
    # A cut without a word: nothing comes, nothing is closed.
    async with stopped(mesh, "websocket_server"):
        await expect(page.locator(".banner")).to_contain_text("no answer")
    await expect(page.locator(".banner")).not_to_be_visible()
    await check_rows(mesh, page)
    assert not [error for error in browser.errors if error.startswith("uncaught")]


async def test_the_scanner_is_killed_and_comes_back(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    assert mesh.process is not None
    before = service_pids(mesh.process.pid, "scanner")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60), httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:
        while not (service_pids(mesh.process.pid, "scanner") - before):
            await asyncio.sleep(0.1)
        while (await client.get("/api/v1/scanner/lists/gappers_up")).status_code != 200:
            await asyncio.sleep(0.2)
    await live(page)
    await check_rows(mesh, page)
    assert not [error for error in browser.errors if error.startswith("uncaught")]


async def test_a_phone_shows_one_panel_at_a_time(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    await live(page)
    await expect(rows_in(page).first).to_be_visible()
    assert await page.locator(".panel-content:visible").count() == 1
    assert await page.evaluate("() => document.documentElement.scrollWidth") <= 390
    await check_rows(mesh, page)
    assert browser.errors == []


async def test_nothing_of_the_page_names_another_host() -> None:
    """Links and names of formats aside, the page's own files ask nobody else for anything."""
    for name, path in site_files().items():
        if path.suffix in (".html", ".css"):
            text = path.read_text(encoding="utf-8")
            assert not re.findall(r"(?:src|href|url\()\s*=?\s*[\"']?(?:https?:)?//", text), name
