"""A gateway that requires keys: the page asks for one, and streams with it."""

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from playwright.async_api import expect

from tests.support.browser import Looked, live, rows_in
from tests.support.gateway import Gateway, gateway_settings
from tests.support.mesh import TRADEUL, Mesh

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]
SETTINGS = {
    "TRADEUL_SIM_SYMBOLS": "100", "TRADEUL_SIM_START": "2026-03-10T09:35:00", "TRADEUL_KEYS": "required",
}  # fmt: skip


async def test_a_page_asks_for_the_key_that_is_required(browser: Looked, tmp_path: Path) -> None:
    async with Gateway(gateway_settings(tmp_path, {"TRADEUL_KEYS": "required"})) as gateway:
        page = await browser.open(f"http://{gateway.address}/")
        dialog = page.get_by_role("dialog", name="API key")
        await expect(dialog).to_contain_text("This gateway requires a key")
        await page.keyboard.press("Escape")
        await expect(dialog).to_be_visible()
        # Nothing behind this gateway can check it; the page says so, and does not ask again.
        await dialog.get_by_label("Key").fill("tradeul_wrong")
        await dialog.get_by_role("button", name="Use this key").click()
        await expect(dialog).not_to_be_visible()
        assert await page.evaluate("() => localStorage['tradeul.key']") == "tradeul_wrong"


async def keys(mesh: Mesh, *arguments: str) -> str:
    """The output of `tradeul keys`."""
    run = await asyncio.create_subprocess_exec(
        *TRADEUL, "keys", *arguments,
        env=mesh.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output, errors = await run.communicate()
    assert run.returncode == 0, errors
    return output.decode().strip()


def logs(folder: Path) -> str:
    """All that the mesh has logged."""
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*.log"))


async def test_a_page_with_a_key_streams_by_a_ticket(browser: Looked, tmp_path: Path) -> None:
    async with Mesh(tmp_path, SETTINGS) as mesh:
        key = await keys(mesh, "create", "page", "--right", "read")
        async with httpx.AsyncClient(base_url=mesh.url, headers={"x-api-key": key}, timeout=10) as client:
            async with asyncio.timeout(90):
                # A new key is known within a second or two.
                while not (await client.get("/api/v1/scanner/lists/gappers_up")).json().get("rows"):
                    await asyncio.sleep(0.2)
        context = await browser.browser.new_context(
            viewport={"width": 1500, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
        )
        page = await browser.open(mesh.url, context=context)
        dialog = page.get_by_role("dialog", name="API key")
        await dialog.get_by_label("Key").fill("tradeul_wrong")
        await dialog.get_by_role("button", name="Use this key").click()
        await expect(dialog.get_by_role("alert")).to_have_text("This key is not valid here.")
        await dialog.get_by_label("Key").fill(key)
        await dialog.get_by_role("button", name="Use this key").click()
        await live(page)
        await expect(rows_in(page).first).to_be_visible()
        # Requests carry it, too: the chart's minutes, breadth.
        await expect(page.get_by_role("img", name=re.compile("^Chart of .* newest"))).to_be_visible()
        await expect(page.locator(".breadth .up").first).to_be_visible()
        # The browser keeps it; a call for others names a variable instead.
        await page.reload()
        await live(page)
        panel = page.locator(".list").first
        await expect(rows_in(panel).first).to_be_visible()
        await panel.get_by_role("button", name="Export").click()
        await page.get_by_role("button", name="Copy curl").click()
        copied: str = await page.evaluate("navigator.clipboard.readText()")
        assert '-H "x-api-key: $TRADEUL_KEY"' in copied
        assert key not in copied
        # The market's time is not this key's to change.
        await page.get_by_role("region", name="Replay").get_by_role("button", name="Pause").click()
        await expect(page.get_by_role("region", name="Replay").get_by_role("alert")).to_contain_text("admin")
        await keys(mesh, "revoke", "page")
        await expect(dialog.get_by_role("alert")).to_have_text("This key is not valid here.")
        written = await asyncio.to_thread(logs, tmp_path)
        assert "/ws/scanner" in written
        assert key not in written
