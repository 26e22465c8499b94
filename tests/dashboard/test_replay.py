"""The replay bar in a real Chromium: the simulator's market is paused, sped up and moved ahead, by mouse and keys."""

import re

import httpx
import pytest
from playwright.async_api import expect

from tests.support.browser import Looked, live
from tests.support.mesh import Mesh

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]


async def test_the_market_is_paused_sped_up_and_moved_ahead(mesh: Mesh, browser: Looked) -> None:
    page = await browser.open(mesh.url)
    await live(page)
    bar = page.get_by_role("region", name="Replay")
    await expect(bar.get_by_role("button", name="Pause")).to_be_visible()
    async with httpx.AsyncClient(base_url=mesh.url, timeout=10) as client:

        async def state() -> dict[str, object]:
            return dict((await client.get("/api/v1/replay")).json())

        await bar.get_by_role("button", name="Pause").click()
        await expect(bar.get_by_role("status")).to_have_text("Paused")
        paused = await state()
        assert paused["paused"] is True
        time = str(paused["now"])[11:19]
        shown = f"{int(time[:2]) - 4:02}{time[2:]}"
        await expect(bar.locator("strong")).to_have_text(shown)
        # By keys: faster, slower, to a later time, and on.
        await page.keyboard.press("Alt+.")
        await expect(bar.get_by_label("Speed", exact=True)).to_have_value("2")
        await page.keyboard.press("Alt+,")
        await expect(bar.get_by_label("Speed", exact=True)).to_have_value("1")
        await bar.get_by_label("Speed", exact=True).select_option("10")
        await page.keyboard.press("Alt+j")
        await page.keyboard.type("09:45")
        await page.keyboard.press("Enter")
        await expect(bar.locator("strong")).to_have_text("09:45:00")
        # On the slider, a minute further.
        slider = bar.get_by_role("slider", name="Time of the day")
        await expect(slider).to_have_attribute("aria-valuetext", "09:45")
        await slider.focus()
        await page.keyboard.press("ArrowRight")
        await expect(bar.locator("strong")).to_have_text("09:46:00")
        # Back it does not go: nothing is requested.
        await page.keyboard.press("ArrowLeft")
        await expect(bar.locator("strong")).to_have_text("09:46:00")
        assert ((await state())["paused"], (await state())["speed"]) == (True, 10)
        # The page shows the market of that time.
        await expect(page.locator("footer")).to_contain_text(re.compile(r"09:4[56]:\d\d ET"))
        # Keys work on the slider, too.
        await page.keyboard.press("Alt+p")
        await expect(bar.get_by_role("button", name="Pause")).to_be_visible()
        assert (await state())["paused"] is False
        # The sessions of the day are shaded.
        await expect(bar.locator(".shades span")).to_have_count(3)
    assert browser.errors == []
