"""The panel of alerts in a real Chromium: its log is that of the API, rules are written in it, and a rule is heard."""

import asyncio
import re
from typing import Any

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from tests.dashboard.test_alerts import first_said, noted_page
from tests.support.browser import Looked, violations
from tests.support.dashboard import COMPARE_SECONDS, stopped
from tests.support.mesh import Mesh

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

TITLE = "Volume grows"


async def add_panel(page: Page) -> None:
    await page.get_by_role("button", name="Add panel").click()
    await page.keyboard.type("alerts")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("region", name="Alert log")).to_be_visible()


async def write_rule(page: Page, when: str) -> Locator:
    """Fills the editor of a new rule, and tries to create it."""
    await page.get_by_role("button", name="Rules", exact=True).click()
    await page.get_by_role("button", name="New rule").click()
    editor = page.get_by_role("form", name="New rule")
    await editor.get_by_label("When", exact=True).fill(when)
    # What could follow is offered below until the text has lost the focus.
    await editor.get_by_label("Title").fill(TITLE)
    await editor.get_by_label("How often for one symbol").select_option("day")
    await editor.get_by_role("button", name="Create").click()
    return editor


async def shown(page: Page) -> list[str]:
    """Positions of the alerts in the log."""
    rows = await page.locator(".log tbody tr").all()
    return [await row.get_attribute("data-position") or "" for row in rows[:20]]


async def stored(client: httpx.AsyncClient, **query: Any) -> list[str]:
    alerts = (await client.get("/api/v1/alerts", params={"limit": 20, **query})).json()["alerts"]
    return [f"{alert['epoch']}/{alert['sequence']}" for alert in alerts]


async def check_log(mesh: Mesh, page: Page, **query: Any) -> None:
    """The log has the alerts of the REST API, in its order, while the market stands still."""
    async with stopped(mesh, "simulator"), httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:
        found: tuple[list[str], list[str]] = ([], [])
        try:
            async with asyncio.timeout(COMPARE_SECONDS):
                while not found[0] or found[0] != found[1]:
                    await asyncio.sleep(0.25)
                    found = await shown(page), await stored(client, **query)
        except TimeoutError:
            pass
        assert found[0], "no alerts"
        assert found[0] == found[1]


async def check_trial(editor: Locator) -> None:
    """The rule has alerts over the minute bars of the day, as soon as some are stored."""
    day = editor.get_by_role("row").filter(has_text="2026-03-10")
    async with asyncio.timeout(120):
        while True:
            await editor.get_by_role("button", name="Try on past days").click()
            await expect(editor.get_by_role("button", name="Stop")).to_have_count(0)
            if await day.count():
                break
            await asyncio.sleep(2)
    await expect(day.get_by_role("cell").first).to_have_text(re.compile(r"^[1-9]"))
    await expect(day).to_contain_text("minute bars")


async def test_a_rule_is_written_and_its_alerts_are_shown_and_heard(mesh: Mesh, browser: Looked, axe: str) -> None:
    page = await noted_page(mesh, browser)
    await add_panel(page)
    editor = await write_rule(page, "grows(volume_toda)")
    await expect(editor.get_by_role("alert")).to_contain_text("volume_today")
    await expect(editor.locator("mark")).to_have_text("volume_toda")
    assert await violations(page, axe) == []
    await editor.get_by_label("When", exact=True).fill("grows(volume_today)")
    await editor.get_by_label("Title").focus()
    await check_trial(editor)
    await editor.get_by_label("When", exact=True).focus()
    await page.keyboard.press("Enter")
    await expect(editor).to_have_count(0)
    own = page.get_by_role("row").filter(has=page.get_by_role("button", name=TITLE, exact=True))
    await own.get_by_role("checkbox", name=f"{TITLE}: Speech").check()
    await own.get_by_role("checkbox", name=f"{TITLE}: Sound").check()
    await first_said(page, TITLE)
    await page.wait_for_function("() => tones.includes(990)")
    # Its alerts alone.
    await own.get_by_role("button", name=TITLE, exact=True).click()
    await expect(page.locator(".log tbody tr").first).to_contain_text(TITLE)
    await check_log(mesh, page, rules="volume_grows")
    assert await violations(page, axe) == []
    await page.get_by_role("textbox", name="Filter of alerts").fill("price > 20")
    await page.keyboard.press("Enter")
    await check_log(mesh, page, rules="volume_grows", filter="price > 20")
    await page.get_by_role("button", name="Rules", exact=True).click()
    await own.get_by_role("button", name=f"Delete {TITLE}").click()
    await expect(own).to_have_count(0)


async def test_an_event_is_written_with_what_is_offered(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await add_panel(page)
    await page.get_by_role("button", name="Rules", exact=True).click()
    await page.get_by_role("button", name="New rule").click()
    when = page.get_by_role("form", name="New rule").get_by_label("When", exact=True)
    offered = page.get_by_role("listbox", name="When: what can follow").get_by_role("option")
    await when.focus()
    for typed, taken in [
        ("ent", "enters("),
        ("sca", "enters(scan("),
        ("hal", "enters(scan(halted "),
        (", gap_p", "enters(scan(halted , gap_percent "),
        ("des", "enters(scan(halted , gap_percent desc "),
    ]:
        await page.keyboard.type(typed)
        await expect(offered.first).to_be_visible()
        await page.keyboard.press("Enter")
        await expect(when).to_have_value(taken)
    await page.keyboard.type(", 20)) or lea")
    await page.keyboard.press("Enter")
    await page.keyboard.type("gap")
    await expect(offered).to_have_text([re.compile("Gappers up"), re.compile("Gappers down")])
    await page.keyboard.press("Enter")
    await page.keyboard.type(", 5")
    await expect(when).to_have_value('enters(scan(halted , gap_percent desc , 20)) or leaves("gappers_up" , 5')
    # A parenthesis is missing: the mistake is marked where it is noticed.
    await page.get_by_label("Title").fill("Written")
    await page.get_by_role("button", name="Create").click()
    await expect(page.get_by_role("form", name="New rule").get_by_role("alert")).to_contain_text("expected ')'")


async def test_a_shipped_rule_is_switched_off_and_on(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await add_panel(page)
    await page.get_by_role("button", name="Rules", exact=True).click()
    await page.get_by_role("searchbox", name="Search rules").fill("trading halted")
    switch = page.get_by_role("checkbox", name="Trading halted: on")
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:
        for wanted in (False, True):
            await switch.set_checked(wanted)
            async with asyncio.timeout(60):
                while (await client.get("/api/v1/alerts/rules/halt")).json()["enabled"] is not wanted:
                    await asyncio.sleep(0.1)
    await expect(switch).to_be_checked()
    assert browser.errors == []
