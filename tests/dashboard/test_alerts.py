"""Alerts in a real Chromium: what happens in a list is spoken, played and shown, once, and not in quiet hours.

The first file: it moves the market to the day's first halt, and past its end.
"""

import datetime
import re
from typing import Any

import httpx
import pytest
from playwright.async_api import Locator, Page, expect

from services.kit.runtime.clock import NS_PER_SECOND
from tests.support.browser import Looked, live, rows_in
from tests.support.halts import MINUTE_NS, change_time, halts_of, jump
from tests.support.mesh import Mesh

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]
# Chromium without a screen has neither voices nor notifications, and nobody hears its tones: what the page would have
# made of them is noted instead.
NOTED = """
window.said = [];
window.shown = [];
window.tones = [];
SpeechSynthesisUtterance = class { constructor(text) { this.text = text; } };
Object.defineProperty(window, "speechSynthesis", { value: {
    speak: ({ text, volume, onend }) => { said.push({ text, volume }); onend?.(); }, cancel() {},
} });
Notification = class {
    static permission = "default";
    static async requestPermission() { return (Notification.permission = "granted"); }
    constructor(title, { body }) { shown.push({ title, body }); }
};
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (at) { tones.push(this.frequency.value); start.call(this, at); };
"""


async def noted_page(mesh: Mesh, browser: Looked) -> Page:
    context = await browser.browser.new_context(viewport={"width": 1500, "height": 900})
    await context.add_init_script(NOTED)
    page = await browser.open(mesh.url, context=context)
    await live(page)
    return page


async def alerts_of(page: Page, name: str) -> Locator:
    """The alerts of a list, in the page's first panel."""
    panel = page.locator(".list").first
    await panel.get_by_label("List", exact=True).select_option(f"list:{name}")
    await panel.get_by_role("button", name="Alerts").click()
    return page.get_by_role("dialog", name="Alerts")


async def first_said(page: Page, words: str) -> dict[str, Any]:
    """The first of what was spoken that matches, as soon as it is."""
    found = await page.wait_for_function(f"() => said.find(({{ text }}) => /{words}/.test(text))")
    spoken: dict[str, Any] = await found.json_value()
    return spoken


async def test_alerts_are_spoken_with_a_cooldown(mesh: Mesh, browser: Looked) -> None:
    page = await noted_page(mesh, browser)
    alerts = await alerts_of(page, "new_highs")
    await expect(rows_in(page.locator(".list").first).first).to_be_visible()
    await alerts.get_by_label("Speech").check()
    for kind in ("Enters", "Leaves", "New high"):
        await alerts.get_by_label(kind).check()
    await alerts.get_by_role("button", name="Test").click()
    await expect(alerts.get_by_role("status")).to_contain_text("Sent: sound, speech")
    for words in (" enters?( |$)", " leaves?( |$)", " new highs? in New highs"):
        await first_said(page, words)
    spoken: list[str] = await page.evaluate("said.slice(1).map(({ text }) => text)")
    for kind in (" enters", " leaves", " makes"):
        single = [text.split(kind)[0] for text in spoken if kind in text]
        assert len(single) == len(set(single)), spoken
    # The rule is the browser's: another window knows it, and does not say it, too.
    other = await browser.open(mesh.url, context=page.context)
    await live(other)
    await page.wait_for_function(f"() => said.length > {len(spoken) + 1}")
    assert await other.evaluate("said") == []
    assert browser.errors == []


