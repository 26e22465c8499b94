"""The dashboard with twelve lists beside the mesh on the same processors, at the busiest minutes of the day."""

import shutil
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.report import Report
from tests.support.browser import live, looked
from tests.support.dashboard import TWELVE_LISTS, PageLoad, check_rows, load_of, show_lists
from tests.support.javascript import CHROMIUM_NAMES
from tests.support.mesh import Mesh

# A frame at 60 Hz.
FRAME_MS: Final = 1000 / 60
# A 27-inch monitor.
VIEWPORT: Final = {"width": 2560, "height": 1440}


class Size(NamedTuple):
    parts: int
    part_seconds: int


FULL: Final = Size(parts=2, part_seconds=20)
LONG: Final = FULL._replace(parts=10, part_seconds=60)
SMALL: Final = Size(parts=2, part_seconds=3)


async def measure(report: Report, size: Size, mesh: Mesh) -> None:
    if not any(shutil.which(name) for name in CHROMIUM_NAMES):
        report.step("the dashboard is left out: there is no Chromium")
        return
    report.step(f"the dashboard with {len(TWELVE_LISTS)} lists")
    async with looked() as browser:
        context = await browser.browser.new_context(viewport=VIEWPORT)  # type: ignore[arg-type]
        await show_lists(context, TWELVE_LISTS, columns=4)
        page = await browser.open(mesh.url, context=context)
        await live(page)
        parts: list[PageLoad] = []
        for number in range(size.parts):
            parts.append(await load_of(mesh, page, size.part_seconds))
            report.step(f"part {number + 1} of {size.parts}: {summary(parts[-1])}")
        compared = await check_rows(mesh, page)
        if browser.errors:
            raise RuntimeError(f"expected no error in the console, was {browser.errors[0]}")
    symbols = mesh.environment["TRADEUL_SIM_SYMBOLS"]
    frames = np.array([ms for part in parts for ms in part.frames])
    seconds = sum(part.seconds for part in parts)
    busy = sum(ms for part in parts for ms in part.tasks) / frames.sum()
    report.add(
        {
            "dashboard_frame_p95_ms": {
                "value": round(float(np.percentile(frames, 95)), 1),
                "unit": f"ms between frames (a frame of 60/s is {FRAME_MS:.1f}), {size.parts * size.part_seconds} s,"
                f" {len(TWELVE_LISTS)} lists, {symbols} symbols; {compared:,} rows equal REST's at the end",
                "peers": {},
                "p50": round(float(np.percentile(frames, 50)), 1),
                "p99": round(float(np.percentile(frames, 99)), 1),
                "within_60_per_s_percent": within(frames, FRAME_MS),
                "within_20_per_s_percent": within(frames, 50),
                "long_tasks_percent": round(busy * 100, 2),
            },
            "dashboard_heap_mb": {
                "value": round(parts[-1].heap / 1e6, 1),
                "unit": "MB of the page's JavaScript after a collection, at the end",
                "peers": {},
                "parts": [round(part.heap / 1e6, 1) for part in parts],
                "elements": parts[-1].elements,
            },
            "dashboard_received_mb_per_s": {
                "value": round(sum(part.bytes for part in parts) / seconds / 1e6, 3),
                "unit": "MB of WebSocket messages written to the page per second, not compressed",
                "peers": {},
                "messages_per_s": round(sum(part.messages for part in parts) / seconds, 1),
            },
        }
    )


def within(frames: NDArray[np.float64], milliseconds: float) -> float:
    """Returns the percentage of frames that took no longer; browsers round to a tenth of a millisecond."""
    return round(float((frames <= milliseconds + 0.1).mean() * 100), 2)


def summary(part: PageLoad) -> str:
    """A part in one line."""
    p50, p95, p99 = np.percentile(part.frames, (50, 95, 99))
    return (
        f"frames {p50:.1f} / {p95:.1f} / {p99:.1f} ms (p50, p95, p99), {len(part.tasks)} tasks over 50 ms,"
        f" {part.bytes / part.seconds / 1e6:.2f} MB/s, {part.messages / part.seconds:.0f} messages/s,"
        f" {part.heap / 1e6:.1f} MB, {part.elements:,} elements"
    )
