"""The dashboard's table beside Perspective's and one that is written as a whole, in one page of a real Chromium."""

import http.server
import os
import shutil
import statistics
import subprocess
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from playwright.sync_api import Page, sync_playwright

from bench.report import Report

SOURCES: Final = Path(__file__).parent.parent / "gateway" / "web" / "bench"
SITE: Final = Path("build/table-bench")
CHROMIUM: Final = ("chromium", "chromium-browser", "google-chrome")
INSTALL: Final = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")


class Size(NamedTuple):
    """How much is measured: half of the deltas one by one, half of them in bursts of 100."""

    rows: int
    deltas: int
    turns: int


FULL: Final = Size(rows=100, deltas=400, turns=3)
LONG: Final = FULL._replace(deltas=1000)
SMALL: Final = Size(rows=100, deltas=40, turns=1)


def measure(report: Report, size: Size) -> None:
    chromium = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    if missing := [name for name in ("node", "npm") if shutil.which(name) is None] + ["Chromium"] * (chromium is None):
        report.step(f"the table is left out: there is no {', '.join(missing)}")
        return
    report.step("building the page with its peers; their packages are 74 MB, once")
    _build()
    results: dict[str, list[dict[str, float]]] = defaultdict(list)
    with _served() as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        report.step(f"{size.turns} times {size.deltas} deltas of {size.rows} rows in each table, in turn")
        for result in _run(page, size):
            results[str(result["name"])].append(result)
        browser.close()
    for figure, key in (("table_deltas_per_s", "perSecond"), ("table_burst_deltas_per_s", "burstPerSecond")):
        medians = {name: round(statistics.median(each[key] for each in turns)) for name, turns in results.items()}
        ours = medians.pop("tradeul")
        unit = "deltas/s, each shown" if key == "perSecond" else "deltas/s, shown after 100"
        report.add({figure: {"value": ours, "unit": unit, "peers": medians}})


def _run(page: Page, size: Size) -> list[dict[str, Any]]:
    """Returns each turn's figures; the page has compared what each table shows with what was sent."""
    page.wait_for_function("() => 'run' in window")
    results: list[dict[str, Any]] = page.evaluate(
        "([rows, deltas, turns]) => window.run(rows, deltas, turns)", list(size)
    )
    return results


def _build() -> None:
    if not (SOURCES / "node_modules").exists():
        environment = os.environ | {"NODE_ENV": "development"}
        subprocess.run(INSTALL, cwd=SOURCES, env=environment, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(("npm", "run", "--silent", "build", "--", "--logLevel", "error"), cwd=SOURCES, check=True)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Writes no line for each file."""


@contextmanager
def _served() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(SITE)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
