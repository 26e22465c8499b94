"""Takes the dashboard's pictures for the docs: `python -m tools.screenshots [URL]`, of a running mesh.

Writes docs/images/dashboard-dark.png, -light.png and -narrow.png. Needs playwright, and Chromium in the PATH. A mesh
whose simulated market has just opened shows the most: TRADEUL_SIM_START=2026-03-10T09:25:00.
"""

import shutil
import sys
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, sync_playwright

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "images"
SHOTS: tuple[tuple[str, Literal["dark", "light"], dict[str, Any]], ...] = (
    ("dark", "dark", {"viewport": {"width": 1500, "height": 900}}),
    ("light", "light", {"viewport": {"width": 1500, "height": 900}}),
    ("narrow", "dark", {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}),
)
# The flashes of the first rows are over, and the chart has its bars.
SETTLED_MS = 8_000
FLAGS = ("--no-sandbox", "--disable-gpu")


def take(browser: Browser, url: str, name: str, scheme: Literal["dark", "light"], options: dict[str, Any]) -> Path:
    """Returns the path of the new picture."""
    page = browser.new_page(color_scheme=scheme, **options)
    page.goto(url)
    page.wait_for_selector("footer[data-state=open]", timeout=60_000)
    page.wait_for_selector("[role=row][data-symbol]", timeout=60_000)
    page.wait_for_timeout(SETTLED_MS)
    path = FOLDER / f"dashboard-{name}.png"
    page.screenshot(path=path)
    page.close()
    return path


def main(url: str) -> None:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("expected chromium or google-chrome in the PATH, was neither")
    FOLDER.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        for name, scheme, options in SHOTS:
            path = take(browser, url, name, scheme, options)
            sys.stdout.write(f"{path.relative_to(FOLDER.parents[1])}: {path.stat().st_size} bytes\n")
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://localhost:8000/")