async def test_a_halt_is_announced_and_its_row_is_marked(mesh: Mesh, browser: Looked) -> None:
    page = await noted_page(mesh, browser)
    alerts = await alerts_of(page, "halts")
    for choice in ("Speech", "Desktop notification", "Halt"):
        await alerts.get_by_label(choice, exact=True).check()
    await alerts.get_by_label("Volume").fill("0.25")
    # In quiet hours, which are this computer's, only the test is heard.
    hour = datetime.datetime.now()
    await alerts.get_by_label("from", exact=True).fill(f"{hour - datetime.timedelta(hours=1):%H:%M}")
    await alerts.get_by_label("to", exact=True).fill(f"{hour + datetime.timedelta(hours=1):%H:%M}")
    await alerts.get_by_label("Quiet hours").check()
    await alerts.get_by_role("button", name="Test").click()
    await expect(alerts.get_by_role("status")).to_contain_text("Sent: sound, speech, notification. Now are quiet hours")
    assert (await first_said(page, " is halted"))["volume"] == 0.25
    assert len(await page.evaluate("shown")) == 1
    assert await page.evaluate("tones") == [220, 220, 220]
    await alerts.get_by_label("Quiet hours").uncheck()
    await page.keyboard.press("Escape")
    await page.evaluate("() => { for (const list of [said, shown, tones]) list.length = 0; }")
    halt = halts_of(mesh)[0]
    await jump(mesh, halt.begins_ns + 5 * NS_PER_SECOND)
    row = rows_in(page.locator(".list").first).first
    symbol = await row.get_attribute("data-symbol")
    assert symbol
    spoken = await first_said(page, " is halted")
    assert spoken["text"].startswith(" ".join(symbol))
    assert (await page.evaluate("shown"))[0]["title"] == f"{symbol} halted"
    assert 220 in await page.evaluate("tones")
    await expect(row).to_have_class(re.compile("tl-halted"))
    await expect(row.locator(".tl-badge-halt")).to_have_attribute("title", re.compile("^Halted"))
    # Its panel says so, too, and so does the log.
    await row.click()
    await expect(page.locator(".halt[role=status]").first).to_contain_text("Halted since")
    await expect(page.get_by_role("region", name="Facts")).to_contain_text(re.compile("LULD up.*LULD down", re.S))
    entry = page.get_by_role("listbox", name="Log of Halts").locator(f"[data-symbol='{symbol}']").first
    await expect(entry).to_contain_text("in")
    assert browser.errors == []


async def test_a_halts_end_is_counted_down_and_announced(mesh: Mesh, browser: Looked) -> None:
    halt = halts_of(mesh)[0]
    await jump(mesh, halt.ends_ns - 2 * MINUTE_NS + 2 * NS_PER_SECOND)
    # The halts are read once a minute, whatever the market's pace is.
    await change_time(mesh, speed=0.5)
    page = await noted_page(mesh, browser)
    alerts = await alerts_of(page, "halts")
    for choice in ("Speech", "Resumes", "Leaves"):
        await alerts.get_by_label(choice, exact=True).check()
    await page.keyboard.press("Escape")
    symbol = await rows_in(page.locator(".list").first).first.get_attribute("data-symbol")
    halts = page.get_by_role("region", name="Halts of the day")
    line = halts.get_by_role("row").filter(has=page.get_by_role("button", name=str(symbol), exact=True))
    await expect(line).to_contain_text(re.compile(r"\d\d:\d\d:\d\d \(in \d:\d\d\)"), timeout=100_000)
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:
        row = (await client.get("/api/v1/scanner/lists/halts")).json()["rows"][0]
    resumes = datetime.datetime.fromisoformat(row["resumes_at"])
    assert resumes.timestamp() == halt.ends_ns / NS_PER_SECOND
    await expect(line).to_contain_text(f"{resumes - datetime.timedelta(hours=4):%H:%M:%S} (in ")
    reason = rows_in(page.locator(".list").first).first.locator(".tl-badge-halt")
    await expect(reason).to_have_text(row["halt_reason"])
    await change_time(mesh, speed=1)
    await jump(mesh, halt.ends_ns + 20 * NS_PER_SECOND)
    assert (await first_said(page, " resumes trading"))["text"].startswith(" ".join(str(symbol)))
    await first_said(page, " leaves Halts")
    await expect(halts).to_contain_text("Resumed today")
    await expect(line).to_have_class(re.compile("ended"))
    await expect(page.locator(".list").first).to_contain_text("No symbol is halted now.")
    assert browser.errors == []
