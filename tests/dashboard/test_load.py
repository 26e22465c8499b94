"""A page full of lists while the market is busiest; `make bench PARTS=dashboard` measures the same for minutes."""

import pytest
from playwright.async_api import expect

from tests.support.browser import Looked, live, rows_in
from tests.support.dashboard import TWELVE_LISTS, check_rows, load_of, show_lists
from tests.support.mesh import Mesh

# In the rows of all lists: the cells, and the elements that clip.
CELLS = "() => document.querySelectorAll('.tl-row:not(.tl-unused) .tl-cell').length"
CLIPPING = """() => [...document.querySelectorAll(".tl-row:not(.tl-unused), .tl-row:not(.tl-unused) *")]
    .filter((each) => getComputedStyle(each).overflowX !== "visible").length"""

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]


async def test_twelve_lists_stay_exact_and_add_nothing_to_the_document(mesh: Mesh, browser: Looked) -> None:
    context = await browser.browser.new_context(viewport={"width": 2560, "height": 1440})
    await show_lists(context, TWELVE_LISTS, columns=4)
    page = await browser.open(mesh.url, context=context)
    await live(page)
    await expect(page.locator(".list")).to_have_count(12)
    await expect(rows_in(page).first).to_be_visible()
    first = await load_of(mesh, page, 5)
    second = await load_of(mesh, page, 10)
    assert second.messages > 10 and second.bytes > 1000
    assert len(first.frames) > 1 and len(second.frames) > 1
    # Rows and log entries come and go; what has gone is not kept.
    assert second.elements < len(TWELVE_LISTS) * 1000
    # Each element that clips costs time in every frame, so few do.
    assert await page.evaluate(CELLS) > 500
    assert await page.evaluate(CLIPPING) < 50
    assert await check_rows(mesh, page) >= 60
    assert browser.errors == []
