"""The replay bar in a real Chromium: the simulator's market is paused, sped up and moved ahead, by mouse and keys."""

import datetime
import re

import httpx
import pytest
from playwright.async_api import expect

from tests.support.browser import Looked, live
from tests.support.mesh import Mesh

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


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
        # A minute further is on the slider; what is shown is New York's time, 4 hours behind UTC in March.
        now = datetime.datetime.fromisoformat(str(paused["now"])).replace(second=0, microsecond=0)
        target, further = (now + datetime.timedelta(hours=-4, minutes=minutes) for minutes in (3, 4))
        await page.keyboard.press("Alt+j")
        await page.keyboard.type(f"{target:%H:%M}")
        await page.keyboard.press("Enter")
        await expect(bar.locator("strong")).to_have_text(f"{target:%H:%M:00}")
        slider = bar.get_by_role("slider", name="Time of the day")
        await expect(slider).to_have_attribute("aria-valuetext", f"{target:%H:%M}")
        await slider.focus()
        await page.keyboard.press("ArrowRight")
        await expect(bar.locator("strong")).to_have_text(f"{further:%H:%M:00}")
        # Back it does not go: nothing is requested.
        await page.keyboard.press("ArrowLeft")
        await expect(bar.locator("strong")).to_have_text(f"{further:%H:%M:00}")
        assert ((await state())["paused"], (await state())["speed"]) == (True, 10)
        # The page shows the market of that time; the countdown stands still with it.
        left = further.replace(hour=16, minute=0) - further
        # Its clock is the newest event's, which is a little before.
        clock = re.compile(rf"({target:%H:%M}:5\d|{further:%H:%M}:\d\d) ET")
        await expect(page.locator("footer")).to_contain_text(clock)
        for where in (page.locator("footer"), page.locator(".session")):
            await expect(where).to_contain_text(str(left))
        # Keys work on the slider, too.
        await page.keyboard.press("Alt+p")
        await expect(bar.get_by_role("button", name="Pause")).to_be_visible()
        assert (await state())["paused"] is False
        # The sessions of the day are shaded.
        await expect(bar.locator(".shades span")).to_have_count(3)
    assert browser.errors == []
