"""Axe finds nothing in the dashboard: its pages in both themes and on a phone, and what opens in them."""

import pytest
from playwright.async_api import expect

from tests.support.browser import Looked, live, rows_in, violations
from tests.support.mesh import Mesh

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


@pytest.mark.parametrize("scheme", ["dark", "light"])
async def test_axe_finds_nothing(mesh: Mesh, browser: Looked, axe: str, scheme: str) -> None:
    page = await browser.open(mesh.url, color_scheme=scheme)
    await live(page)
    await expect(rows_in(page).first).to_be_visible()
    assert await violations(page, axe) == []
    for key, name in (("?", "Keyboard shortcuts"), ("Alt+l", "Layouts"), ("Control+k", "Commands")):
        await page.keyboard.press(key)
        await expect(page.get_by_role("dialog", name=name)).to_be_visible()
        assert await violations(page, axe) == [], name
        await page.keyboard.press("Escape")
    for key, tab in (("F3", "Momentum up"), ("F4", "Reversals")):
        await page.keyboard.press(key)
        await expect(page.locator(".dv-tab").filter(has_text=tab)).to_be_visible()
        assert await violations(page, axe) == [], tab
    await page.get_by_role("button", name="Table", exact=True).click()
    await page.keyboard.press("Alt+h")
    await expect(page.get_by_role("region", name="Leaders of each list in turn")).to_be_visible()
    assert await violations(page, axe) == [], "hands-free"


async def test_axe_finds_nothing_in_what_opens(mesh: Mesh, browser: Looked, axe: str) -> None:
    page = await browser.open(f"{mesh.url}/#scan?title=All&filter=price+%3E+1&order_by=symbol")
    await live(page)
    panel = page.locator(".list").filter(has=page.get_by_label("Filter", exact=True))
    row = rows_in(panel).first
    await row.wait_for()
    found = {"scan editor": await violations(page, axe)}
    for name in ("Columns", "Alerts", "Export", "Excluded symbols and files of scans"):
        await panel.get_by_role("button", name=name).click()
        dialog = page.get_by_role("dialog", name=name)
        await expect(dialog).to_be_visible()
        if name == "Alerts":
            assert await dialog.evaluate("(box) => box.scrollWidth <= box.clientWidth"), "it is cut off"
        found[name] = await violations(page, axe)
        await page.keyboard.press("Escape")
    written = panel.get_by_label("Filter", exact=True)
    await written.fill("pricee > 1")
    await expect(panel.locator("mark")).to_have_text("pricee")
    found["a mistake"] = await violations(page, axe)
    await written.press("Control+Space")
    following = page.get_by_role("listbox", name="Filter: what can follow")
    await expect(following.get_by_role("option").first).to_be_visible()
    found["completion"] = await violations(page, axe)
    await written.press("Escape")
    # By keys, as rows move.
    await panel.get_by_role("grid").focus()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Shift+F10")
    await expect(page.get_by_role("menu")).to_be_visible()
    found["row menu"] = await violations(page, axe)
    await page.keyboard.press("Escape")
    await panel.get_by_label("List", exact=True).select_option("watch")
    # Which has no filter.
    await expect(page.locator(".list").filter(has_text="The watch list is empty.")).to_be_visible()
    found["watch list"] = await violations(page, axe)
    await page.get_by_role("button", name="About").click()
    await expect(page.get_by_role("dialog", name="About")).to_contain_text("Packages in this page")
    found["About"] = await violations(page, axe)
    await page.keyboard.press("Escape")
    await page.keyboard.press("/")
    find = page.get_by_role("dialog", name="Find a symbol")
    await find.get_by_role("combobox").fill("a")
    await expect(find.get_by_role("option").first).to_be_visible()
    found["search"] = await violations(page, axe)
    assert {name: each for name, each in found.items() if each} == {}


async def test_axe_finds_nothing_on_a_phone(mesh: Mesh, browser: Looked, axe: str) -> None:
    page = await browser.open(mesh.url, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    await live(page)
    await expect(rows_in(page).first).to_be_visible()
    assert await violations(page, axe) == []
